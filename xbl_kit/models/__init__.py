"""Classifiers that return (features, logits), and the cache of their frozen prefix."""

from xbl_kit.models.backbones import BACKBONES, build_classifier, build_multihead
from xbl_kit.models.classifier import Classifier, cache_stem, layer_statistics

__all__ = ["BACKBONES", "Classifier", "build_classifier", "build_multihead", "cache_stem"]
__all__ += ["layer_statistics"]
