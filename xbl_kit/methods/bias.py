"""What the training set's bias is, taken out of the classification loss."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from xbl_kit.batch import Batch
from xbl_kit.data import Dataset

CORRECTIONS = ("none", "weights", "prior")


class Bias(nn.Module):
    """P(level | class) of every spurious factor in training, (classes, levels) each.

    The factors are taken as independent given the class, and a level that is not known (-1) as
    telling nothing. Build it with `measured` from the rows that are trained on.
    Raises ValueError for a table that holds a 0, which no weight can make up for.
    """

    def __init__(self, tables: Mapping[str, Float[Tensor, "k _"]]):
        super().__init__()
        self.factors = tuple(tables)
        for factor, table in tables.items():
            if not (table > 0).all():
                raise ValueError(f"{factor}: a level never seen in a class, expected P > 0 for all")
            self.register_buffer(f"log_{factor}", table.log().float())

    @classmethod
    def measured(
        cls,
        data: Dataset,
        rows: Int[Tensor, " n"],
        factors: Sequence[str],
        *,
        pseudocount: float = 1.0,
    ) -> "Bias":
        """The tables as counted in `rows`, with `pseudocount` images added to every cell."""
        tables = {}
        for factor in factors:
            counts = torch.full((len(data.classes), len(data.levels[factor])), pseudocount)
            label, level = data.label[rows], data.confounders[factor][rows]
            known = level >= 0
            one = torch.ones(int(known.sum()))
            counts.index_put_((label[known], level[known]), one, accumulate=True)
            tables[factor] = counts / counts.sum(dim=1, keepdim=True)
        return cls(tables)

    def log_likelihood(self, batch: Batch) -> Float[Tensor, "b k"]:
        """sum_i log P(z_i | y) of each image's own levels, for every class y."""
        columns = []
        for factor in self.factors:
            level, table = batch.confounders[factor], getattr(self, f"log_{factor}")
            columns.append(table.T[level.clamp_min(0)] * (level >= 0)[:, None])
        return sum(columns)

    def weight(self, batch: Batch, factor: str | None = None) -> Float[Tensor, " b"]:
        """prod_i mean_y P(z_i | y) / P(z_i | y): to the distribution where no z_i tells y.

        Uncapped; of all factors, or of one.
        """
        total = torch.zeros(len(batch.label), device=batch.label.device)
        for name in self.factors if factor is None else (factor,):
            level, table = batch.confounders[name], getattr(self, f"log_{name}")
            own = table[batch.label, level.clamp_min(0)]
            total = total + (table.exp().mean(dim=0).log()[level.clamp_min(0)] - own) * (level >= 0)
        return total.exp()


def classification_loss(
    logits: Float[Tensor, "b k"],
    batch: Batch,
    bias: Bias | None,
    correction: str,
    *,
    strength: float | Tensor = 1.0,
) -> Float[Tensor, ""]:
    """Mean cross-entropy, corrected for the bias in one of two ways.

    "weights": each image counts by `Bias.weight`, importance sampling of the unconfounded
    distribution. "prior": sum_i log P(z_i | y) is added to the logits, so that the network need not
    learn it: at its optimum what is left is p(y | the rest of x), the same target without the
    weights' variance (bias-balanced softmax, Hong and Yang 2021). "none" is plain. `strength`
    multiplies the shift and raises the weights to a power: 0 is plain, too.

    Raises ValueError for another correction, or one without a bias.
    """
    if correction not in CORRECTIONS:
        raise ValueError(f"correction={correction!r}: expected one of {', '.join(CORRECTIONS)}")
    if correction == "none":
        return F.cross_entropy(logits, batch.label)
    if bias is None:
        raise ValueError(f"correction={correction!r} needs a Bias, such as Bias.measured(...)")
    if correction == "prior":
        return F.cross_entropy(logits + strength * bias.log_likelihood(batch), batch.label)
    weight = bias.weight(batch) ** strength
    return (weight * F.cross_entropy(logits, batch.label, reduction="none")).mean()
