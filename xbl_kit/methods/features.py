"""Methods that keep the spurious factors' levels out of the features that the label is read off."""

from collections.abc import Callable, Iterable
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from xbl_kit.batch import Batch
from xbl_kit.losses import distance_correlation, hsic
from xbl_kit.methods.base import Known, Method, Seen
from xbl_kit.models import Classifier

# log q(level | f_y) (m l), the true level (m) and the group (m) of the m images of known level.
Read = tuple[Tensor, Tensor, Tensor]


class Readers(nn.Module):
    """A small network q a factor that reads its level off f_y; `conditional`, also off the label.

    Gives log q, the level and the group of the images whose level is known, factor by factor. All
    are one group, or where `conditional` those of a class are.
    """

    def __init__(self, model: Classifier, known: Known, hidden: int, conditional: bool):
        super().__init__()
        label, levels = model.head[-1], levels_of(known)
        self.factors, self.classes = tuple(levels), label.out_features if conditional else 0
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(known.seed)
            first = [nn.Linear(label.in_features + self.classes, hidden) for _ in levels]
            last = [nn.Linear(hidden, size) for size in levels.values()]
        pairs = zip(first, last, strict=True)
        self.each = nn.ModuleList(nn.Sequential(one, nn.ReLU(), other) for one, other in pairs)

    def forward(self, part: Float[Tensor, "b d"], batch: Batch) -> list[Read]:
        given = [F.one_hot(batch.label, self.classes).to(part)] if self.classes else []
        group = batch.label if self.classes else torch.zeros_like(batch.label)
        whole, read = torch.cat([part, *given], dim=1), []
        for factor, reader in zip(self.factors, self.each, strict=True):
            level = batch.confounders[factor]
            known = level >= 0
            log_q = reader(whole[known]).float().log_softmax(dim=1)
            read.append((log_q, level[known], group[known]))
        return read


def likelihood(
    log_q: Float[Tensor, "m l"], level: Int[Tensor, " m"], group: Int[Tensor, " m"]
) -> Float[Tensor, ""]:
    """Mean log q of the true level, 0 for no image."""
    return log_q.gather(1, level[:, None]).sum() / max(1, len(level))


def club_bound(
    log_q: Float[Tensor, "m l"], level: Int[Tensor, " m"], group: Int[Tensor, " m"]
) -> Float[Tensor, ""]:
    """CLUB's bound in nats (Cheng et al. 2020, eq. 7), a group at a time, by its share.

    Mean of log q(z_i | f_i) - log q(z_j | f_i) over all pairs i != j; 0 for a group of one.
    """
    same = (group[:, None] == group).to(log_q)
    n = same.sum(dim=1)
    share = same @ F.one_hot(level, log_q.shape[1]).to(log_q) / n[:, None]
    each = log_q.gather(1, level[:, None])[:, 0] - (log_q * share).sum(dim=1)
    return (each * n / (n - 1).clamp_min(1)).sum() / max(1, len(level))


class Unread(nn.Module):
    """`weight` * mean over the factors of `penalty(log q, level, group)`, while q learns beside.

    The readers q raise the likelihood of the levels on features that they cannot move, and the
    model lowers the penalty against readers that it cannot move; the value is the model's.
    `clock(step)` is the share of the penalty that counts in training.
    """

    def __init__(
        self,
        readers: Readers,
        weight: float,
        penalty: Callable[[Tensor, Tensor, Tensor], Tensor],
        clock: Callable[[Tensor], Tensor] = torch.ones_like,
    ):
        super().__init__()
        self.readers, self.weight, self.penalty, self.clock = readers, weight, penalty, clock

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        part, batch = seen.parts[0].flatten(1), seen.batch
        learned = -mean(likelihood, self.readers(part.detach(), batch))
        frozen = {name: each.detach() for name, each in self.readers.named_parameters()}
        paid = mean(self.penalty, functional_call(self.readers, frozen, (part, batch)))
        share = self.clock(seen.step) if self.training else 1
        return self.weight * share * paid + learned - learned.detach()


