"""Draw the chest of one phantom patient, organ by organ, as X-ray attenuation.

Patient coordinates: `u` to the right of the image (the patient's left), `v` downwards; the frame
spans -1..1. `s` = |u| is the distance from the midline, `px` the width of a pixel. Organs are
implicit shapes: their "depth" says how far inside a pixel lies (negative: outside), and `edge`
turns it into a soft edge, so any image size shows the same patient. Nothing is blurred
afterwards: what a sign does not touch stays the same, bit for bit.
"""

import numpy as np

from xbl_kit.data.phantom.arms import add_arms, add_shoulder_girdle
from xbl_kit.data.phantom.geometry import crop, edge, ellipse, join, patient_frame, periodic, ridge

# Attenuation of a breast and of a catheter.
BREAST, CATHETER = 0.085, 0.45

# Boxes (u0, u1, v0, v1) that hold all of an organ: drawing only there saves most of the time.
CHEST = (-0.74, 0.74, -0.80, 0.88)
ABDOMEN = (-1.2, 1.2, 0.28, 1.5)
MIDLINE = (-0.16, 0.16, -1.5, 1.5)
LINE = (-0.30, 0.70, -1.5, 0.40)


def draw(p, size, *, female, open_plate, disease=None, line=False):
    """Attenuation (float32), lung mask and humerus mask of one patient with the anatomy `p`.

    `disease(u, s, v)` gives the attenuation that a disease adds; only the lungs show it.
    """
    px = 2 / size
    u, v = patient_frame(p, size)
    density = _soft_tissue(u, v, p, px)
    _add_abdomen(density, u, v, p)
    lungs = np.zeros((size, size), bool)
    box = crop(p, size, CHEST)
    density[box], lungs[box] = _chest(
        density[box], u[box].copy(), v[box].copy(), p, px, female=female, disease=disease
    )
    _add_spine_and_airway(density, u, v, p, px)
    add_shoulder_girdle(density, u, v, p, px)
    humerus = add_arms(density, u, v, open_plate, p, px)
    if line:
        _add_line(density, u, v, p, px)
    return density, lungs, humerus


def _chest(density, u, v, p, px, *, female, disease):
    """Attenuation of the chest, and its lung mask."""
    s = np.abs(u)
    heart = _heart(u, v, p)
    lung = _lung(u, s, v, heart, p)
    air = edge(lung, 0.012 + px)
    if female:
        density = density + _breasts(s, v, p)
    density = density * (1 - (0.71 + 0.05 * p["lucency"]) * air * np.clip(0.84 + 1.5 * lung, 0, 1))
    density += _mediastinum(s, v, heart, p, px)
    density += _ribs(s, v, p, px)
    density += _hilar_vessels(u, s, v, p, px) * air
    if disease is not None:
        density += np.clip(25 * lung, 0, 1) * disease(u, s, v)  # exactly 0 outside the lung mask
    return density, lung > 0


# -- trunk ------------------------------------------------------------------------------------


def _soft_tissue(u, v, p, px):
    """Neck, shoulders and trunk, thickest in the middle."""
    s = np.abs(u)
    flank = p["trunk_width"] + 0.03 * v + 1.3 * np.square(np.clip(-0.1 - v, 0, 0.4))
    trapezius = v - (p["shoulder_height"] - 0.42) - p["shoulder_slope"] * s
    neck = np.minimum(p["neck_width"] - s - 0.12 * np.clip(v + 0.8, -0.2, 0.2), -0.5 - v)
    trunk = -join(s - flank, -trapezius, 0.2)  # rounded at the shoulder
    depth = join(trunk, neck, 0.14)
    return edge(depth, 0.02 + px) * np.clip(0.45 + 4 * depth, 0, 1) * (0.74 - 0.6 * np.square(s))


def _add_abdomen(density, u, v, p):
    """Thicker below the diaphragm, but for a gas bubble in the stomach."""
    box = crop(p, len(density), ABDOMEN)
    u, v = u[box].copy(), v[box].copy()
    below = np.clip(7 * (v - np.minimum(_dome(u, np.abs(u), p), 0.74)), 0, 1)
    bubble = ellipse(u, v, (0.27, p["dome"] + 0.12), (0.13, 0.02 + 0.05 * p["gas"]), 0.15)
    density[box] *= 1 + below * (0.35 - np.clip(14 * bubble, 0, 0.35))


def _dome(u, s, p):
    """Height of the diaphragm (v) at every u: right dome higher, steep at the costal angle."""
    arch = np.square(s - 0.27)
    return p["dome"] + p["dome_tilt"] * np.clip(3 * u, -1, 1) + (1.3 + 16 * arch) * arch


def _heart(u, v, p):
    """Depth inside heart, aortic knob and great vessels."""
    w, base, arch = p["heart_width"], p["dome"], p["arch"]
    left = ellipse(u, v, (0.01 + 0.34 * w, base - 0.15), (0.86 * w, 0.64 * w), 0.6)
    right = ellipse(u, v, (0.03 - 0.22 * w, base - 0.16), (0.40 * w, 0.24))
    knob = ellipse(u, v, (0.055, arch), (0.085, 0.08))
    trunk = ellipse(u, v, (0.045, arch + 0.19), (0.12, 0.22), -0.2)
    return join(join(left, right, 0.05), join(knob, trunk, 0.04), 0.10)


