"""Training methods, each a function that gives a `Method`: a model, and how it differs from ERM."""

from xbl_kit.methods.base import Known, Method, Seen
from xbl_kit.methods.explained import exbl as ExBL
from xbl_kit.methods.mimm import mimm_x as MimmX
from xbl_kit.methods.weighted import Bias, Corrected

Erm = Method  # a method that changes nothing is plain ERM

__all__ = ["Bias", "Corrected", "Erm", "ExBL", "Known", "Method", "MimmX", "Seen"]
