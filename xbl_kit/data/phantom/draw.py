"""Chest-radiograph phantom: images whose disease and whose spurious signs are both known."""

import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from torch import Tensor
from tqdm.auto import tqdm

from xbl_kit.data.phantom.anatomy import Mask, cage_width, draw
from xbl_kit.data.phantom.geometry import Body, Field, ellipse, ramp, wave

CLASSES = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")
FACTORS = {"age": ("adult", "child"), "sex": ("female", "male"), "site": ("A", "B")}
LEVELS = FACTORS | {"line": ("none", "line")}  # a catheter, drawn only where it is asked for
# The largest number that a column may have, where that is not 1.
TOP = {"label": len(CLASSES) - 1, "patient": 2**63 - 1}

# How patients differ: middle and half-range, in patient coordinates (the image spans -1..1; v runs
# downwards), radians, or in units of the sign itself. The order is the order of the random draws.
VARIATION = {
    "pose": {"shift_x": (0.0, 0.04), "shift_y": (0.04, 0.04), "tilt": (0.0, 0.06)},
    "film": {"zoom": (0.98, 0.05), "exposure": (0.0, 1.0), "lucency": (0.0, 1.0)},
    "trunk": {"trunk_width": (0.67, 0.03), "neck_width": (0.20, 0.03)},
    "shoulders": {"shoulder_width": (0.79, 0.03), "shoulder_height": (-0.50, 0.04)},
    "girdle": {"shoulder_slope": (0.35, 0.05), "shoulder_tilt": (0.0, 0.04)},
    "arms": {"arm_width": (0.165, 0.02), "abduction": (0.25, 0.10), "arm_asymmetry": (0.0, 1.0)},
    "humeri": {"head_radius": (0.12, 0.006)},
    "lungs": {"cage_width": (0.58, 0.03), "apex": (-0.64, 0.04)},
    "diaphragm": {"dome": (0.46, 0.07), "dome_tilt": (0.03, 0.02)},
    "heart": {"heart_width": (0.29, 0.04), "arch": (-0.22, 0.04)},
    "ribs": {"rib_phase": (0.0, 0.07), "rib_slope": (0.75, 0.25), "rib_spacing": (0.14, 0.010)},
    "soft": {"vessels": (0.0, 0.5), "gas": (0.5, 0.5), "breast": (0.26, 0.06)},
    "line": {"line_entry": (0.40, 0.08), "line_bend": (-0.36, 0.06), "line_tip": (0.12, 0.08)},
}
# What a child's body (times `proportions`) and a man's body add to the middle values.
CHILD = {"heart_width": 0.04, "rib_slope": -0.25, "arm_width": -0.02, "trunk_width": -0.02}
MALE = {"shoulder_width": 0.025, "arm_width": 0.01}
# Attenuation that the signs add at severity 1: soft tissue is about 0.7, an aerated lung 0.2.
GROUND_GLASS, CONSOLIDATION, RETICULATION = 0.162, 0.432, 0.0387

LETTER_L = "#... #... #... #... #... #... ####"
LETTER_R = "....... .####.. .#...#. .#...#. .####.. .#.#... .#..#.. .#...#. ......."
# Contrast bends the film's response; grain is the full range of its noise; a marker is a letter,
# the place of its upper left corner (fractions of height and width), its grey and the grey of its
# label.
SCANNERS = (
    {"contrast": 0.05, "grain": 0.04, "marker": (LETTER_L, 0.03, 0.92, 245, None)},
    {"contrast": -0.30, "grain": 0.06, "marker": (LETTER_R, 0.885, 0.02, 20, 235)},
)

Column = Tensor | np.ndarray | np.generic | Sequence | float | int  # (n,), or one for all
Image = UInt8[np.ndarray, "h w"]


