"""What is measured: is it right, for whom, and where did it look."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def accuracy(prediction: Int[Tensor, " n"], label: Int[Tensor, " n"]) -> float:
    """Share of right predictions; NaN for none."""
    return (prediction == label).double().mean().item()


def group_accuracy(
    prediction: Int[Tensor, " n"],
    label: Int[Tensor, " n"],
    confounders: Mapping[str, Int[Tensor, " n"]],
    *,
    classes: Sequence[str],
    levels: Mapping[str, Sequence[str]],
) -> dict[str, dict]:
    """Number and accuracy of every group "class/level/..." that is there, sorted by name.

    An image whose level of a factor is not known (-1) counts as level "unknown".
    """
    columns = [[classes[i] for i in label.tolist()]] + [
        [levels[factor][i] if i >= 0 else "unknown" for i in values.tolist()]
        for factor, values in confounders.items()
    ]
    names = ["/".join(parts) for parts in zip(*columns, strict=True)]
    right = (prediction == label).tolist()
    groups: dict[str, list[bool]] = {name: [] for name in sorted(set(names))}
    for name, is_right in zip(names, right, strict=True):
        groups[name].append(is_right)
    return {name: {"n": len(r), "accuracy": sum(r) / len(r)} for name, r in groups.items()}


def worst_group_accuracy(
    prediction: Int[Tensor, " n"], label: Int[Tensor, " n"], group: Int[Tensor, " n"]
) -> float:
    """The lowest accuracy of any group (Sagawa et al. 2020); groups without images are ignored.

    `group` numbers each image's group. NaN where there is no image at all.
    """
    right = (prediction == label).double()
    shares = [right[group == number].mean().item() for number in group.unique()]
    return min(shares, default=float("nan"))


def activation_precision(
    cams: Float[Tensor, "n h w"], masks: Bool[Tensor, "n p q"], tau: float = 0.05
) -> float:
    """Mean share of a map's strongest pixels that lie in the mask (Hagos et al. 2023, eq. 9).

    The strongest pixels are those at or above the (1 - tau) quantile of their own map, so a map
    of one value selects every pixel and scores the mask's share of the image. NaN for no images.

    Raises ValueError for shapes that differ or a tau outside (0, 1].
    """
    _check_maps(cams, masks)
    if not 0 < tau <= 1:
        raise ValueError(f"tau={tau}: expected a share in (0, 1], as 0.05 for the top 5 %")
    if not len(cams):
        return float("nan")
    shares = []
    for some, mask in zip(cams.split(64), masks.split(64), strict=True):
        threshold = some.flatten(1).quantile(1 - tau, dim=1)
        strongest = some >= threshold[:, None, None]
        shares.append((strongest & mask).sum(dim=(1, 2)) / strongest.sum(dim=(1, 2)))
    return torch.cat(shares).double().mean().item()


def activation_precision_chance(masks: Bool[Tensor, "n h w"]) -> float:
    """What a map of random values scores on average: the mean share of the image in the mask."""
    return masks.double().mean().item()


def region_share(cams: Float[Tensor, "n h w"], masks: Bool[Tensor, "n p q"]) -> Float[Tensor, " n"]:
    """The share of each map's sum that lies in the mask; NaN for a map of zeros.

    Raises ValueError for shapes that differ.
    """
    _check_maps(cams, masks)
    return (cams * masks).sum(dim=(1, 2)) / cams.sum(dim=(1, 2))


def _check_maps(cams: Tensor, masks: Tensor) -> None:
    if cams.shape != masks.shape:
        raise ValueError(
            f"maps are {tuple(cams.shape)} and masks {tuple(masks.shape)}; "
            "bring them to one size with explain.upsample"
        )
