"""Draw the shoulders and arms of one phantom patient, with the growth plates; see `anatomy`."""

import math

import numpy as np

from xbl_kit.data.phantom.geometry import crop, edge, ellipse, ridge

# Attenuation of the dense zones beside a growth plate, and the share of the bone's attenuation
# that is missing in the plate itself.
CALCIFICATION, PHYSIS = 0.20, 1.0

# Boxes (u0, u1, v0, v1), as in `anatomy`.
SHOULDERS = (-0.95, 0.95, -0.85, 0.20)
ARM = (0.48, 1.60, -0.85, 1.50)


def add_shoulder_girdle(density, u, v, p, px):
    """Clavicles (S-shaped) and scapulae (blade, lateral border, spine)."""
    box = crop(p, len(density), SHOULDERS)
    s, v = np.abs(u[box]), v[box] - p["shoulder_tilt"] * u[box]
    joint, height = p["shoulder_width"], p["shoulder_height"]
    tip, start = joint - 0.07, p["apex"] + 0.13
    along = (s - 0.05) * (1 / (tip - 0.05))
    wave = 0.16 * along * (1 - along) * (1.2 - 2 * along)
    clavicle = np.abs(v - start - (height - 0.10 - start) * along - wave)
    ends = edge(np.minimum(s - 0.05, tip - s), 0.02 + px)
    shade = ends * edge(0.032 - clavicle, 0.012 + px) * (0.12 + 2.5 * clavicle)
    out = joint - s
    lateral = 0.9 * out - 0.09 - 0.62 * (v - height)
    medial = 0.36 - out + 0.06 * v
    blade = np.minimum(np.minimum(lateral, medial), v - height + 0.02 - 0.10 * out)
    border = 0.08 * ridge(lateral - 0.02, 0.03) + 0.03 * ridge(medial - 0.01, 0.02)
    shade += edge(blade, 0.025 + px) * (0.045 + border)
    spine = ridge(v - height + 0.07 - 0.35 * out, 0.03)
    shade += 0.07 * spine * np.clip(5 * medial, 0, 1) * edge(tip - s, 0.05)
    density[box] += shade


def add_arms(density, u, v, open_plate, p, px):
    """Both arms with their humeri; returns the mask of the humeral heads."""
    mask = np.zeros(density.shape, bool)
    for side in (-1, 1):
        box = crop(p, len(density), (*sorted((side * ARM[0], side * ARM[1])), *ARM[2:]))
        turn = p["abduction"] + 0.06 * side * p["arm_asymmetry"]
        cos, sin = math.cos(turn), math.sin(turn)
        ds = side * u[box] - p["shoulder_width"]
        dv = v[box] - p["shoulder_tilt"] * u[box] - p["shoulder_height"]
        across, along = cos * ds - sin * dv, sin * ds + cos * dv
        limb = np.minimum(p["arm_width"] - np.abs(across + 0.02), along)
        deltoid = ellipse(across, along, (-0.02, 0.06), (p["arm_width"] + 0.005, 0.21))
        depth = np.maximum(limb, deltoid)
        flesh = 0.42 * edge(depth, 0.02 + px) * np.clip(0.45 + 5 * depth, 0, 1)
        bone = _humerus(across, along, open_plate, p, px)
        density[box] = np.maximum(density[box], flesh) + bone
        mask[box] = np.square(across) + np.square(along) < (1.65 * p["head_radius"]) ** 2
    return mask


def _humerus(across, along, open_plate, p, px):
    """Head, shaft and the growth plate between epiphysis and metaphysis, open or fused.

    Plate and tubercle end within 1.65 head radii: there the mask, and all that differs, ends.
    """
    r = p["head_radius"]
    flare = np.square(np.clip(1 - along * (0.45 / r), 0, 1))
    shaft = np.minimum(0.42 * r + 0.50 * r * flare - np.abs(across), along)
    bone = np.maximum(ellipse(across, along, (0, 0), (r, r)), shaft)
    inside = edge(bone, 0.01 + px)
    shade = inside * (0.38 + 0.14 * np.clip(1 - np.abs(bone - 0.012) * 50, 0, 1))
    if open_plate:
        tent = along - 0.30 * r - (0.45 / r) * np.square(across)
        shade *= 1 - PHYSIS * ridge(tent, 0.25 * r + 0.6 * px)
        return shade + CALCIFICATION * inside * ridge(np.abs(tent) - 0.45 * r, 0.20 * r)
    tubercle = ellipse(across, along, (0.75 * r, -0.05 * r), (0.45 * r, 0.6 * r))
    return np.maximum(shade, 0.40 * edge(tubercle, 0.01 + px))