class Phantoms(NamedTuple):
    """Images (white is dense) with the masks of the lungs and of both humeral heads."""

    image: UInt8[np.ndarray, "n size size"]
    lungs: Bool[np.ndarray, "n size size"]
    humerus: Bool[np.ndarray, "n size size"]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How phantoms are drawn, whoever the patients are.

    `severity` is the strength of the disease signs; `proportions` says how much age changes the
    body beyond its growth plates. Raises ValueError for a value below its least.
    """

    seed: int = 0
    size: int = 128  # pixels
    severity: float | int = 1.0
    proportions: float | int = 0.3
    threads: int | None = None  # by default as many as are of use

    def __post_init__(self) -> None:
        least = {"seed": 0, "size": 32, "severity": 0, "proportions": 0, "threads": 1}
        for name, limit in least.items():
            value = getattr(self, name)
            if value is not None and not value >= limit:  # a NaN is not
                raise ValueError(f"{name} is {value}, expected at least {limit}")


def make_phantoms(
    label: Column,
    *,
    age: Column,
    sex: Column,
    site: Column,
    patient: Column | None = None,
    growth_plate: Column | None = None,
    line: Column = 0,
    **drawing: float | int | None,
) -> Phantoms:
    """Draw chest radiographs (n, size, size) with lung and humerus masks.

    `label` (see CLASSES), `age`, `sex`, `site` (see LEVELS), `patient` (default 0..n-1),
    `growth_plate` (0 fused, 1 open; default: as `age`) and `line` (see LEVELS) are integers or
    integer sequences (n,); `drawing` are options of `Drawing`.
    An image depends on its own row, `seed`, `size`, `severity` and `proportions` and on nothing
    else: flip one factor of a patient and only what that factor means changes, bit for bit.
    Raises ValueError for unequal lengths, unknown levels or a value that `Drawing` refuses.

    >>> who = dict(label=[0, 0], sex=0, site=0, patient=7, size=64)
    >>> drawn = make_phantoms(**who, age=[0, 0], growth_plate=[0, 1])  # a counterfactual pair
    >>> changed = drawn.image[0] != drawn.image[1]
    >>> bool(changed.any()), bool((changed & drawn.lungs[0]).any())
    (True, False)
    """
    how = Drawing(**drawing)
    plate = age if growth_plate is None else growth_plate
    rows = _rows(
        label=label, age=age, sex=sex, site=site, patient=patient, growth_plate=plate, line=line
    )
    shape = (len(rows), how.size, how.size)
    out = Phantoms(np.empty(shape, np.uint8), np.empty(shape, bool), np.empty(shape, bool))
    # On small images, passing Python's lock around costs more than threads win.
    with ThreadPoolExecutor(how.threads or (os.cpu_count() if how.size >= 256 else 1)) as pool:
        try:
            each = pool.map(lambda row: _patient(row, how), rows)
            for i, drawn in enumerate(tqdm(each, "drawing", len(rows), disable=None, delay=5)):
                out.image[i], out.lungs[i], out.humerus[i] = drawn
        finally:
            pool.shutdown(cancel_futures=True)  # who is interrupted does not wait for the rest
    return out


def _rows(**given: Column | None) -> list[dict[str, int]]:
    """Check the columns, which are scalars or of one length, and give a record a patient."""
    columns = {name: np.asarray(x) for name, x in given.items() if x is not None}
    lengths = {name: len(x) for name, x in columns.items() if x.ndim}
    n = max(lengths.values(), default=1)
    if set(lengths.values()) - {n}:
        raise ValueError(f"columns have lengths {lengths}, expected one length (or scalars)")
    for name, x in columns.items():
        top = TOP.get(name, 1)
        if x.size and (x.dtype.kind not in "biu" or x.min() < 0 or x.max() > top):
            raise ValueError(f"{name} is {x.tolist()!r:.60}, expected integers from 0 to {top}")
    columns.setdefault("patient", np.arange(n))
    values = [np.broadcast_to(x, n).tolist() for x in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def _patient(row: Mapping[str, int], how: Drawing) -> tuple[Image, Mask, Mask]:
    """One patient: every draw is made, used or not, so that factors can be flipped one by one."""
    rng = np.random.Generator(np.random.Philox(key=[how.seed, row["patient"]]))
    ranges = {name: each for part in VARIATION.values() for name, each in part.items()}
    course = len(VARIATION["line"])  # drawn last, since it was added last
    draws = rng.uniform(-1, 1, len(ranges) - course).tolist()
    lesions = rng.uniform(-1, 1, (8, 4)).tolist()
    noise = rng.random((how.size, how.size), dtype=np.float32) - 0.5
    draws += rng.uniform(-1, 1, course).tolist()
    p, aged = dict(row), row["age"] * how.proportions
    for (name, (middle, half_range)), x in zip(ranges.items(), draws, strict=True):
        p[name] = middle + half_range * x
        p[name] += CHILD.get(name, 0) * aged + MALE.get(name, 0) * row["sex"]
    sign = SIGNS.get(CLASSES[row["label"]])
    disease = sign and (lambda u, s, v: how.severity * sign(u, s, v, lesions, p))
    density, lungs, humerus = draw(p, how.size, disease)
    return _expose(density, noise, p["exposure"], SCANNERS[row["site"]]), lungs, humerus


def _expose(density: Field, noise: Field, exposure: float, scanner: Mapping) -> Image:
    """Film response (dense is white), the scanner's contrast, noise and burnt-in marker."""
    image = 1 - np.exp((-1.8 - 0.2 * exposure) * density)
    image += scanner["contrast"] * image * (1 - image)
    image += scanner["grain"] * noise
    image = np.clip(250 * image + 6, 0, 255).astype(np.uint8)
    _burn_in(image, *scanner["marker"])
    return image


