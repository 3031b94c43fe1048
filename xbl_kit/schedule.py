"""How long and how fast a method is trained, and where."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

PRECISIONS = ("no", "bf16")  # of what a training computes; its weights have 32 bits


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a method is trained, and where.

    The learning rate rises to `lr` over the share `warmup` of `horizon` epochs (by default
    `epochs`) and falls to 0 as half a cosine over the rest. Training ends after `epochs`, or once
    the summed validation loss has not fallen for `patience` epochs; `keep` says whether the weights
    of the best epoch or of the last are kept. The order of the images and dropout depend on `seed`
    and the epoch alone. `device` is auto, cpu or cuda.
    """

    epochs: int
    batch_size: int = 32
    lr: float = 1e-4
    warmup: float = 0.0
    horizon: int | None = None
    patience: int | None = None
    keep: Literal["best", "last"] = "best"
    seed: int = 0
    device: str = "auto"
    precision: Literal["no", "bf16"] = "no"

    def __post_init__(self):
        for name, known in (("keep", ("best", "last")), ("precision", PRECISIONS)):
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"{name}={value!r}: expected {' or '.join(known)}")
        if min(self.epochs, self.batch_size) < 1:
            what = f"epochs={self.epochs}, batch_size={self.batch_size}"
            raise ValueError(f"{what}: expected 1 or more")

    def rate(self, step: int, steps: int) -> float:
        """The learning rate at a step, as a share of `lr`, with `steps` an epoch."""
        epoch, step = divmod(step, steps)
        share = min((epoch + (step + 1) / steps) / (self.horizon or self.epochs), 1)
        if share < self.warmup:
            return share / self.warmup
        return 0.5 + 0.5 * math.cos(math.pi * (share - self.warmup) / (1 - self.warmup))

    def batches(self, rows: Int[Tensor, " n"], epoch: int) -> list[Int[Tensor, " b"]]:
        """The batches of an epoch, all of one size, in an order of its own."""
        generator = torch.Generator().manual_seed(self.epoch_seed(epoch))
        order = rows[torch.randperm(len(rows), generator=generator)]
        size = min(self.batch_size, len(rows))
        return list(order[: len(rows) - len(rows) % size].split(size))

    def epoch_seed(self, epoch: int) -> int:
        """Of the order of the images, and of dropout."""
        return 1_000_003 * self.seed + epoch
