"""Chest-radiograph phantom: images whose disease and whose spurious signs are both known."""

import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from xbl_kit.data.phantom.anatomy import cage_width, draw
from xbl_kit.data.phantom.geometry import ellipse, periodic

CLASSES = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")
FACTORS = {"age": ("adult", "child"), "sex": ("female", "male"), "site": ("A", "B")}
LINE = ("none", "line")  # a central venous catheter, which is drawn only where it is asked for

# How patients differ: middle and half-range, in patient coordinates (the image spans -1..1; v runs
# downwards), radians, or in units of the sign itself. The order is the order of the random draws.
VARIATION = {
    "shift_x": (0.0, 0.04),
    "shift_y": (0.04, 0.04),
    "tilt": (0.0, 0.06),
    "zoom": (0.98, 0.05),
    "exposure": (0.0, 1.0),
    "lucency": (0.0, 1.0),
    "trunk_width": (0.67, 0.03),
    "neck_width": (0.20, 0.03),
    "shoulder_width": (0.79, 0.03),
    "shoulder_height": (-0.50, 0.04),
    "shoulder_slope": (0.35, 0.05),
    "shoulder_tilt": (0.0, 0.04),
    "arm_width": (0.165, 0.02),
    "abduction": (0.25, 0.10),
    "arm_asymmetry": (0.0, 1.0),
    "head_radius": (0.12, 0.006),
    "cage_width": (0.58, 0.03),
    "apex": (-0.64, 0.04),
    "dome": (0.46, 0.07),
    "dome_tilt": (0.03, 0.02),
    "heart_width": (0.29, 0.04),
    "arch": (-0.22, 0.04),
    "rib_phase": (0.0, 0.07),
    "rib_slope": (0.75, 0.25),
    "rib_spacing": (0.14, 0.010),
    "vessels": (0.0, 0.5),
    "gas": (0.5, 0.5),
    "breast": (0.26, 0.06),
}
# The same of the catheter. These draws come last, since they were added last.
LINE_VARIATION = {"line_entry": (0.40, 0.08), "line_bend": (-0.36, 0.06), "line_tip": (0.12, 0.08)}
# What a child's body (times `proportions`) and a man's body add to the middle values.
CHILD = {"heart_width": 0.04, "rib_slope": -0.25, "arm_width": -0.02, "trunk_width": -0.02}
MALE = {"shoulder_width": 0.025, "arm_width": 0.01}
LESIONS = (8, 4)  # random draws that place the signs of disease
# Attenuation that the signs add at severity 1: soft tissue is about 0.7, an aerated lung 0.2.
GROUND_GLASS, CONSOLIDATION, RETICULATION = 0.162, 0.432, 0.0387

LETTER_L = np.array([[1, 0, 0, 0]] * 6 + [[1, 1, 1, 1]], bool)
LETTER_R = np.array(
    [
        [c == "#" for c in row]
        for row in (
            ".......",
            ".####..",
            ".#...#.",
            ".#...#.",
            ".####..",
            ".#.#...",
            ".#..#..",
            ".#...#.",
            ".......",
        )
    ]
)
# Contrast bends the film's response; noise is its full range; a marker is a letter, the place of
# its upper left corner (fractions of height and width), its grey and the grey of its label.
SCANNERS = (
    {"contrast": 0.05, "noise": 0.04, "marker": (LETTER_L, 0.03, 0.92, 245, None)},
    {"contrast": -0.30, "noise": 0.06, "marker": (LETTER_R, 0.885, 0.02, 20, 235)},
)


class Phantoms(NamedTuple):
    image: np.ndarray  # (n, size, size) uint8, white is dense
    lungs: np.ndarray  # (n, size, size) bool
    humerus: np.ndarray  # (n, size, size) bool: both humeral heads with their growth plates


