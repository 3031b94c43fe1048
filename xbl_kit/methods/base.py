"""What a training method is: a model, and how it differs from plain training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from xbl_kit.batch import Batch, Box, Prediction
from xbl_kit.data import Dataset
from xbl_kit.exemplar import Exemplar
from xbl_kit.explain import require_maps
from xbl_kit.models import Classifier

NOTHING = torch.zeros(0, dtype=torch.int64)  # no rows


class Seen(NamedTuple):
    """A batch as the model has just seen it.

    `features` (b d r s) and `logits` (b k) of the label; `parts` f_y, f_z1, ..., (b size) each,
    which the last layers see; `others` the logits of every factor that has a head. `step` counts
    the batches trained on before this one.
    """

    batch: Batch
    features: Float[Tensor, "b d r s"]
    logits: Float[Tensor, "b k"]
    parts: list[Float[Tensor, "b ..."]]
    others: dict[str, Float[Tensor, "b _"]]
    step: Int[Tensor, ""]


@dataclass(frozen=True, eq=False)
class Known:
    """What is known before a method is trained, for the functions that build methods.

    The rows it will train on, the spurious `factors`, the exemplar that was picked, the name of
    the `region` where a good map lies, and in how many `steps` (batches) it will be trained.
    `before` is what a model trained before makes of every row of the data. A person may have given
    `images` that break the bias (row numbers; they are the last of `rows`), or a `pool` without
    labels, and in words the `biased` class and that of most counter images. `held_out` are the rows
    to validate on; `statistics()` are `models.layer_statistics` of the pretrained network that all
    start with, or of Unrefined.
    """

    data: Dataset
    rows: Int[Tensor, " n"]
    factors: tuple[str, ...] = ()
    exemplar: Exemplar | None = None
    region: str | Box = "lungs"
    steps: int = 1
    seed: int = 0
    held_out: Int[Tensor, " v"] = NOTHING
    before: Prediction | None = None
    images: Int[Tensor, " k"] = NOTHING
    pool: Int[Tensor, " m"] = NOTHING
    biased: int | None = None
    counter_class: int | None = None
    statistics: Callable[[], np.ndarray] | None = None


class Method(nn.Module):
    """Empirical risk minimisation, and what a method changes, weighs, or adds.

    `forward(batch)` gives {"class": mean of weigh(seen, each cross-entropy), name: term(seen) for
    each of `terms`}, scalars to be added up; nothing given, it is plain ERM. `change` makes other
    images of a batch (without `stem`); `weigh` gets each image's loss and gives what is averaged;
    `balance(seen, losses)` scales them all. With `by_pixel` the image requires grad before the
    model sees it. All are functions, or modules where they own tensors. A term that trains a
    network of its own names its `turns`, which come before the model's: `forward(batch, turn)`
    gives that turn's loss, from `rehearse(model, batch)`.
    """

    def __init__(
        self,
        model: Classifier,
        *,
        change: Callable[[Batch], Batch] | None = None,
        weigh: Callable[[Seen, Tensor], Tensor] | None = None,
        terms: Mapping[str, Callable[[Seen], Tensor]] | None = None,
        balance: Callable[[Seen, dict[str, Tensor]], dict[str, Tensor]] | None = None,
        by_pixel: bool = False,
    ):
        super().__init__()
        self.model, self.change, self.weigh, self.balance = model, change, weigh, balance
        self.terms, self.by_pixel = dict(terms or {}), by_pixel
        self.owners = nn.ModuleList(t for t in self.terms.values() if isinstance(t, nn.Module))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    @property
    def turns(self) -> tuple[str, ...]:
        """The players in the order in which they move, the model last."""
        return (*(turn for term in self.owners for turn in getattr(term, "turns", ())), "model")

    def forward(self, batch: Batch, turn: str = "model") -> dict[str, Tensor]:
        if turn != "model":
            (player,) = (term for term in self.owners if turn in getattr(term, "turns", ()))
            return {turn: player.rehearse(self.model, batch)}
        seen = self.look(self.change(batch) if self.change else batch)
        label = seen.batch.label
        if self.weigh is None:
            losses = {"class": F.cross_entropy(seen.logits, label)}
        else:
            each = F.cross_entropy(seen.logits, label, reduction="none")
            losses = {"class": self.weigh(seen, each).mean()}
        losses |= {name: term(seen) for name, term in self.terms.items()}
        if self.balance:
            losses = self.balance(seen, losses)
        if self.training:
            self.step += 1
        return losses

    def look(self, batch: Batch) -> Seen:
        """The batch with what the model makes of it."""
        if self.by_pixel:  # a cached prefix would cut the image off
            batch = batch._replace(image=batch.image.detach().requires_grad_(), stem=None)
        features = self.model.encode(batch.image, batch.stem)
        parts, (logits, *others) = self.model.tasks(features)
        require_maps(features, logits, batch.label)
        named = dict(zip(self.model.factors, others, strict=True))
        return Seen(batch, features, logits, parts, named, self.step)