def _lung(u, s, v, heart, p):
    """Depth inside the lung fields: rib cage above the diaphragm, without heart and midline."""
    cage = cage_width(v, p) - s
    apex = v - p["apex"] - 3.2 * np.square(s - 0.23)
    medial = s - 0.085 - 0.10 * np.square(v + 0.1)
    inside = np.minimum(np.minimum(cage, apex), np.minimum(_dome(u, s, p) - v, medial))
    return np.minimum(inside, -heart)


def cage_width(v, p):
    """Half-width of the rib cage at the height v."""
    return p["cage_width"] - 0.36 * np.square(np.clip(0.22 - v, 0, 1))


def _mediastinum(s, v, heart, p, px):
    """Heart and the band of great vessels above it."""
    shade = 0.28 * np.clip(0.5 + 3 * heart, 0, 1) * edge(heart, 0.015 + px)
    band = edge(0.085 + 0.10 * np.square(np.clip(v, -1, 0.3) + 0.1) - s, 0.03 + px)
    ends = np.clip(4 * (v - p["apex"]), 0, 1) * np.clip(5 * (0.8 - v), 0, 1)
    return shade + 0.17 * band * ends


def _breasts(s, v, p):
    """Rounded shadows over the lower zones, densest along their lower border."""
    depth = ellipse(s, v, (0.37, p["breast"]), (0.25, 0.25))
    return np.clip(9 * depth, 0, 1) * (BREAST + 0.12 * np.clip(v - p["breast"], -0.25, 0.25))


def _ribs(s, v, p, px):
    """Posterior ribs, arching down from the spine, and fainter anterior ribs, rising laterally.

    All ribs of a kind are one periodic field, which costs no more than a single rib.
    """
    cage = edge(cage_width(v, p) + 0.03 - s, 0.03) * np.clip(6 * (s - 0.03), 0, 1)
    cage *= np.clip(5 * (v - p["apex"] + 0.1), 0, 1) * np.clip(3 * (0.72 - v), 0, 1)
    arch = p["rib_slope"] * np.square(s - 0.12)
    posterior = (v - p["rib_phase"] - arch) * (1 / p["rib_spacing"])
    anterior = (v - p["rib_phase"] + 0.75 * s - 0.2) * (0.87 / p["rib_spacing"])
    shade = 0.085 * _rib(posterior, px)
    shade += 0.05 * _rib(anterior, px) * np.clip(5 * (s - 0.22), 0, 1)
    return shade * cage


def _rib(level, px):
    """A band around every whole number, brighter at its cortical borders."""
    off = periodic(level)
    return np.clip((0.25 - off) * (1 / (0.06 + 3 * px)), 0, 1) * (0.6 + 2 * off)


def _hilar_vessels(u, s, v, p, px):
    """Hila and the vessels fanning out from them, thinner towards the pleura."""
    hilum, left = p["arch"] + 0.2, np.clip(40 * u, -1, 1)
    du = np.clip(s - 0.10, 0, 1)
    dv = v - hilum + 0.025 * left
    reach = du + np.abs(dv) + 0.06
    angle = dv / reach
    bend = np.square(du + 0.2)
    shade = np.clip(1.5 * ellipse(s, v, (0.15, hilum), (0.10, 0.15)), 0, 0.1)
    fade = np.clip(1.1 - 1.8 * reach, 0, 1) * np.clip(6 * reach - 0.6, 0, 1)
    for number, curl, width in ((4, 2.5, 0.017), (7, -4.0, 0.012)):
        off = periodic(number * angle + curl * bend + (p["vessels"] + 0.1 * number) * left)
        fan = np.clip(1 - off * reach * (1 / (number * (width + 0.3 * px))), 0, 1)
        shade += 0.10 * fan * fade
    return shade


def _add_spine_and_airway(density, u, v, p, px):
    """Vertebrae and disc spaces; trachea and main bronchi, which are lucent."""
    box = crop(p, len(density), MIDLINE)
    s, v = np.abs(u[box]), v[box].copy()
    disc = periodic(v * (1 / 0.095))
    shade = (0.10 + 0.06 * np.clip(4 * disc - 0.5, -0.5, 1)) * edge(0.07 - s, 0.02 + px)
    carina = p["arch"] + 0.10
    branch = np.clip(v - carina, 0, 0.12)
    airway = ridge(s - 1.1 * branch, 0.055) * np.clip(8 * (carina + 0.12 - v), 0, 1)
    density[box] += shade - 0.24 * airway


# -- what was put there -----------------------------------------------------------------------


def _add_line(density, u, v, p, px):
    """A central venous catheter: from the patient's left over the vena cava to the right atrium.

    A cubic Bezier curve in 24 straight pieces; each pixel takes its nearest.
    """
    box = crop(p, len(density), LINE)
    u, v = u[box], v[box]
    t = np.linspace(0, 1, 25)[:, None]
    entry, bend = (p["line_entry"], -1.4), (p["line_entry"] - 0.06, p["line_bend"])
    cava, tip = (-0.15, p["line_bend"] - 0.05), (-0.14, p["line_tip"])
    knots = np.stack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])
    curve = (knots * np.array([entry, bend, cava, tip])[:, None]).sum(axis=0)
    nearest = np.full(u.shape, np.inf, np.float32)
    for (u0, v0), (du, dv) in zip(curve[:-1], np.diff(curve, axis=0), strict=True):
        along = np.clip(((u - u0) * du + (v - v0) * dv) * (1 / (du * du + dv * dv)), 0, 1)
        apart = np.square(u - u0 - along * du) + np.square(v - v0 - along * dv)
        nearest = np.minimum(nearest, apart)
    density[box] += CATHETER * ridge(np.sqrt(nearest), 0.010 + 0.7 * px)