def make_phantoms(
    label,
    *,
    age,
    sex,
    site,
    patient=None,
    growth_plate=None,
    line=0,
    seed=0,
    size=128,
    severity=1.0,
    proportions=0.3,
    threads=None,
):
    """Draw chest radiographs (n, size, size) with lung and humerus masks.

    `label` (see CLASSES), `age`, `sex`, `site` (see FACTORS), `patient` (default 0..n-1),
    `growth_plate` (0 fused, 1 open; default: as `age`) and `line` (see LINE) are integers or
    integer sequences (n,).
    An image depends on its own row, `seed`, `size`, `severity` (strength of the disease signs)
    and `proportions` (how much age changes the body beyond its growth plates) and on nothing
    else: flip one factor of a patient and only what that factor means changes, bit for bit.
    Raises ValueError for unequal lengths, unknown levels, size < 32 or a negative severity.
    """
    rows = _rows(label, age, sex, site, patient, growth_plate, line)
    if threads is None:  # on small images, passing Python's lock around costs more than it wins
        threads = os.cpu_count() if size >= 256 else 1
    _check(seed=seed, size=size, severity=severity, proportions=proportions, threads=threads)
    n = len(rows)
    out = Phantoms(
        np.empty((n, size, size), np.uint8),
        np.empty((n, size, size), bool),
        np.empty((n, size, size), bool),
    )

    def fill(i):
        out.image[i], out.lungs[i], out.humerus[i] = _patient(
            *rows[i].tolist(), seed=seed, size=size, severity=severity, proportions=proportions
        )

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, range(n)))
    return out


def _patient(label, age, sex, site, patient, plate, line, *, seed, size, severity, proportions):
    """One patient: every draw is made, used or not, so that factors can be flipped one by one."""
    rng = np.random.Generator(np.random.Philox(key=[seed, patient]))
    draws = rng.uniform(-1, 1, len(VARIATION)).tolist()
    lesions = rng.uniform(-1, 1, LESIONS)
    noise = rng.random((size, size), dtype=np.float32) - 0.5
    course = rng.uniform(-1, 1, len(LINE_VARIATION)).tolist()
    p = {}
    for (name, (middle, half_range)), x in zip(VARIATION.items(), draws, strict=True):
        p[name] = middle + half_range * x
        p[name] += CHILD.get(name, 0) * age * proportions + MALE.get(name, 0) * sex
    for (name, (middle, half_range)), x in zip(LINE_VARIATION.items(), course, strict=True):
        p[name] = middle + half_range * x
    sign = SIGNS.get(CLASSES[label])
    disease = sign and (lambda u, s, v: severity * sign(u, s, v, lesions.tolist(), p))
    signs = {"female": sex == 0, "open_plate": plate == 1, "disease": disease, "line": line == 1}
    density, lungs, humerus = draw(p, size, **signs)
    return _expose(density, noise, SCANNERS[site], p["exposure"]), lungs, humerus


def _expose(density, noise, scanner, exposure):
    """Film response (dense is white), the scanner's contrast, noise and burnt-in marker."""
    image = 1 - np.exp((-1.8 - 0.2 * exposure) * density)
    image += scanner["contrast"] * image * (1 - image)
    image += scanner["noise"] * noise
    image = np.clip(250 * image + 6, 0, 255).astype(np.uint8)
    _burn_in(image, *scanner["marker"])
    return image


def _burn_in(image, letter, top, left, ink, paper):
    """Write a letter over the image, at least 5 x 4 pixels large."""
    size, (rows, columns) = len(image), letter.shape
    height, width = max(5, round(0.011 * rows * size)), max(4, round(0.011 * columns * size))
    row = ((np.arange(height) + 0.5) * rows / height).astype(int)
    column = ((np.arange(width) + 0.5) * columns / width).astype(int)
    on = letter[row][:, column]
    y, x = min(round(top * size), size - height), min(round(left * size), size - width)
    patch = image[y : y + height, x : x + width]
    patch[on] = ink
    if paper is not None:
        patch[~on] = paper


