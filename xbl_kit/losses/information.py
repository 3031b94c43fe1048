"""Mutual information of features in nats, as a loss and as a held-out figure."""

import copy
import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xbl_kit.explain import widened
from xbl_kit.losses.dependence import Label

Weight = Float[Tensor, " b"] | None
# Elements of the B x B x hidden activation worked on at once; on a processor, what a cache holds.
CHUNK = {"cpu": 2**20, "gpu": 2**26}
EVERY = 50  # steps of a fit between two looks at the held-out samples


def donsker_varadhan(
    scores: Float[Tensor, "*p b b"], *, weight: Weight = None
) -> Float[Tensor, "*p"]:
    """E_joint[T] - log E_marginals[exp T] <= I(X; Z) in nats (Belghazi et al. 2018, eq. 5-6).

    `scores[i, j]` is T(x_i, z_j): the diagonal is the joint distribution, the N(N-1) others are the
    marginals (MIMM's code divides each column by N: it reads log(N/(N-1)) at independence). With
    `weight`, w_i for a sample and w_i w_j for a pair, the bound of the reweighted distribution.

    Raises ValueError for fewer than two samples.
    """
    joint, log_mean = _terms(scores, weight, None)
    return joint - log_mean


def _terms(scores: Tensor, weight: Tensor | None, negatives: int | None) -> tuple[Tensor, Tensor]:
    """E_joint[T] and log E_marginals[exp T] of scores (x, z), or (shift, x) up to `negatives`."""
    if (n := scores.shape[-1]) < 2:
        raise ValueError(f"b={n} samples: mutual information needs at least 2")
    scores = widened(scores)
    weight = scores.new_ones(n) if weight is None else weight.to(scores.dtype)
    rows = torch.arange(n, device=scores.device)
    x, z = rows[:, None], rows
    # Cyclic shifts of a shuffled batch are random pairs without a fixed point, and need no RNG.
    if negatives is not None:
        x, z = rows, (rows + rows[: scores.shape[-2], None]) % n
    own = torch.where(x == z, weight[x], 0)
    pair = torch.where(x == z, 0, weight[x] * weight[z])
    joint = (scores * own).sum(dim=(-2, -1)) / own.sum()
    return joint, (scores + pair.log()).flatten(-2).logsumexp(-1) - pair.sum().log()


class _Linears(nn.Module):
    """One `nn.Linear` a pair, (p b i) -> (p b o) in one batched product."""

    def __init__(self, n: int, inputs: int, outputs: int, generator: torch.Generator | None):
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(n, inputs, outputs))
        self.bias = nn.Parameter(torch.empty(n, 1, outputs))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


def _join(x: Tensor, z: Tensor, *layers: Tensor) -> Tensor:
    hidden = x + z
    shape = hidden.shape[:2]
    hidden = hidden.flatten(0, 1)
    for weight, bias in zip(layers[::2], layers[1::2], strict=True):
        hidden = torch.addmm(bias, hidden.relu_(), weight)
    return hidden.view(shape)


