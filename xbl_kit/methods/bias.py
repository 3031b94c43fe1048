"""What the training set's bias is, taken out of the classification loss."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from xbl_kit.batch import Batch
from xbl_kit.data import Dataset, confound

# The share of the way to an unconfounded training set that is gone by weights, the rest by prior.
CORRECTIONS = {"none": None, "weights": 1.0, "both": 0.3, "prior": 0.0}


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
        tables = {
            factor: torch.from_numpy(confound.measured(data, rows, factor, pseudocount=pseudocount))
            for factor in factors
        }
        return cls(tables)

    def shift_and_weight(
        self, batch: Batch, share: float
    ) -> tuple[Float[Tensor, "b k"], Float[Tensor, " b"]]:
        """What the bias adds to the log-odds, (b, k), and what each image is to count, (b,).

        The weights, uncapped, take P(z | y) a `share` of the way to P(z) = mean_y P(z | y), to
        q(z | y) ~ P(z | y)^(1 - share) P(z)^share; the shift, sum_i log q(z_i | y), is the rest.
        """
        shift = torch.zeros(len(batch.label), len(getattr(self, f"log_{self.factors[0]}")))
        weight = torch.zeros(len(batch.label))
        shift, weight = shift.to(batch.label.device), weight.to(batch.label.device)
        for factor in self.factors:
            table, level = getattr(self, f"log_{factor}"), batch.confounders[factor]
            known, at = level >= 0, level.clamp_min(0)
            middle = table.exp().mean(dim=0).log()
            q = (table.lerp(middle.expand_as(table), share)).log_softmax(dim=1)
            shift = shift + q.T[at] * known[:, None]
            weight = weight + (q - table)[batch.label, at] * known
        return shift, weight.exp()


def classification_loss(
    logits: Float[Tensor, "b k"],
    batch: Batch,
    bias: Bias | None,
    correction: str,
    *,
    strength: float | Tensor = 1.0,
) -> Float[Tensor, ""]:
    """Mean cross-entropy, corrected for the bias; all have the unconfounded p(y | x) as optimum.

    "weights": each image counts by prod_i P(z_i) / P(z_i | y), importance sampling. "prior":
    sum_i log P(z_i | y) is added to the logits, so that the network need not learn it (the
    bias-balanced softmax of Hong and Yang 2021): no weights, no variance, but images that the bias
    explains teach little. "both" (ours) goes .3 of the way by weights. "none" is plain. `strength`
    multiplies the shift: at 0 only the weights count.

    Raises ValueError for another correction, or one without a bias.
    """
    if correction not in CORRECTIONS:
        raise ValueError(f"correction={correction!r}: expected one of {', '.join(CORRECTIONS)}")
    if correction == "none":
        return F.cross_entropy(logits, batch.label)
    if bias is None:
        raise ValueError(f"correction={correction!r} needs a Bias, such as Bias.measured(...)")
    shift, weight = bias.shift_and_weight(batch, CORRECTIONS[correction])
    each = F.cross_entropy(logits + strength * shift, batch.label, reduction="none")
    return (weight * each).mean()