def _ground_glass(u, s, v, lesions, p):
    """COVID: bilateral soft patches in the periphery of the lower zones."""
    shade = np.zeros_like(u)
    for number, (out, down, radius, aspect) in enumerate(lesions):
        side = 1 if number % 2 else -1
        centre = side * (p["cage_width"] - 0.12 + 0.06 * out), 0.16 + 0.26 * down
        size = 0.14 + 0.03 * radius
        patch = ellipse(u, v, centre, (size, size * (1.2 + 0.3 * aspect))) * (2 / size)
        shade += np.square(np.clip(patch, 0, 1))
    return GROUND_GLASS * shade / (0.5 + shade)


def _consolidation(u, s, v, lesions, p):
    """Lung opacity: one dense focus with an irregular border, in one lung."""
    (out, down, radius, aspect), (side, turn, wave, lobe), *_ = lesions
    height = -0.08 + 0.33 * down
    centre = (1 if side > 0 else -1) * (0.7 * cage_width(height, p) + 0.07 * out), height
    size = 0.19 + 0.03 * radius
    focus = ellipse(u, v, centre, (size, size * (1 + 0.25 * aspect)), turn) * (2 / size)
    border = np.sin(25 * v + 9 * u + 3 * wave) + np.sin(23 * u - 14 * v + 3 * lobe)
    return CONSOLIDATION * np.clip(1.3 * focus + 0.12 * border, 0, 1)


def _reticulation(u, s, v, lesions, p):
    """Viral pneumonia: a diffuse net of interstitial streaks in both lungs."""
    phase = [row[0] for row in lesions]
    bend = 0.35 * np.sin(13 * u + 3 * phase[0]) + 0.35 * np.sin(11 * v + 3 * phase[1])
    shade = np.zeros_like(u)
    for turn, shift in zip((0.3, 1.35, 2.4), phase[2:5], strict=True):
        across = math.cos(turn) * u + math.sin(turn) * v
        shade += np.clip(1 - 4 * periodic(across * (1 / 0.10) + bend + shift), 0, 1)
    return RETICULATION * shade * np.clip(1.15 - s, 0, 1)


SIGNS = {"COVID": _ground_glass, "Lung_Opacity": _consolidation, "Viral Pneumonia": _reticulation}


def _rows(label, age, sex, site, patient, growth_plate, line):
    """Check the columns and stack them as integers (n, 7)."""
    levels = {
        "label": len(CLASSES),
        "age": 2,
        "sex": 2,
        "site": 2,
        "patient": None,
        "growth_plate": 2,
        "line": 2,
    }
    given = {
        "label": label,
        "age": age,
        "sex": sex,
        "site": site,
        "patient": patient,
        "growth_plate": age if growth_plate is None else growth_plate,
        "line": line,
    }
    columns = {k: np.asarray(x) for k, x in given.items() if x is not None}
    lengths = {k: len(x) for k, x in columns.items() if x.ndim}
    n = max(lengths.values(), default=1)
    if any(length != n for length in lengths.values()):
        raise ValueError(f"columns have lengths {lengths}, expected one length (or scalars)")
    columns.setdefault("patient", np.arange(n))
    for name, x in columns.items():
        top = levels[name]
        if x.size and (x.dtype.kind not in "biu" or x.min() < 0 or (top and x.max() >= top)):
            raise ValueError(
                f"{name} is {x.tolist()!r:.60}, expected integers from 0"
                + (f" to {top - 1}" if top else "")
            )
    return np.stack([np.broadcast_to(columns[k], n) for k in levels], axis=1).astype(np.int64)


def _check(**given):
    """Each value must be a number of at least its limit (a NaN is not)."""
    least = {"seed": 0, "size": 32, "severity": 0, "proportions": 0, "threads": 1}
    for name, value in given.items():
        if not value >= least[name]:
            raise ValueError(f"{name} is {value}, expected at least {least[name]}")
