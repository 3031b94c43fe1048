"""Choosing exemplary explanations without a person: by where each map lies."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xbl_kit.batch import Batch
from xbl_kit.data import Dataset
from xbl_kit.exemplar import Exemplar, Explained
from xbl_kit.explain import upsample
from xbl_kit.metrics import region_share

Box = Sequence[float]


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
        raise ValueError(
            f"region {tuple(region)}: expected 0 <= left < right <= 1, and top < bottom"
        )
    left, top, right, bottom = region
    y, x = ((torch.arange(n) + 0.5) / n for n in batch.image.shape[2:])
    box = ((y > top) & (y < bottom))[:, None] & ((x > left) & (x < right))[None]
    return box.expand(len(batch.image), -1, -1)


def pick_automatically(
    data: Dataset,
    rows: Int[Tensor, " n"],
    cam: Float[Tensor, "n p q"],
    predicted: Int[Tensor, " n"],
    *,
    region: str | Box = "lungs",
    pairs: int = 1,
) -> Exemplar:
    """The right predictions whose maps lie most (good) and least (bad) in `region`.

    `cam` and `predicted` belong to `rows`. The measure is the share of the map's sum, so an empty
    map is never picked. The bad one is sought in the class whose maps lie least in the region on
    average: a shortcut is a habit of a class, and the worst map of all may be a mere oddity.
    `pairs` takes the best and worst several.

    Raises ValueError where too few right predictions have a map.
    """
    size, shares = tuple(data.images.shape[1:]), []
    for maps, some in zip(cam.split(64), rows.split(64), strict=True):
        shares.append(region_share(upsample(maps, size), region_pixels(data[some], region)))
    share = torch.cat(shares)
    label = data.label[rows]
    usable = (predicted == label) & ~share.isnan()
    order = share.argsort()
    order = order[usable[order]]
    suspects = order[label[order] == _least_inside(share[order], label[order])]
    if len(order) < 2 * pairs or len(suspects) < pairs:
        raise ValueError(
            f"only {len(order)} right predictions have a map that is not empty; "
            f"{2 * pairs} are needed to pick good and bad explanations"
        )
    sides = order[-pairs:].flip(0), suspects[:pairs]
    return Exemplar(*(explained(data, rows, cam, at) for at in sides), picked_by="auto")


def _least_inside(share: Tensor, label: Tensor) -> int:
    """The class with the lowest mean share; -1 where there is no image."""
    means = {number: share[label == number].mean().item() for number in label.unique().tolist()}
    return min(means, key=means.__getitem__, default=-1)


def explained(
    data: Dataset, rows: Int[Tensor, " n"], cam: Float[Tensor, "n p q"], at: Int[Tensor, " k"]
) -> Explained:
    """The images, maps, rows and class names of some of `rows`, numbered by `at`."""
    batch = data[rows[at]]
    return Explained.of(batch.image, cam[at], batch.index, batch.label, data.classes)
