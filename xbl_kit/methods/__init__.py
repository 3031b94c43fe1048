"""Training methods, one class a paper; `forward(batch)` returns named scalar losses to add up."""

from xbl_kit.methods.bias import Bias, classification_loss
from xbl_kit.methods.erm import Erm
from xbl_kit.methods.exbl import ExBL
from xbl_kit.methods.mimm import MimmX

__all__ = ["Bias", "Erm", "ExBL", "MimmX", "classification_loss"]