class Mine(nn.Module):
    """Statistics networks T for p pairs of feature parts at once (MINE, Belghazi et al. 2018).

    `forward(parts, label)` gives I(part_i; part_j) in nats for each (i, j) of `pairs`: a lower
    bound that these parameters maximise and the encoder minimises. Of `layers` hidden layers the
    last `joint` see both inputs; the first of those is split, W_x g(x_i) + W_z h(z_j), so nothing
    is concatenated. joint=3 is MIMM's network. Here nothing is normalised over B x B pairs, which
    would make T depend on the batch; `standardise` scales the B parts, so that the encoder cannot
    hide by shrinking them. `classes` > 1: I(X; Z | Y), negatives from one's own class. `negatives`:
    only k a sample, of a shuffled batch. `decay` (.99): MINE's corrected gradient (eq. 12).
    """

    def __init__(
        self,
        size: int,
        pairs: Sequence[tuple[int, int]] = ((0, 1),),
        *,
        hidden: int = 400,
        layers: int = 3,
        joint: int = 1,
        classes: int = 1,
        negatives: int | None = None,
        decay: float | None = None,
        standardise: bool = True,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if not 1 <= joint <= layers:
            raise ValueError(f"joint={joint}: expected 1 to layers={layers}")
        self.size, self.pairs, self.classes = size, tuple(pairs), classes
        self.negatives, self.decay = negatives, decay
        n, m = len(self.pairs), 1 + max(max(pair) for pair in self.pairs)
        inputs = size + (classes if classes > 1 else 0)
        widths = [inputs] + [hidden] * (layers - joint + 1)
        self.norm = nn.BatchNorm1d(m * size, affine=False) if standardise else nn.Identity()
        self.sides = nn.ModuleList(_Linears(2 * n, *io, generator) for io in pairwise(widths))
        self.both = nn.ModuleList(_Linears(n, hidden, hidden, generator) for _ in range(joint - 1))
        self.score = _Linears(n, hidden, 1, generator)
        self.register_buffer("log_mean", torch.full((n, classes), -math.inf))

    def forward(
        self, parts: Sequence[Tensor] | Tensor, label: Label = None, *, weight: Weight = None
    ) -> Float[Tensor, " p"]:
        """The bound of every pair; `weight` as in `donsker_varadhan`, `label` if `classes` > 1.

        A class with fewer than two samples has no negatives and is left out; with none left the
        bound is 0. Raises ValueError for parts wider than `size` or a missing `label`.
        """
        sides = self._embed(parts, label)
        weight = torch.ones(sides.shape[1], device=sides.device) if weight is None else weight
        label = torch.zeros_like(weight) if self.classes == 1 else label
        rows = [(label == y).nonzero().squeeze(1) for y in range(self.classes)]
        used = [(y, r, weight[r].sum()) for y, r in enumerate(rows) if (weight[r] > 0).sum() > 1]
        nothing = 0 * widened(sides).sum(dim=(1, 2)).view(2, -1).sum(dim=0)
        bounds = [share * self._bound(sides[:, r], weight[r], y) for y, r, share in used]
        return sum(bounds, nothing) / max(sum(share for *_, share in used), 1e-12)

    def _embed(self, parts: Sequence[Tensor] | Tensor, label: Tensor | None) -> Tensor:
        if max(part.shape[1] for part in parts) > self.size:
            raise ValueError(f"parts of {[p.shape[1] for p in parts]} features: size={self.size}")
        if self.classes > 1 and label is None:
            raise ValueError(f"classes={self.classes} needs the labels")
        # A narrower part is filled up with constants, which carry no information.
        stack = torch.stack([F.pad(part, (0, self.size - part.shape[1])) for part in parts], dim=1)
        flat = stack.flatten(1)  # of one sample there is no scale, and no negative either
        stack = (self.norm(flat) if len(flat) > 1 else flat).view_as(stack).transpose(0, 1)
        if self.classes > 1:
            one_hot = F.one_hot(label, self.classes).to(stack.dtype)
            stack = torch.cat([stack, one_hot.expand(len(stack), -1, -1)], dim=2)
        x, z = zip(*self.pairs, strict=True)
        sides = stack[[*x, *z]]
        for layer in self.sides[:-1]:
            sides = layer(sides).relu()
        return self.sides[-1](sides)

    def _scores(self, sides: Tensor) -> Tensor:
        layers = [t.unbind() for layer in (*self.both, self.score) for t in layer.parameters()]
        pairs = zip(*sides.chunk(2), *layers, strict=True)
        # Pair by pair, so that z and its gradient stay in the cache as well.
        return torch.stack([self._of_pair(*pair) for pair in pairs])

    def _of_pair(self, x: Tensor, z: Tensor, *layers: Tensor) -> Tensor:
        step = max(1, CHUNK["cpu" if x.device.type == "cpu" else "gpu"] // x.numel())
        if self.negatives is None:
            chunks = [(rows[:, None], z) for rows in x.split(step)]
        else:
            shifts = torch.arange(min(self.negatives, len(x) - 1) + 1).split(step)
            shifted = [torch.stack([z.roll(-s, dims=0) for s in some.tolist()]) for some in shifts]
            chunks = [(x[None], some) for some in shifted]
        # Recomputing a chunk is cheaper than writing it to memory and reading it back.
        again = {"use_reentrant": False, "preserve_rng_state": False}
        return torch.cat([checkpoint(_join, *chunk, *layers, **again) for chunk in chunks])

    def _bound(self, sides: Tensor, weight: Tensor, y: int) -> Tensor:
        joint, log_mean = _terms(self._scores(sides), weight, self.negatives)
        if self.decay is None:
            return joint - log_mean
        old, new = self.log_mean[:, y], log_mean.detach()
        moved = torch.logaddexp(old + math.log(self.decay), new + math.log1p(-self.decay))
        average = torch.where(old.isinf(), new, moved)
        if self.training:
            self.log_mean[:, y] = average
        # The value stays that of the bound; the gradient is divided by the moving average.
        corrected = (log_mean - average).exp()
        return joint - new - corrected + corrected.detach()


def held_out_information(
    train: Sequence[Tensor] | Tensor,
    test: Sequence[Tensor] | Tensor,
    *,
    labels: tuple[Tensor, Tensor] | None = None,
    weights: tuple[Tensor, Tensor] | None = None,
    steps: int = 600,
    batch_size: int = 256,
    lr: float = 1e-3,
    seed: int = 0,
    **critic,
) -> Float[Tensor, "1"]:
    """Mutual information in nats of the two parts of `test`, by a `Mine` fitted on `train`.

    A bound read on the batch it was fitted on is biased upwards; here a fifth of `train` picks the
    step to stop at and `test` is seen once. With `labels` (train, test) it is I(X; Z | Y), with
    `weights` that of the reweighted distribution; `critic` goes to `Mine`, 8 negatives unless it
    says otherwise. Draws from `seed` alone.
    """
    generator = torch.Generator().manual_seed(seed)
    classes = 1 if labels is None else 1 + max(int(label.max()) for label in labels)
    options = {"classes": classes, "negatives": 8, "generator": generator} | critic
    mine = Mine(max(part.shape[1] for part in train), **options).to(train[0].device)

    def bound(mine: Mine, which: int, rows: Tensor) -> Tensor:
        rows = rows.to(train[0].device)
        parts = [part.detach()[rows] for part in (train, test)[which]]
        label, weight = (each and each[which][rows] for each in (labels, weights))
        return mine(parts, label, weight=weight)

    def drawn() -> Tensor:
        places = torch.randint(len(fit), (batch_size,), generator=generator)
        return bound(mine.train(), 0, fit[places])

    n, of_test = len(train[0]), len(test[0])
    stop, fit = torch.randperm(n, generator=generator).tensor_split([n // 5])
    _fit(mine, drawn, lambda: bound(mine.eval(), 0, stop), steps, lr)
    with torch.no_grad():
        return bound(mine.eval(), 1, torch.randperm(of_test, generator=generator))


def _fit(
    mine: Mine, drawn: Callable[[], Tensor], held_out: Callable[[], Tensor], steps: int, lr: float
) -> None:
    """Raise the bound of batches `drawn`; of all states the one with the best `held_out` stays."""
    optimizer = torch.optim.Adam(mine.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, total_iters=steps)
    best, state = -math.inf, None
    for step in range(steps + 1):
        # Step 0 counts: with few samples any fit may be worse than none, which reads about 0.
        if step % EVERY == 0 or step == steps:
            with torch.no_grad():
                value = held_out().item()
            if value > best:
                best, state = value, copy.deepcopy(mine.state_dict())
        with torch.enable_grad():
            (-drawn().sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    mine.load_state_dict(state)
