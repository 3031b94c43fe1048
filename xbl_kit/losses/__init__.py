"""Where a model looks (`explanation`), what features share (`information`), and `balance`."""

from xbl_kit.losses.balance import AttentionWeighter, GradNorm, clip_scale
from xbl_kit.losses.explanation import exemplar_triplet_loss, mask_loss, right_reasons_loss
from xbl_kit.losses.information import (
    Club,
    Mine,
    distance_correlation,
    donsker_varadhan,
    held_out_information,
    hsic,
)

__all__ = [
    "AttentionWeighter",
    "Club",
    "GradNorm",
    "Mine",
    "clip_scale",
    "distance_correlation",
    "donsker_varadhan",
    "exemplar_triplet_loss",
    "held_out_information",
    "hsic",
    "mask_loss",
    "right_reasons_loss",
]
