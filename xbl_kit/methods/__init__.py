"""Training methods, each a function that gives a `Method`: a model, and how it differs from ERM."""

from xbl_kit.methods.base import Known, Method, Seen
from xbl_kit.methods.explained import exbl
from xbl_kit.methods.mimm import mimm_x, mimm_x_of
from xbl_kit.methods.weighted import Bias, Corrected, reweighted

# Plain ERM is a method that changes nothing; the papers' own names for users' scripts.
Erm, ExBL, MimmX = Method, exbl, mimm_x

__all__ = [
    "Bias",
    "Corrected",
    "Erm",
    "ExBL",
    "Known",
    "Method",
    "MimmX",
    "Seen",
    "exbl",
    "mimm_x",
    "mimm_x_of",
    "reweighted",
]
