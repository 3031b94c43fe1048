"""Where a model looks (`explanation`), what features share (`information`, `dependence`), and how
the terms are weighed (`balance`)."""

from xbl_kit.losses.balance import AttentionWeighter, GradNorm, clip_scale, even_scale
from xbl_kit.losses.dependence import Club, Clubs, distance_correlation, hsic
from xbl_kit.losses.explanation import exemplar_triplet_loss, mask_loss, right_reasons_loss
from xbl_kit.losses.information import Mine, donsker_varadhan, held_out_information

__all__ = ["AttentionWeighter", "Club", "Clubs", "GradNorm", "Mine", "clip_scale"]
__all__ += ["distance_correlation", "donsker_varadhan", "even_scale", "exemplar_triplet_loss"]
__all__ += ["held_out_information", "hsic", "mask_loss", "right_reasons_loss"]
