"""Where a pixel of a phantom lies, and the shapes its organs are made of.

Coordinates are those of `anatomy`; a "depth" says how far inside a shape a pixel lies.
"""

import math

import numpy as np


def patient_frame(p, size):
    """Coordinates (u, v) of every pixel: shifted, rotated in the plane, scaled."""
    x = ((np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1).astype(np.float32)
    cos, sin = math.cos(p["tilt"]) / p["zoom"], math.sin(p["tilt"]) / p["zoom"]
    dx, dy = x - p["shift_x"], (x - p["shift_y"])[:, None]
    return cos * dx + sin * dy, cos * dy - sin * dx


def crop(p, size, box):
    """Slices of the pixels that cover the box (u0, u1, v0, v1)."""
    cos, sin = math.cos(p["tilt"]) * p["zoom"], math.sin(p["tilt"]) * p["zoom"]
    corners = [(u, v) for u in box[:2] for v in box[2:]]
    x = [cos * u - sin * v + p["shift_x"] for u, v in corners]
    y = [sin * u + cos * v + p["shift_y"] for u, v in corners]
    top, bottom, left, right = (
        min(size, max(0, round((c + 1) * size / 2))) for c in (min(y), max(y), min(x), max(x))
    )
    return slice(top, bottom), slice(left, right)


def edge(depth, width):
    """0 outside, 1 inside, linear over `width` around the border."""
    return np.clip(depth * (1 / width) + 0.5, 0, 1)


def ridge(distance, half_width):
    """1 on a line, falling to exactly 0 at `half_width` from it."""
    return np.clip(1 - np.square(distance * (1 / half_width)), 0, 1)


def periodic(level):
    """Distance of `level` from the nearest whole number, 0..0.5."""
    return np.abs(level - np.rint(level))


def ellipse(u, v, centre, axes, turn=0.0):
    """Depth inside an ellipse: its smaller half-axis / 2 at the centre, 0 on the border."""
    cos, sin, top = math.cos(turn), math.sin(turn), 0.5 * min(axes)
    a, b = top / axes[0] ** 2, top / axes[1] ** 2
    du, dv = u - centre[0], v - centre[1]
    depth = du * (-(a * cos * cos + b * sin * sin) * du - (2 * (a - b) * cos * sin) * dv)
    depth -= (a * sin * sin + b * cos * cos) * np.square(dv)
    return depth + top


def join(a, b, blend):
    """Union of two depths, rounded where they meet."""
    fillet = np.square(np.clip(blend - np.abs(a - b), 0, blend))
    return np.maximum(a, b) + (0.25 / blend) * fillet
