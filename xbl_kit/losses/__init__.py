"""Loss functions: where a model looks (`explanation`)."""

from xbl_kit.losses.explanation import exemplar_triplet_loss, mask_loss, right_reasons_loss

__all__ = ["exemplar_triplet_loss", "mask_loss", "right_reasons_loss"]
