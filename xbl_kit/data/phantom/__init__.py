"""Drawn chest radiographs whose disease and whose spurious signs are both known."""

from xbl_kit.data.phantom.cohort import open_phantoms, redraw
from xbl_kit.data.phantom.draw import CLASSES, FACTORS, Drawing, Phantoms, make_phantoms

__all__ = ["CLASSES", "FACTORS", "Drawing", "Phantoms", "make_phantoms", "open_phantoms", "redraw"]
