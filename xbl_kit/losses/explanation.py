"""Losses that tell a model where to look."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from xbl_kit.explain import require_one_size, widened


def exemplar_triplet_loss(
    explanation: Float[Tensor, "b h w"],
    good: Float[Tensor, "k p q"],
    bad: Float[Tensor, "m r s"],
    *,
    margin: float = 1.0,
    reduction: Literal["mean", "sum", "none"] = "mean",
) -> Float[Tensor, ""] | Float[Tensor, " b"]:
    """The eXBL loss max(d(e, good) - d(e, bad) + margin, 0), d Euclidean (Hagos 2023, eq. 6-8).

    `explanation`, `good` and `bad` are products x * GradCAM(x) (`explain.image_times_cam`) of one
    resolution and one normalisation. With several good or bad ones d is the mean distance to them,
    which the paper does not consider. Equation 8 sums over the images; the default is the mean, so
    that the weight does not depend on the batch size. The published script has a squared distance.

    Raises ValueError where the sizes differ.

    >>> good, bad = torch.zeros(1, 2, 2), torch.ones(1, 2, 2)  # a distance of 2
    >>> exemplar_triplet_loss(torch.cat([good, bad]), good, bad, reduction="none")
    tensor([0., 3.])
    """
    triplet = [widened(maps) for maps in (explanation, good, bad)]
    if len(sizes := {tuple(maps.shape[1:]) for maps in triplet}) > 1:
        raise ValueError(f"explanation, good and bad must have one size, got {sorted(sizes)}")
    flat = [maps.flatten(1) for maps in triplet]
    return F.triplet_margin_with_distance_loss(
        *flat, distance_function=_mean_distance, margin=margin, reduction=reduction
    )


def _mean_distance(one: Tensor, many: Tensor) -> Tensor:
    return torch.stack([torch.linalg.vector_norm(one - other, dim=1) for other in many]).mean(dim=0)


def mask_loss(cam: Float[Tensor, "b h w"], wrong: Bool[Tensor, "b p q"]) -> Float[Tensor, ""]:
    """Mean over the images of the sum of `cam` on pixels marked wrong (Hagos 2023, eq. 2).

    Also known as RRR-G (Schramowski et al. 2020). The sum is divided by the number of pixels, so
    that one weight serves every resolution; scale the maps first (`explain.normalise`).

    Raises ValueError where the shapes differ.
    """
    require_one_size(cam, wrong)
    return (widened(cam) * wrong).mean()


def right_reasons_loss(
    gradient: Float[Tensor, "b h w"], wrong: Bool[Tensor, "b p q"]
) -> Float[Tensor, ""]:
    """Mean over the images of sum (wrong * d/dx sum_k log p_k)^2 (Ross et al. 2017, eq. 3 there
    in Hagos et al. 2023); `gradient` from `explain.input_gradient` with `create_graph=True`.

    Raises ValueError where the shapes differ.
    """
    require_one_size(gradient, wrong)
    return (widened(gradient) * wrong).square().sum(dim=(1, 2)).mean()
