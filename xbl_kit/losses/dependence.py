"""Dependence of two sets of features without a bound that has to be fitted for each pair.

CLUB is in nats but no estimate of mutual information; the two others have no unit.
"""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from xbl_kit.explain import widened

# Samples x features of both sides; any first dimensions are pairs of their own.
X, Z = Float[Tensor, "*#p b d"], Float[Tensor, "*#p b e"]
Parts = Float[Tensor, "m b d"]
Label = Int[Tensor, " b"] | None
# Bound on |log variance| of CLUB in nats.
LIMIT = 6.0


class Club(nn.Module):
    """CLUB, an upper bound of I(X; Z) in nats (Cheng et al. 2020, eq. 7 and 13).

    E_joint[log q(z|x)] - E_marginals[log q(z|x)] over all N(N-1) pairs, at the cost of N, since q
    is a normal distribution N(mu(x), diag exp(s(x))). The upper bound holds where q is p(z|x);
    maximise `log_likelihood` on the same features first. s is bounded by +-6 nats, so that no
    variance vanishes. It is no estimate: for normals of correlation r it is r^2 / (1 - r^2).
    """

    def __init__(self, x_size: int, z_size: int, *, hidden: int = 400):
        super().__init__()
        layers = nn.Linear(x_size, hidden), nn.ReLU(), nn.Linear(hidden, 2 * z_size)
        self.network = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "b d"], z: Float[Tensor, "b e"]) -> Float[Tensor, ""]:
        """The bound in nats, which the encoder minimises."""
        if len(x) < 2:
            raise ValueError(f"b={len(x)} samples: mutual information needs at least 2")
        mean, log_variance = self._normal(x)
        z = widened(z)
        own = (z - mean).square()
        all_z = z.var(dim=0, correction=0) + (z.mean(dim=0) - mean).square()
        difference = (all_z - own) / (2 * log_variance.exp())
        return difference.sum(dim=1).mean() * len(z) / (len(z) - 1)

    def log_likelihood(self, x: Float[Tensor, "b d"], z: Float[Tensor, "b e"]) -> Float[Tensor, ""]:
        """Mean log q(z|x) in nats, which these parameters maximise."""
        mean, log_variance = self._normal(x)
        square = (widened(z) - mean).square() / log_variance.exp()
        return -0.5 * (square + log_variance + math.log(2 * math.pi)).sum(dim=1).mean()

    def _normal(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = widened(self.network(x)).chunk(2, dim=1)
        return mean, LIMIT * torch.tanh(raw / LIMIT)


class Clubs(nn.Module):
    """A `Club` for each (i, j) of `pairs` of feature parts: `forward(parts, label)` like `Mine`'s.

    With `classes` > 1 q also sees the class, and the bound is that of I(X; Z | Y), a class at a
    time. The parts are standardised over the batch, so that the encoder cannot hide by shrinking.
    """

    def __init__(
        self, size: int, pairs: Sequence[tuple[int, int]], *, classes: int = 1, hidden: int = 400
    ):
        super().__init__()
        self.pairs, self.classes = tuple(pairs), classes
        seen = size + (classes if classes > 1 else 0)
        self.each = nn.ModuleList(Club(seen, size, hidden=hidden) for _ in self.pairs)

    def forward(self, parts: Parts, label: Label = None) -> Float[Tensor, " p"]:
        """The bounds in nats; a class with fewer than two samples is left out."""
        sides = list(self._sides(parts, label))
        total = 0 * parts.sum() * parts.new_ones(len(self.pairs))
        for some in [slice(None)] if self.classes == 1 else [label == y for y in label.unique()]:
            if (n := parts[0, some].shape[0]) > 1:
                bounds = [club(x[some], z[some]) for club, x, z in sides]
                total = total + torch.stack(bounds) * n / parts.shape[1]
        return total

    def log_likelihood(self, parts: Parts, label: Label = None) -> Float[Tensor, " p"]:
        """Mean log q in nats, which these parameters maximise."""
        return torch.stack([q.log_likelihood(x, z) for q, x, z in self._sides(parts, label)])

    def _sides(self, parts: Tensor, label: Tensor | None) -> Iterator[tuple[Club, Tensor, Tensor]]:
        spread = (parts.var(dim=1, correction=0, keepdim=True) + 1e-5).sqrt()
        parts = (parts - parts.mean(dim=1, keepdim=True)) / spread
        given = [] if self.classes == 1 else [F.one_hot(label, self.classes).to(parts[0].dtype)]
        for club, (i, j) in zip(self.each, self.pairs, strict=True):
            yield club, torch.cat([parts[i], *given], dim=1), parts[j]


def hsic(x: X, z: Z, *, bandwidth: float | None = None) -> Float[Tensor, "..."]:
    """Hilbert-Schmidt independence criterion, Gaussian kernels exp(-d^2 / (2 bandwidth^2)).

    Unbiased (Song et al. 2012, eq. 5): its mean is 0 at independence, and it can be negative. The
    default bandwidth is the batch's median distance on each side, without a gradient. No unit.

    Raises ValueError for fewer than four samples.
    """
    n = x.shape[-2]
    if n < 4:
        raise ValueError(f"b={n} samples: HSIC needs at least 4")
    off = 1 - torch.eye(n, device=x.device)
    a, b = (_kernel(_distances(side), bandwidth) * off for side in (x, z))
    rows_a, rows_b = a.sum(dim=-1), b.sum(dim=-1)
    sums = rows_a.sum(dim=-1) * rows_b.sum(dim=-1) / ((n - 1) * (n - 2))
    sums = sums - 2 / (n - 2) * (rows_a * rows_b).sum(dim=-1)
    return ((a * b).sum(dim=(-2, -1)) + sums) / (n * (n - 3))


def distance_correlation(x: X, z: Z, *, epsilon: float = 1e-8) -> Float[Tensor, "..."]:
    """sqrt(dCov^2 / sqrt(dVar_x dVar_z)), 0 to 1, of Euclidean distances (Szekely et al. 2007).

    A V-statistic: at independence it falls like 1 / sqrt(N) only, and is the larger the more
    features. `epsilon` under both roots keeps the gradient finite at 0 and for constant features.

    >>> x = torch.tensor([[0.0], [1.0], [2.0], [5.0]])
    >>> round(distance_correlation(x, 3 * x + 1).item(), 3)
    1.0
    """
    # Scale-free already; divided by the mean so that epsilon is as small for small features.
    tiny = torch.finfo(torch.float32).tiny
    distances = [_distances(side) for side in (x, z)]
    a, b = (d / d.mean(dim=(-2, -1), keepdim=True).clamp_min(tiny) for d in distances)
    shared, *variances = (_covariance(*sides) for sides in ((a, b), (a, a), (b, b)))
    scale = (variances[0] * variances[1] + epsilon**2).sqrt()
    return (shared.clamp_min(0) / scale + epsilon).sqrt()


def _covariance(a: Tensor, b: Tensor) -> Tensor:
    """The mean product of two distance matrices as if both were centred, without centring them."""
    rows_a, rows_b = a.mean(dim=-1), b.mean(dim=-1)
    both = (a * b).mean(dim=(-2, -1)) - 2 * (rows_a * rows_b).mean(dim=-1)
    return both + rows_a.mean(dim=-1) * rows_b.mean(dim=-1)


def _distances(x: Tensor) -> Tensor:
    # The faster way over products is off by 1e-3 near 0, where the root has no slope to spare.
    return torch.cdist(widened(x), widened(x), compute_mode="donot_use_mm_for_euclid_dist")


def _kernel(distances: Tensor, bandwidth: float | None) -> Tensor:
    if bandwidth is None:
        median = distances.detach().flatten(-2).median(dim=-1).values[..., None, None]
        bandwidth = median.clamp_min(torch.finfo(distances.dtype).eps)
    return (-0.5 * (distances / bandwidth).square()).exp()
