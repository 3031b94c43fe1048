"""Draw the chest of one phantom patient, organ by organ, as X-ray attenuation.

Patient coordinates: `u` to the right of the image (the patient's left), `v` downwards; the frame
spans -1..1. `s` = |u| is the distance from the midline, `px` the width of a pixel, `p` what is
known of the patient. Organs are implicit shapes: their "depth" says how far inside a pixel lies
(negative: outside), and `edge` turns it into a soft edge, so any image size shows the same
patient. Each is drawn only in a `frame` that holds all of it, which saves most of the time.
Nothing is blurred afterwards: what a sign does not touch stays the same, bit for bit.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool

from xbl_kit.data.phantom.geometry import Body, Field, edge, ellipse, frame, join, ramp, ridge, wave

Mask = Bool[np.ndarray, "h w"]

# Attenuation of a breast, of a catheter and of the dense zones beside a growth plate.
BREAST, CATHETER, CALCIFICATION = 0.085, 0.45, 0.20


def draw(p: Body, size: int, disease: Callable | None) -> tuple[Field, Mask, Mask]:
    """Attenuation (float32), lung mask and humerus mask of one patient, all (size, size).

    `disease(u, s, v)` gives the attenuation that a disease adds; only the lungs show it.
    """
    px = 2 / size
    _, _, s, v = frame(p, size, (-9.0, 9.0, -9.0, 9.0))  # everywhere
    density = _soft_tissue(s, v, p, px)
    _add_abdomen(density, p)
    lungs, humeri = np.zeros((2, size, size), bool)
    _add_chest(density, lungs, p, px, disease)
    _add_spine_and_airway(density, p, px)
    _add_shoulder_girdle(density, p, px)
    _add_arms(density, humeri, p, px)
    if p["line"]:
        _add_line(density, p, px)
    return density, lungs, humeri


def _add_chest(density: Field, mask: Mask, p: Body, px: float, disease: Callable | None) -> None:
    """Breasts, lungs and all that is seen in and over them; the mask is that of the lungs."""
    at, u, s, v = frame(p, len(density), (-0.74, 0.74, -0.80, 0.88))
    heart = _heart(u, v, p)
    lung = _lung(u, s, v, heart, p)
    air = edge(lung, 0.012 + px)
    shade = density[at] if p["sex"] else density[at] + _breasts(s, v, p)
    shade = shade * (1 - (0.71 + 0.05 * p["lucency"]) * air * ramp(0.84 + 1.5 * lung))
    shade += _mediastinum(s, v, heart, p, px)
    shade += _ribs(s, v, p, px)
    shade += _hilar_vessels(u, s, v, p, px) * air
    if disease is not None:
        shade += ramp(25 * lung) * disease(u, s, v)  # exactly 0 outside the lung mask
    density[at], mask[at] = shade, lung > 0


# -- trunk ------------------------------------------------------------------------------------


def _soft_tissue(s: Field, v: Field, p: Body, px: float) -> Field:
    """Neck, shoulders and trunk, thickest in the middle."""
    flank = p["trunk_width"] + 0.03 * v + 1.3 * np.square(np.clip(-0.1 - v, 0, 0.4))
    trapezius = v - (p["shoulder_height"] - 0.42) - p["shoulder_slope"] * s
    neck = np.minimum(p["neck_width"] - s - 0.12 * np.clip(v + 0.8, -0.2, 0.2), -0.5 - v)
    depth = join(-join(s - flank, -trapezius, 0.2), neck, 0.14)  # rounded at shoulder and neck
    return edge(depth, 0.02 + px) * ramp(0.45 + 4 * depth) * (0.74 - 0.6 * np.square(s))


def _add_abdomen(density: Field, p: Body) -> None:
    """Thicker below the diaphragm, but for a gas bubble in the stomach."""
    at, u, s, v = frame(p, len(density), (-1.2, 1.2, 0.28, 1.5))
    below = ramp(7 * (v - np.minimum(_dome(u, s, p), 0.74)))
    bubble = ellipse(u, v, (0.27, p["dome"] + 0.12), (0.13, 0.02 + 0.05 * p["gas"]), 0.15)
    density[at] *= 1 + below * (0.35 - np.clip(14 * bubble, 0, 0.35))


def _dome(u: Field, s: Field, p: Body) -> Field:
    """Height of the diaphragm (v) at every u: right dome higher, steep at the costal angle."""
    arch = np.square(s - 0.27)
    return p["dome"] + p["dome_tilt"] * np.clip(3 * u, -1, 1) + (1.3 + 16 * arch) * arch


def _heart(u: Field, v: Field, p: Body) -> Field:
    """Depth inside heart, aortic knob and great vessels."""
    w, base, arch = p["heart_width"], p["dome"], p["arch"]
    left = ellipse(u, v, (0.01 + 0.34 * w, base - 0.15), (0.86 * w, 0.64 * w), 0.6)
    right = ellipse(u, v, (0.03 - 0.22 * w, base - 0.16), (0.40 * w, 0.24))
    knob = ellipse(u, v, (0.055, arch), (0.085, 0.08))
    trunk = ellipse(u, v, (0.045, arch + 0.19), (0.12, 0.22), -0.2)
    return join(join(left, right, 0.05), join(knob, trunk, 0.04), 0.10)


def _lung(u: Field, s: Field, v: Field, heart: Field, p: Body) -> Field:
    """Depth inside the lung fields: rib cage above the diaphragm, without heart and midline."""
    apex = v - p["apex"] - 3.2 * np.square(s - 0.23)
    medial = s - 0.085 - 0.10 * np.square(v + 0.1)
    return np.minimum.reduce([cage_width(v, p) - s, apex, medial, _dome(u, s, p) - v, -heart])


def cage_width(v: Field | float, p: Body) -> Field | float:
    """Half-width of the rib cage at the height v."""
    return p["cage_width"] - 0.36 * np.square(np.clip(0.22 - v, 0, 1))


def _mediastinum(s: Field, v: Field, heart: Field, p: Body, px: float) -> Field:
    """Heart and the band of great vessels above it."""
    shade = 0.28 * ramp(0.5 + 3 * heart) * edge(heart, 0.015 + px)
    band = edge(0.085 + 0.10 * np.square(np.clip(v, -1, 0.3) + 0.1) - s, 0.03 + px)
    ends = ramp(4 * (v - p["apex"])) * ramp(5 * (0.8 - v))
    return shade + 0.17 * band * ends


def _breasts(s: Field, v: Field, p: Body) -> Field:
    """Rounded shadows over the lower zones, densest along their lower border."""
    depth = ellipse(s, v, (0.37, p["breast"]), (0.25, 0.25))
    return ramp(9 * depth) * (BREAST + 0.12 * np.clip(v - p["breast"], -0.25, 0.25))


def _ribs(s: Field, v: Field, p: Body, px: float) -> Field:
    """Posterior ribs, arching down from the spine, and fainter anterior ribs, rising laterally.

    All ribs of a kind are one periodic field, which costs no more than a single rib.
    """
    cage = edge(cage_width(v, p) + 0.03 - s, 0.03) * ramp(6 * (s - 0.03))
    cage *= ramp(5 * (v - p["apex"] + 0.1)) * ramp(3 * (0.72 - v))
    arch = p["rib_slope"] * np.square(s - 0.12)
    posterior = (v - p["rib_phase"] - arch) * (1 / p["rib_spacing"])
    anterior = (v - p["rib_phase"] + 0.75 * s - 0.2) * (0.87 / p["rib_spacing"])
    return cage * (0.085 * _rib(posterior, px) + 0.05 * _rib(anterior, px) * ramp(5 * (s - 0.22)))


def _rib(level: Field, px: float) -> Field:
    """A band around every whole number, brighter at its cortical borders."""
    off = wave(level)
    return ramp((0.25 - off) * (1 / (0.06 + 3 * px))) * (0.6 + 2 * off)


def _hilar_vessels(u: Field, s: Field, v: Field, p: Body, px: float) -> Field:
    """Hila and the vessels fanning out from them, thinner towards the pleura."""
    hilum, left = p["arch"] + 0.2, np.clip(40 * u, -1, 1)
    du, dv = ramp(s - 0.10), v - hilum + 0.025 * left
    reach = du + np.abs(dv) + 0.06
    angle, bend = dv / reach, np.square(du + 0.2)
    shade = np.clip(1.5 * ellipse(s, v, (0.15, hilum), (0.10, 0.15)), 0, 0.1)
    fade = ramp(1.1 - 1.8 * reach) * ramp(6 * reach - 0.6)
    for number, curl, width in ((4, 2.5, 0.017), (7, -4.0, 0.012)):
        off = wave(number * angle + curl * bend + (p["vessels"] + 0.1 * number) * left)
        shade += 0.10 * ramp(1 - off * reach * (1 / (number * (width + 0.3 * px)))) * fade
    return shade


def _add_spine_and_airway(density: Field, p: Body, px: float) -> None:
    """Vertebrae and disc spaces; trachea and main bronchi, which are lucent."""
    at, _, s, v = frame(p, len(density), (-0.16, 0.16, -1.5, 1.5))
    disc = wave(v * (1 / 0.095))
    shade = (0.10 + 0.06 * np.clip(4 * disc - 0.5, -0.5, 1)) * edge(0.07 - s, 0.02 + px)
    carina = p["arch"] + 0.10
    airway = ridge(s - 1.1 * np.clip(v - carina, 0, 0.12), 0.055) * ramp(8 * (carina + 0.12 - v))
    density[at] += shade - 0.24 * airway


# -- shoulders and arms ---------------------------------------------------------------------------


def _add_shoulder_girdle(density: Field, p: Body, px: float) -> None:
    """Clavicles (S-shaped) and scapulae (blade, lateral border, spine)."""
    at, u, s, v = frame(p, len(density), (-0.95, 0.95, -0.85, 0.20))
    v = v - p["shoulder_tilt"] * u
    joint, height = p["shoulder_width"], p["shoulder_height"]
    tip, start = joint - 0.07, p["apex"] + 0.13
    along = (s - 0.05) * (1 / (tip - 0.05))
    sway = 0.16 * along * (1 - along) * (1.2 - 2 * along)
    clavicle = np.abs(v - start - (height - 0.10 - start) * along - sway)
    ends = edge(np.minimum(s - 0.05, tip - s), 0.02 + px)
    shade = ends * edge(0.032 - clavicle, 0.012 + px) * (0.12 + 2.5 * clavicle)
    out = joint - s
    lateral = 0.9 * out - 0.09 - 0.62 * (v - height)
    medial = 0.36 - out + 0.06 * v
    blade = np.minimum(np.minimum(lateral, medial), v - height + 0.02 - 0.10 * out)
    border = 0.08 * ridge(lateral - 0.02, 0.03) + 0.03 * ridge(medial - 0.01, 0.02)
    shade += edge(blade, 0.025 + px) * (0.045 + border)
    spine = ridge(v - height + 0.07 - 0.35 * out, 0.03)
    shade += 0.07 * spine * ramp(5 * medial) * edge(tip - s, 0.05)
    density[at] += shade


def _add_arms(density: Field, mask: Mask, p: Body, px: float) -> None:
    """Both arms with their humeri; the mask is that of the humeral heads."""
    for side in (-1, 1):
        at, u, _, v = frame(p, len(density), (side * 0.48, side * 1.60, -0.85, 1.50))
        turn = p["abduction"] + 0.06 * side * p["arm_asymmetry"]
        cos, sin = math.cos(turn), math.sin(turn)
        ds, dv = side * u - p["shoulder_width"], v - p["shoulder_tilt"] * u - p["shoulder_height"]
        across, along = cos * ds - sin * dv, sin * ds + cos * dv
        limb = np.minimum(p["arm_width"] - np.abs(across + 0.02), along)
        deltoid = ellipse(across, along, (-0.02, 0.06), (p["arm_width"] + 0.005, 0.21))
        depth = np.maximum(limb, deltoid)
        flesh = 0.42 * edge(depth, 0.02 + px) * ramp(0.45 + 5 * depth)
        density[at] = np.maximum(density[at], flesh) + _humerus(across, along, p, px)
        mask[at] = np.square(across) + np.square(along) < (1.65 * p["head_radius"]) ** 2


def _humerus(across: Field, along: Field, p: Body, px: float) -> Field:
    """Head, shaft and the growth plate between epiphysis and metaphysis, open or fused.

    Plate and tubercle end within 1.65 head radii: there the mask, and all that differs, ends.
    """
    r = p["head_radius"]
    flare = np.square(ramp(1 - along * (0.45 / r)))
    shaft = np.minimum(0.42 * r + 0.50 * r * flare - np.abs(across), along)
    bone = np.maximum(ellipse(across, along, (0.0, 0.0), (r, r)), shaft)
    inside = edge(bone, 0.01 + px)
    shade = inside * (0.38 + 0.14 * ramp(1 - np.abs(bone - 0.012) * 50))
    if p["growth_plate"]:
        tent = along - 0.30 * r - (0.45 / r) * np.square(across)
        shade *= 1 - ridge(tent, 0.25 * r + 0.6 * px)
        return shade + CALCIFICATION * inside * ridge(np.abs(tent) - 0.45 * r, 0.20 * r)
    tubercle = ellipse(across, along, (0.75 * r, -0.05 * r), (0.45 * r, 0.6 * r))
    return np.maximum(shade, 0.40 * edge(tubercle, 0.01 + px))


# -- what was put there -----------------------------------------------------------------------


def _add_line(density: Field, p: Body, px: float) -> None:
    """A central venous catheter: from the patient's left over the vena cava to the right atrium.

    A cubic Bezier curve in 24 straight pieces; each pixel takes its nearest.
    """
    at, u, _, v = frame(p, len(density), (-0.30, 0.70, -1.5, 0.40))
    t = np.linspace(0, 1, 25)[:, None]
    entry, bend = (p["line_entry"], -1.4), (p["line_entry"] - 0.06, p["line_bend"])
    cava, tip = (-0.15, p["line_bend"] - 0.05), (-0.14, p["line_tip"])
    knots = np.stack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])
    curve = (knots * np.array([entry, bend, cava, tip])[:, None]).sum(axis=0)
    nearest = np.full(u.shape, np.inf, np.float32)
    for (u0, v0), (du, dv) in zip(curve[:-1], np.diff(curve, axis=0), strict=True):
        along = ramp(((u - u0) * du + (v - v0) * dv) * (1 / (du * du + dv * dv)))
        apart = np.square(u - u0 - along * du) + np.square(v - v0 - along * dv)
        nearest = np.minimum(nearest, apart)
    density[at] += CATHETER * ridge(np.sqrt(nearest), 0.010 + 0.7 * px)
