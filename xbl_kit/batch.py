"""The record that every data set gives and every method reads."""

from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor


class Batch(NamedTuple):
    """A few images with everything known about them.

    `image` lies in [0, 1]. `confounders` maps a factor to the level of each image, -1 where it is
    not known. `masks` maps a region ("lungs", ...) to its pixels and is empty where none are
    known. `index` is the row in the data set. `stem` holds the outputs of the model's frozen
    prefix where these were cached (see `xbl_kit.models.cache_stem`).
    """

    image: Float[Tensor, "b 1 h w"]
    label: Int[Tensor, " b"]
    confounders: dict[str, Int[Tensor, " b"]]
    masks: dict[str, Bool[Tensor, "b h w"]]
    patient: Int[Tensor, " b"]
    index: Int[Tensor, " b"]
    stem: Float[Tensor, "b c p q"] | None = None

    def to(self, device, **options) -> "Batch":
        """The same batch on another device; `options` are those of `torch.Tensor.to`."""

        def move(value):
            if isinstance(value, dict):
                return {name: tensor.to(device, **options) for name, tensor in value.items()}
            return value if value is None else value.to(device, **options)

        return Batch(*(move(value) for value in self))