def _burn_in(image: Image, form: str, top: float, left: float, ink: int, paper: int | None) -> None:
    """Write a letter over the image, at least 5 x 4 pixels large."""
    letter = np.array(form.split())[:, None].view("U1") == "#"
    size, (rows, columns) = len(image), letter.shape
    height, width = max(5, round(0.011 * rows * size)), max(4, round(0.011 * columns * size))
    row = ((np.arange(height) + 0.5) * rows / height).astype(int)
    column = ((np.arange(width) + 0.5) * columns / width).astype(int)
    y, x = min(round(top * size), size - height), min(round(left * size), size - width)
    patch = image[y : y + height, x : x + width]
    patch[:] = np.where(letter[row][:, column], ink, patch if paper is None else paper)


def _ground_glass(u: Field, s: Field, v: Field, lesions: list[list[float]], p: Body) -> Field:
    """COVID: bilateral soft patches in the periphery of the lower zones."""
    shade = np.zeros_like(u)
    for side, (out, down, radius, aspect) in zip((-1, 1) * 4, lesions, strict=True):
        centre = side * (p["cage_width"] - 0.12 + 0.06 * out), 0.16 + 0.26 * down
        size = 0.14 + 0.03 * radius
        patch = ellipse(u, v, centre, (size, size * (1.2 + 0.3 * aspect))) * (2 / size)
        shade += np.square(ramp(patch))
    return GROUND_GLASS * shade / (0.5 + shade)


def _consolidation(u: Field, s: Field, v: Field, lesions: list[list[float]], p: Body) -> Field:
    """Lung opacity: one dense focus with an irregular border, in one lung."""
    (out, down, radius, aspect), (side, turn, ripple, lobe), *_ = lesions
    height = -0.08 + 0.33 * down
    centre = (1 if side > 0 else -1) * (0.7 * cage_width(height, p) + 0.07 * out), height
    size = 0.19 + 0.03 * radius
    focus = ellipse(u, v, centre, (size, size * (1 + 0.25 * aspect)), turn) * (2 / size)
    border = np.sin(25 * v + 9 * u + 3 * ripple) + np.sin(23 * u - 14 * v + 3 * lobe)
    return CONSOLIDATION * ramp(1.3 * focus + 0.12 * border)


def _reticulation(u: Field, s: Field, v: Field, lesions: list[list[float]], p: Body) -> Field:
    """Viral pneumonia: a diffuse net of interstitial streaks in both lungs."""
    phase = [row[0] for row in lesions]
    bend = 0.35 * np.sin(13 * u + 3 * phase[0]) + 0.35 * np.sin(11 * v + 3 * phase[1])
    shade = np.zeros_like(u)
    for turn, shift in zip((0.3, 1.35, 2.4), phase[2:5], strict=True):
        across = math.cos(turn) * u + math.sin(turn) * v
        shade += ramp(1 - 4 * wave(across * (1 / 0.10) + bend + shift))
    return RETICULATION * shade * ramp(1.15 - s)


SIGNS = {"COVID": _ground_glass, "Lung_Opacity": _consolidation, "Viral Pneumonia": _reticulation}
