"""Methods that weigh the images: the training set's bias taken out of the classification loss."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from xbl_kit.batch import Batch
from xbl_kit.data import Dataset, confound
from xbl_kit.data.faults import one_of
from xbl_kit.methods.base import Known, Method, Seen
from xbl_kit.metrics import group_numbers
from xbl_kit.models import Classifier

# The share of the way to an unconfounded training set that is gone by weights, the rest by prior.
CORRECTIONS = {"weights": 1.0, "both": 0.3, "prior": 0.0}


class Bias(nn.Module):
    """P(level | class) of every spurious factor in training, (classes, levels) each.

    The factors are taken as independent given the class, and a level that is not known (-1) as
    telling nothing. Build it with `measured` from the rows that are trained on.
    Raises ValueError for a table that holds a 0, which no weight can make up for.
    """

    def __init__(self, tables: Mapping[str, Float[Tensor, "k _"]]):
        super().__init__()
        self.factors = tuple(tables)
        for number, (factor, table) in enumerate(tables.items()):
            if not (table > 0).all():
                raise ValueError(f"{factor}: a level never seen in a class, expected P > 0 for all")
            # By number: a column of a user's table may have a name that a buffer cannot have.
            self.register_buffer(f"log_{number}", table.log().float())

    @classmethod
    def measured(
        cls, data: Dataset, rows: Tensor, factors: Sequence[str], pseudocount: float = 1.0
    ) -> "Bias":
        """The tables as counted in `rows`, with `pseudocount` images added to every cell."""
        count = partial(confound.measured, data, rows, pseudocount=pseudocount)
        return cls({factor: torch.from_numpy(count(factor)) for factor in factors})

    @property
    def tables(self) -> dict[str, Float[Tensor, "k _"]]:
        """log P(level | class) by factor."""
        return {factor: getattr(self, f"log_{i}") for i, factor in enumerate(self.factors)}

    def shift_and_weight(
        self, batch: Batch, share: float
    ) -> tuple[Float[Tensor, "b k"], Float[Tensor, " b"]]:
        """What the bias adds to the log-odds, (b, k), and what each image is to count, (b,).

        The weights, uncapped, take P(z | y) a `share` of the way to P(z) = mean_y P(z | y), to
        q(z | y) ~ P(z | y)^(1 - share) P(z)^share; the shift, sum_i log q(z_i | y), is the rest.
        """
        shift = torch.zeros(len(batch.label), len(self.log_0), device=batch.label.device)
        weight = torch.zeros(len(batch.label), device=batch.label.device)
        for factor, table in self.tables.items():
            level = batch.confounders[factor]
            known, at = level >= 0, level.clamp_min(0)
            middle = table.exp().mean(dim=0).log()
            q = (table.lerp(middle.expand_as(table), share)).log_softmax(dim=1)
            shift = shift + q.T[at] * known[:, None]
            weight = weight + (q - table)[batch.label, at] * known
        return shift, weight.exp()


class Corrected(nn.Module):
    """Each image's cross-entropy, corrected so that the unconfounded p(y | x) is the optimum.

    "weights": each image counts by prod_i P(z_i) / P(z_i | y), importance sampling. "prior":
    sum_i log P(z_i | y) is added to the logits, so that the network need not learn it (the
    bias-balanced softmax of Hong and Yang 2021): no weights, no variance, but images that the bias
    explains teach little. "both" (ours) goes .3 of the way by weights. `strength(step)` multiplies
    the shift: at 0 only the weights count.

    Raises ValueError for another correction.
    """

    def __init__(
        self,
        bias: Bias,
        correction: str = "weights",
        strength: Callable[[Tensor], Tensor] = torch.ones_like,
    ):
        super().__init__()
        one_of("correction", correction, CORRECTIONS)
        self.bias, self.share, self.strength = bias, CORRECTIONS[correction], strength

    def forward(self, seen: Seen, each: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        shift, weight = self.bias.shift_and_weight(seen.batch, self.share)
        logits = seen.logits + self.strength(seen.step) * shift
        return weight * F.cross_entropy(logits, seen.batch.label, reduction="none")


def erm(model: Classifier, known: Known) -> Method:
    """Empirical risk minimisation, and nothing else."""
    return Method(model)


def reweighted(model: Classifier, known: Known) -> Method:
    """ERM with importance weights, as if the factors were independent of the class."""
    bias = Bias.measured(known.data, known.rows, known.factors)
    return Method(model, weigh=Corrected(bias))


class WorstGroups(nn.Module):
    """Group DRO (Sagawa et al. 2020, algorithm 1): sum_g q_g * mean loss of group g.

    While training, q_g grows by exp(`step` * loss_g) for the groups of the batch; all then sum to
    1. A group is a class with a level of every factor; images of no known group do not count.
    """

    def __init__(self, n_groups: int, levels: Mapping[str, Sequence[str]], step: float):
        super().__init__()
        self.levels, self.step = levels, step
        self.register_buffer("q", torch.full((n_groups,), 1 / n_groups))

    def forward(self, seen: Seen, each: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        levels = {factor: seen.batch.confounders[factor] for factor in self.levels}
        group = group_numbers(seen.batch.label, levels, levels=self.levels)
        known, at = group >= 0, group.clamp_min(0)
        count = torch.zeros_like(self.q).index_add(0, at, known.to(self.q.dtype))
        share = known / count[at].clamp_min(1)  # of its group that an image is
        if self.training:
            loss = torch.zeros_like(self.q).index_add(0, at, (share * each).detach().to(self.q))
            self.q = (self.q.log() + self.step * loss).softmax(dim=0)
        return len(each) * self.q[at] * share * each


def group_dro(model: Classifier, known: Known, *, step: float = 0.01) -> Method:
    """Group DRO, which lowers the loss of the worst group; `step` is eta_q, as in the paper."""
    levels = {factor: known.data.levels[factor] for factor in known.factors}
    n_groups = prod((len(known.data.classes), *map(len, levels.values())))
    return Method(model, weigh=WorstGroups(n_groups, levels, step))


class ByRow(nn.Module):
    """Each image's loss times the weight of its row, over the mean weight of the training rows."""

    def __init__(self, weight: Float[Tensor, " n"], known: Known):
        super().__init__()
        weight = weight / weight[known.rows].mean()
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, seen: Seen, each: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        return self.weight[seen.batch.index] * each


