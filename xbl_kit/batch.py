"""The record that every data set gives and every method reads."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

Box = Sequence[float]  # left, top, right, bottom in shares of the image


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
        from accelerate.utils import recursively_apply  # takes a second

        return recursively_apply(Tensor.to, self, device, **options)


class Prediction(NamedTuple):
    """What a model makes of n images, on the CPU: logits (n, k) and raw Grad-CAM maps (n, h, w),
    None where the logits were corrected.

    `parts` are the features that the last layer of every head sees, the label's first, and
    `others` the logits of every spurious factor.
    """

    logits: Float[Tensor, "n k"]
    cam: Float[Tensor, "n h w"] | None
    parts: list[Float[Tensor, "n ..."]]
    others: dict[str, Float[Tensor, "n _"]]

    @property
    def label(self) -> Int[Tensor, " n"]:
        """The predicted classes."""
        return self.logits.argmax(dim=1)


def region_pixels(batch: Batch, region: str | Box) -> Bool[Tensor, "b h w"]:
    """The pixels of a region: a mask's name, or a box (left, top, right, bottom) in shares of 1.

    Raises ValueError for a mask that is not there or a box that is none.
    """
    if isinstance(region, str):
        if region not in batch.masks:
            known = ", ".join(batch.masks) or "none"
            raise ValueError(
                f"region {region!r}: the data have no such masks (there are: {known}); "
                "name one of them or a box: left,top,right,bottom in shares of the image"
            )
        return batch.masks[region]
    if not (len(region) == 4 and all(0 <= region[i] < region[i + 2] <= 1 for i in (0, 1))):
        what = "expected left < right and top < bottom, all between 0 and 1"
        raise ValueError(f"region {tuple(region)}: {what}")
    left, top, right, bottom = region
    device = batch.image.device
    y, x = ((torch.arange(n, device=device) + 0.5) / n for n in batch.image.shape[2:])
    box = ((y > top) & (y < bottom))[:, None] & ((x > left) & (x < right))[None]
    return box.expand(len(batch.image), -1, -1)


def of_all(own: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "all ..."]:
    """The rows of every process's share of a batch, one after the other; those of one that is
    alone. What is measured over a batch, not image by image, is then what one process measures."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return own
    shares = [torch.empty_like(own) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(shares, own.detach().contiguous())
    shares[torch.distributed.get_rank()] = own  # through which a gradient goes
    return torch.cat(shares)
