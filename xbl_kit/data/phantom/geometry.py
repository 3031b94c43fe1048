"""Where a pixel of a phantom lies, and the shapes its organs are made of.

Coordinates are those of `anatomy`; a "depth" says how far inside a shape a pixel lies.
"""

import math
from collections.abc import Mapping
from itertools import product

import numpy as np
from jaxtyping import Float

Body = Mapping[str, float | int]  # the measures and the factors of one patient, by name
Field = Float[np.ndarray, "h w"]  # one value for every pixel of an image, or of a box of it
Numbers = tuple[float, ...]
EVERYWHERE = (-9.0, 9.0, -9.0, 9.0)


def window(p: Body, size: int, box: Numbers = EVERYWHERE) -> tuple[tuple, Field, Field]:
    """Slices of the pixels that cover the box (u0, u1, v0, v1), and where each of them lies."""
    cos, sin = math.cos(p["tilt"]), math.sin(p["tilt"])
    along, across = cos * p["zoom"], sin * p["zoom"]
    corners = list(product(box[:2], box[2:]))
    x = [along * u - across * v + p["shift_x"] for u, v in corners]
    y = [across * u + along * v + p["shift_y"] for u, v in corners]
    top, bottom, left, right = (
        min(size, max(0, round((c + 1) * size / 2))) for c in (min(y), max(y), min(x), max(x))
    )
    at = slice(top, bottom), slice(left, right)
    pixel = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    dx, dy = pixel[at[1]] - p["shift_x"], (pixel[at[0]] - p["shift_y"])[:, None]
    cos, sin = cos / p["zoom"], sin / p["zoom"]
    return at, cos * dx + sin * dy, cos * dy - sin * dx


def edge(depth: Field, width: float) -> Field:
    """0 outside, 1 inside, linear over `width` around the border."""
    return np.clip(depth * (1 / width) + 0.5, 0, 1)


def ridge(distance: Field, half_width: float) -> Field:
    """1 on a line, falling to exactly 0 at `half_width` from it."""
    return np.clip(1 - np.square(distance * (1 / half_width)), 0, 1)


def periodic(level: Field) -> Field:
    """Distance of `level` from the nearest whole number, 0..0.5."""
    return np.abs(level - np.rint(level))


def ellipse(u: Field, v: Field, centre: Numbers, axes: Numbers, turn: float = 0.0) -> Field:
    """Depth inside an ellipse: its smaller half-axis / 2 at the centre, 0 on the border."""
    cos, sin, top = math.cos(turn), math.sin(turn), 0.5 * min(axes)
    a, b = top / axes[0] ** 2, top / axes[1] ** 2
    du, dv = u - centre[0], v - centre[1]
    depth = du * (-(a * cos * cos + b * sin * sin) * du - (2 * (a - b) * cos * sin) * dv)
    depth -= (a * sin * sin + b * cos * cos) * np.square(dv)
    return depth + top


def join(a: Field, b: Field, blend: float) -> Field:
    """Union of two depths, rounded where they meet."""
    fillet = np.square(np.clip(blend - np.abs(a - b), 0, blend))
    return np.maximum(a, b) + (0.25 / blend) * fillet
