"""The information between parts of the features, as a term of a loss, and the choices it leaves."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from xbl_kit.batch import Batch, of_all
from xbl_kit.data.faults import one_of
from xbl_kit.explain import widened
from xbl_kit.losses import AttentionWeighter, Clubs, Mine, distance_correlation, hsic
from xbl_kit.methods.base import Seen
from xbl_kit.models import Classifier

MEASURES = {"dcor": distance_correlation, "hsic": hsic}
Pairs = list[tuple[int, int]]


@dataclass(frozen=True)
class Options:
    """What MIMM-X leaves open, or this kit adds.

    MIMM (Fay et al. 2023) and the two-factor thesis: MINE over all pairs of a batch, "clip"
    `scaling`, z-z pairs (`between`), `critic_steps` of the statistics network for one of the
    encoder. MIMM-X (Fay et al. 2025) adds attention and dynamic scaling; no formula is public, so
    that all of these are a RECONSTRUCTION: `attention` "weights", sum_i a_i I(f_y; f_zi), or, after
    an earlier abstract's "summarizer", "summary", I(f_y; sum_i a_i f_zi) with one critic however
    many factors; `scaling` "gradnorm" of all losses, "gradnorm-pair" of class and information, or
    "equal", where these two pull alike at f_y, which is where GradNorm with alpha 0 ends.
    Ours: the `estimator`s "dcor", "hsic" and "club"; `conditional` I(.|y), which alone can reach 0
    where y and z are correlated; a `correction` of CE_y (see `Corrected`); `memory`, the past
    samples that join a batch where MI is measured; `delay` and `ramp`, steps before MI and prior
    count, and until in full.
    """

    weight: float = 0.3
    spurious: float = 1.0
    estimator: str = "mine"
    conditional: bool = True
    between: bool = False
    attention: str = "none"
    scaling: str = "none"
    correction: str = "none"
    memory: int = 192
    critic_steps: int = 1
    delay: int = 0
    ramp: int = 1
    hidden: int = 32
    seed: int = 0

    def __post_init__(self):
        one_of("estimator", self.estimator, ("mine", "club", *MEASURES))
        one_of("scaling", self.scaling, ("none", "clip", "equal", "gradnorm", "gradnorm-pair"))
        one_of("attention", self.attention, ("none", "weights", "summary"))
        if self.attention == "summary" and (self.estimator != "mine" or self.between):
            raise ValueError("attention='summary' needs estimator 'mine', and no pairs `between`")
        if self.attention == "weights" and self.estimator in MEASURES:
            raise ValueError(f"attention='weights' needs a critic, not {self.estimator!r}")


class Memory(nn.Module):
    """The newest `size` samples, parts (m b d) and labels, which join a batch to measure MI on."""

    def __init__(self, size: int, parts: int, width: int):
        super().__init__()
        self.register_buffer("parts", torch.zeros(size, parts, width))
        self.register_buffer("label", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("held", torch.zeros((), dtype=torch.int64))

    def recall(self) -> tuple[Float[Tensor, "m b d"], Int[Tensor, " b"]]:
        return self.parts[: self.held].transpose(0, 1), self.label[: self.held]

    def keep(self, parts: Float[Tensor, "m b d"], label: Int[Tensor, " b"]) -> None:
        if size := len(self.parts):
            self.parts = torch.cat([parts.transpose(0, 1), self.parts])[:size]
            self.label = torch.cat([label, self.label])[:size]
            self.held = (self.held + len(label)).clamp(max=size)


class Information(nn.Module):
    """The term `weight` * sum_ij a_ij I(part_i; part_j), whose gradient goes to the batch alone.

    With attention "summary" it is `weight` * I(f_y; sum_i a_i f_zi), a_i being the batch's mean: of
    each image's own, which see f_y, the summary would tell f_y even where no f_zi does.

    What measures it is trained, where it is a network, in turns before the model's, on the memory.
    `clock(step)` is the share that counts; while it is 0 nothing is worked out.
    """

    def __init__(self, model: Classifier, clock: Callable[[Tensor], Tensor], options: Options):
        super().__init__()
        width, n = model.head[-1].in_features, len(model.factors)
        generator = torch.Generator().manual_seed(options.seed)
        self.weight, self.clock = options.weight, clock
        self.pairs, self.measure = measured(model, options)
        self.memory = Memory(options.memory, n + 1, width)
        attends = options.attention != "none"
        self.attention = AttentionWeighter(width, generator=generator) if attends else None
        self.pooled = options.attention == "summary"
        self.turns = ("critic",) * (options.critic_steps * isinstance(self.measure, nn.Module))

    def rehearse(self, model: Classifier, batch: Batch) -> Float[Tensor, ""]:
        """-MI, or -log q for CLUB, whose q fits the features and not what raises the bound.

        On the memory, or where that is empty on the batch.
        """
        parts, label = self.memory.recall()
        if len(label) < 2:
            with torch.no_grad():
                own, _ = model.tasks(model.encode(batch.image, batch.stem))
            parts, label = of_everyone(own, batch.label)
        if not isinstance(self.measure, Clubs):
            return -self._shared(parts, label, self._attended(parts))
        shared = self.measure(parts, label)
        likelihood = self.measure.log_likelihood(parts, label)
        return -likelihood.sum() - shared.detach() @ self._attended(parts)

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        now, label = of_everyone(seen.parts, seen.batch.label)
        if share := self.clock(seen.step):
            with torch.enable_grad():
                known = [(now.detach(), label)] + [self.memory.recall()] * self.training
                joined = torch.cat([parts for parts, _ in known], dim=1).requires_grad_()
                labels = torch.cat([labels for _, labels in known])
                total = self._shared(joined, labels, self._attended(joined).detach())
                (gradient,) = torch.autograd.grad(total, joined)
            # A sample counts as much as in a batch without memory, over which MI is a mean, too.
            more = joined.shape[1] / len(seen.batch.label)
            push = (now * gradient[:, : len(label)]).sum() * more
            loss = self.weight * share * (total.detach() + push - push.detach())
        else:
            loss = 0 * now.sum()
        if self.training:
            self.memory.keep(now.detach(), label)
        return loss

    def _shared(
        self, parts: Float[Tensor, "m b d"], label: Int[Tensor, " b"], weight: Float[Tensor, " _"]
    ) -> Float[Tensor, ""]:
        """sum_ij a_ij I(part_i; part_j), or I(f_y; sum_i a_i f_zi)."""
        if self.pooled:
            parts = torch.stack([parts[0], torch.einsum("n,nbd->bd", weight, parts[1:])])
            return self.measure(parts, label).sum()
        return self.measure(parts, label) @ weight

    def _attended(self, parts: Float[Tensor, "m b d"]) -> Float[Tensor, " _"]:
        """The factors' weights, summing to 1, or the pairs': all alike, or the y-z pairs' share
        divided by attention."""
        n = len(parts) - 1
        if self.pooled:
            return self.attention(parts[0], parts[1:])
        weight = parts.new_full((len(self.pairs),), 1 / len(self.pairs))
        if self.attention is None:
            return weight
        return torch.cat([weight[:n].sum() * self.attention(parts[0], parts[1:]), weight[n:]])


def of_everyone(
    parts: list[Float[Tensor, "b d"]], label: Int[Tensor, " b"]
) -> tuple[Float[Tensor, "m b d"], Int[Tensor, " b"]]:
    """Parts and labels of the whole batch, wherever a share of it is; gradients go to the own."""
    return of_all(widened(torch.stack(parts, dim=1))).transpose(0, 1), of_all(label)


def measured(
    model: Classifier, options: Options
) -> tuple[Pairs, Callable[[Float[Tensor, "m b d"], Int[Tensor, " b"]], Float[Tensor, " p"]]]:
    """The pairs of parts, (y, zi) and with `between` (zi, zj), or (y, summary), measured."""
    n, width, classes = len(model.factors), model.head[-1].in_features, model.head[-1].out_features
    n = 1 if options.attention == "summary" else n
    pairs = [pair for pair in combinations(range(n + 1), 2) if options.between or pair[0] == 0]
    given = {"classes": classes if options.conditional else 1, "hidden": options.hidden}
    if options.estimator == "mine":
        generator = torch.Generator().manual_seed(options.seed)
        return pairs, Mine(width, pairs, layers=3, joint=1, generator=generator, **given)
    if options.estimator == "club":
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(options.seed)
            return pairs, Clubs(width, pairs, **given)
    measure = MEASURES[options.estimator]
    return pairs, partial(dependence, measure, pairs, conditional=options.conditional)


def dependence(
    measure: Callable[[Tensor, Tensor], Tensor],
    pairs: Pairs,
    parts: Float[Tensor, "m b d"],
    label: Int[Tensor, " b"],
    *,
    conditional: bool = True,
) -> Float[Tensor, " p"]:
    """A `measure` of every pair of parts, (p); where `conditional` a class at a time, by its share.

    A class of fewer than four samples is left out.
    """
    total = parts.new_zeros(len(pairs))
    firsts = sorted({i for i, _ in pairs})  # each is paired with all parts after it
    for rows in [label == y for y in label.unique()] if conditional else [slice(None)]:
        own = parts[:, rows]
        if own.shape[1] >= 4:
            values = [measure(own[i : i + 1], own[i + 1 :]) for i in firsts]
            total = total + torch.cat(values) * own.shape[1] / parts.shape[1]
    return total + 0 * parts.sum()