def jtt(model: Classifier, known: Known, *, up: float = 100.0) -> Method:
    """Just train twice (Liu et al. 2021, eq. 3): rows that a first model gets wrong count `up` x.

    `known.before` is the first model's prediction; 100 is the paper's weight for Waterbirds. Ours:
    a weight stands for the copies of a row; the first model is trained to its end, where the paper
    stops it early (Waterbirds: 60 epochs of 300) as tuned on groups; errors among the rows to
    validate on count `up` x, too, where the paper picks the epoch by its worst group. Warns where
    the first model makes no error: then it is ERM.
    """
    wrong = known.before.label != known.data.label
    if not wrong[known.rows].any():
        what = f"0 of {len(known.rows)} training rows are predicted wrong: this is plain ERM"
        warnings.warn(f"jtt: {what}", stacklevel=2)
        return Method(model)
    return Method(model, weigh=ByRow(1 + (up - 1) * wrong.float(), known))


def added_images(model: Classifier, known: Known, *, share: float | None = None) -> Method:
    """ERM with the images that break the bias among the training rows (Pfeuffer et al. 2023).

    There 3,000 images are added as they are. Ours: the few that are given make up `share` of the
    loss, by default as much as one class, 1 / (classes + 1). ERM has their share of the rows.
    Raises ValueError where no images are given.
    """
    n, k = len(known.rows), len(known.images)
    if not k:
        raise ValueError("added-images: 0 images that break the bias, expected at least 1")
    share = 1 / (len(known.data.classes) + 1) if share is None else share
    weight = torch.full((len(known.data),), (1 - share) / (n - k))
    weight[known.images] = share / k
    return Method(model, weigh=ByRow(weight, known))
