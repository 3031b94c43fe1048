"""Training methods, one class a paper; `forward(batch)` returns named scalar losses to add up."""

from xbl_kit.methods.erm import Erm
from xbl_kit.methods.exbl import ExBL

__all__ = ["Erm", "ExBL"]
