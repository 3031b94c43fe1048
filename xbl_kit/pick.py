"""Choosing exemplary explanations without a person: by where each map lies."""

import warnings

import torch
from jaxtyping import Float, Int
from torch import Tensor

from xbl_kit.batch import Box, region_pixels
from xbl_kit.data import Dataset
from xbl_kit.exemplar import Exemplar, Explained
from xbl_kit.explain import upsample
from xbl_kit.metrics import region_share


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
    suspect = _least_inside(share[order], label[order])
    suspects = order[label[order] == suspect]
    warn_of_other_sources(data, suspect)
    if len(order) < 2 * pairs or len(suspects) < pairs:
        raise ValueError(
            f"only {len(order)} right predictions have a map that is not empty; "
            f"{2 * pairs} are needed to pick good and bad explanations"
        )
    sides = order[-pairs:].flip(0), suspects[:pairs]
    return Exemplar(*(explained(data, rows, cam, at) for at in sides), picked_by="auto")


def is_of(exemplar: Exemplar, data: Dataset) -> bool:
    """Whether the images of an exemplar are those that the data have in its rows."""
    for side in (exemplar.good, exemplar.bad):
        known = all(0 <= row < len(data) for row in side.index)
        images = data[side.index].image if known else side.image[:0]
        if images.shape != side.image.shape or (images - side.image).abs().max() > 0.01:
            return False
    return True


def _least_inside(share: Tensor, label: Tensor) -> int:
    """The class with the lowest mean share; -1 where there is no image."""
    means = {number: share[label == number].mean().item() for number in label.unique().tolist()}
    return min(means, key=means.__getitem__, default=-1)


def warn_of_other_sources(data: Dataset, biased: int) -> None:
    """Say where images of the counter-group come from no `site` of the `biased` class.

    A model can tell two sources apart by much else than what a lesson is about, so that such images
    may be right, or wrong, for the source alone.
    """
    if data.counter is None or "site" not in data.confounders or biased < 0:
        return
    site = data.confounders["site"]
    own = site[(data.label == biased) & ~data.counter].unique()
    other = data.counter & ~torch.isin(site, own)
    if n := int(other.sum()):
        names = ", ".join(data.levels["site"][i] for i in site[other].unique().tolist() if i >= 0)
        what = f"{n} of {int(data.counter.sum())} counter images come from another source"
        than = f"than {data.classes[biased]} ({names or 'not known'}); look at each source apart"
        warnings.warn(f"{what} {than}", stacklevel=3)


def explained(
    data: Dataset, rows: Int[Tensor, " n"], cam: Float[Tensor, "n p q"], at: Int[Tensor, " k"]
) -> Explained:
    """The images, maps, rows and class names of some of `rows`, numbered by `at`."""
    batch = data[rows[at]]
    return Explained.of(batch.image, cam[at], batch.index, batch.label, data.classes)
