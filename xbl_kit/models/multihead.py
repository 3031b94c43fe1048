"""One encoder with a part of its features, and a head, for every task."""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xbl_kit.models.backbones import build_classifier
from xbl_kit.models.classifier import Classifier


class MultiHead(Classifier):
    """A classifier of the label with, beside its head, one more for every spurious factor.

    A head is mean over space, a linear layer to the task's own part of the features, a linear
    layer to its logits: all first layers together are MIMM's one layer, split into equal parts
    (Fay et al. 2023). There is no ReLU on a part, so that f_y is all that the logits are made of.
    `forward` is that of the classifier, (features, logits of the label): what explains and
    predicts works unchanged. `tasks` gives the parts (b, size) and the logits, the label's first.
    """

    def __init__(self, base: Classifier, factors: Mapping[str, int], *, size: int = 4):
        width, n_classes = base.head[-1].in_features, base.head[-1].out_features
        super().__init__(
            base.prefix,
            base.body,
            _head(width, size, n_classes),
            mean=tuple(base.mean.flatten().tolist()),
            std=tuple(base.std.flatten().tolist()),
            frozen=base._frozen[1:],
        )
        self.size, self.n_classes, self.factors = size, n_classes, tuple(factors)
        self.spurious = nn.ModuleList(_head(width, size, levels) for levels in factors.values())

    def tasks(
        self, features: Float[Tensor, "b d r s"]
    ) -> tuple[list[Float[Tensor, "b size"]], list[Float[Tensor, "b _"]]]:
        """The parts f_y, f_z1, ... and the logits of each task, from the last feature maps."""
        heads = (self.head, *self.spurious)
        parts = [head[:-1](features) for head in heads]
        return parts, [head[-1](part) for head, part in zip(heads, parts, strict=True)]


def build_multihead(
    backbone: str = "mobilenet_v2",
    n_classes: int = 4,
    factors: Mapping[str, int] | None = None,
    *,
    size: int = 4,
    weights: str | Path | None = None,
    seed: int = 0,
) -> MultiHead:
    """A `MultiHead` on a named backbone, initialised from `seed` alone.

    `factors` maps each spurious factor to its number of levels; `size` features a task.
    Raises ValueError for an unknown backbone, weights that do not fit it, or a size below 1.
    """
    if size < 1:
        raise ValueError(f"size={size}: expected at least 1 feature a task")
    base = build_classifier(backbone, n_classes, weights=weights, hidden=0, seed=seed)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        model = MultiHead(base, factors or {}, size=size)
    return model.to(memory_format=torch.channels_last)


def _head(width: int, size: int, outputs: int) -> nn.Sequential:
    pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*pool, nn.Linear(width, size), nn.Linear(size, outputs))
