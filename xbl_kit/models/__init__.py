"""Classifiers that return (features, logits), and the cache of their frozen prefix."""

from xbl_kit.models.backbones import BACKBONES, build_classifier
from xbl_kit.models.classifier import Classifier
from xbl_kit.models.multihead import MultiHead, build_multihead
from xbl_kit.models.stem import cache_stem

__all__ = [
    "BACKBONES",
    "Classifier",
    "MultiHead",
    "build_classifier",
    "build_multihead",
    "cache_stem",
]