def mean(
    measure: Callable[[Tensor, Tensor, Tensor], Tensor], read: Iterable[Read]
) -> Float[Tensor, ""]:
    """The mean over the factors of what `measure` gives of each."""
    return torch.stack([measure(*each) for each in read]).mean()


def levels_of(known: Known) -> dict[str, int]:
    return {factor: len(known.data.levels[factor]) for factor in known.factors}


def adversary(
    model: Classifier,
    known: Known,
    *,
    weight: float = 1.0,
    hidden: int = 100,
    conditional: bool = False,
) -> Method:
    """Cross-entropy - `weight` * (2 / (1 + exp(-10 p)) - 1) * cross-entropy of the levels.

    Domain-adversarial training (Ganin et al. 2016, eq. 9, 13-14): a network reads the factor off
    f_y, and its gradient is reversed in the model; p is the share of the steps that is done. Here
    one network a factor, their mean; the learning rate is the kit's; `conditional`, ours: the
    network also sees the class, and the model need not hide what the class tells already.
    """
    clock = partial(annealed, steps=known.steps)
    readers = Readers(model, known, hidden, conditional)
    return Method(model, terms={"adversary": Unread(readers, weight, likelihood, clock)})


def annealed(step: Int[Tensor, ""], *, steps: int) -> Float[Tensor, ""]:
    """From 0 to 1, Ganin et al. 2016, eq. 14."""
    return 2 / (1 + (-10 * step / steps).exp()) - 1


def club(
    model: Classifier,
    known: Known,
    *,
    weight: float = 0.3,
    hidden: int = 100,
    conditional: bool = False,
) -> Method:
    """Cross-entropy + `weight` * CLUB's upper bound of I(f_y; level) in nats, mean over factors.

    Cheng et al. 2020, eq. 7 and algorithm 1. A level is a class, so q(level | f_y) is a softmax,
    which can be the true one, where theirs is a normal distribution; q and model learn in one step
    and not in turns. `conditional`: the bound of I(f_y; level | class), q sees the class.
    """
    readers = Readers(model, known, hidden, conditional)
    return Method(model, terms={"dependence": Unread(readers, weight, club_bound)})


def dependence(
    measure: Callable[[Tensor, Tensor], Tensor],
    known: Known,
    weight: float,
    conditional: bool,
    seen: Seen,
) -> Float[Tensor, ""]:
    """`weight` * mean over the factors of `measure(f_y, one-hot level)`, on images of known level.

    With `conditional` a class at a time, by its share; fewer than four images are left out.
    """
    part, label, levels = seen.parts[0].flatten(1).float(), seen.batch.label, levels_of(known)
    total = 0 * part.sum()
    for factor, size in levels.items():
        level = seen.batch.confounders[factor]
        for y in label.unique() if conditional else [label]:
            rows = (level >= 0) & (label == y)
            if rows.sum() >= 4:
                value = measure(part[rows], F.one_hot(level[rows], size).float())
                total = total + value * rows.sum() / (level >= 0).sum()
    return weight * total / len(levels)


def dcor(
    model: Classifier, known: Known, *, weight: float = 1.0, conditional: bool = False
) -> Method:
    """Cross-entropy + `weight` * distance correlation of f_y and each factor's level.

    Szekely et al. 2007, as a penalty (for example Zhen et al. 2022); `conditional`: `dependence`.
    """
    term = partial(dependence, distance_correlation, known, weight, conditional)
    return Method(model, terms={"dependence": term})


def hsic_penalty(
    model: Classifier, known: Known, *, weight: float = 10.0, conditional: bool = False
) -> Method:
    """Cross-entropy + `weight` * HSIC (unbiased) of f_y and each factor's level.

    Gretton et al. 2005, as a penalty; `conditional`: `dependence`.
    """
    term = partial(dependence, hsic, known, weight, conditional)
    return Method(model, terms={"dependence": term})
