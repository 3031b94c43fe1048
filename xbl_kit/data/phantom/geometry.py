"""Where a pixel of a phantom lies, and the shapes its organs are made of.

Coordinates are those of `anatomy`; a "depth" says how far inside a shape a pixel lies.
"""

import cmath
import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

Body = Mapping[str, float | int]  # the measures and the factors of one patient, by name
Field = Float[np.ndarray, "h w"]  # one value for every pixel of an image, or of a box of it
Numbers = tuple[float, ...]


def frame(p: Body, size: int, box: Numbers) -> tuple[tuple[slice, slice], Field, Field, Field]:
    """Slices of the pixels that cover a box (u0, u1, v0, v1), and the u, |u| and v of each."""
    turn, shift = cmath.rect(p["zoom"], p["tilt"]), complex(p["shift_x"], p["shift_y"])
    corners = [turn * complex(u, v) + shift for u in box[:2] for v in box[2:]]
    rows, columns = _span([c.imag for c in corners], size), _span([c.real for c in corners], size)
    pixel = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    dx, dy = pixel[columns] - p["shift_x"], (pixel[rows] - p["shift_y"])[:, None]
    cos, sin = math.cos(p["tilt"]) / p["zoom"], math.sin(p["tilt"]) / p["zoom"]
    u = cos * dx + sin * dy
    return (rows, columns), u, np.abs(u), cos * dy - sin * dx


def _span(ends: list[float], size: int) -> slice:
    """The pixels, of `size`, from the smallest to the largest of some places in -1..1."""
    start, stop = (min(size, max(0, round((c + 1) * size / 2))) for c in (min(ends), max(ends)))
    return slice(start, stop)


def ramp(level: Field) -> Field:
    """The level itself, but nothing below 0 and nothing above 1."""
    return level.clip(0, 1)


def edge(depth: Field, width: float) -> Field:
    """0 outside, 1 inside, linear over `width` around the border."""
    return ramp(depth * (1 / width) + 0.5)


def ridge(distance: Field, half_width: float) -> Field:
    """1 on a line, falling to exactly 0 at `half_width` from it."""
    return ramp(1 - np.square(distance * (1 / half_width)))


def wave(level: Field) -> Field:
    """Distance of `level` from the nearest whole number, 0..0.5: a triangle wave."""
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
