"""How loss terms are weighed against each other: by attention over factors, by gradient norms."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xbl_kit.batch import of_all
from xbl_kit.explain import widened


def gradient_norms(losses: Sequence[Tensor], shared: Tensor) -> Float[Tensor, " n"]:
    """Norm of the gradient of each scalar loss at the features `shared`; 0 for one without a path.

    The graph is kept, so that the losses can still be added up and sent backward.
    """

    def norm(loss: Tensor) -> Tensor:
        if not loss.requires_grad:
            return torch.zeros((), device=shared.device)
        (g,) = torch.autograd.grad(loss, shared, retain_graph=True, materialize_grads=True)
        return torch.linalg.vector_norm(widened(g))

    shares = of_all(torch.stack([norm(loss) for loss in losses])[None])
    return torch.linalg.vector_norm(shares, dim=0) if len(shares) > 1 else shares[0]


def clip_scale(class_loss: Tensor, information: Tensor, shared: Tensor) -> Float[Tensor, ""]:
    """min(|g_class|, |g_MI|) / |g_MI|, gradients at `shared`: MINE's adaptive clipping.

    It keeps the gradient of the mutual information from outgrowing that of the classification
    (Belghazi et al. 2018). A constant from 0 to 1; with g_MI = 0 it is 1, or 0 if g_class is 0 too.
    """
    of_class, of_information = gradient_norms([class_loss, information], shared)
    tiny = torch.finfo(of_class.dtype).tiny
    return (of_class / of_information.clamp_min(tiny)).clamp(max=1)


def even_scale(class_loss: Tensor, information: Tensor, shared: Tensor) -> Float[Tensor, ""]:
    """|g_class| / |g_MI|, gradients at `shared`: dynamic scaling in its simplest form.

    A RECONSTRUCTION of MIMM-X's "GradNorm-inspired" scaling: where GradNorm of two losses with
    alpha = 0 ends, at once. A constant; with g_MI = 0 it is 0.
    """
    of_class, of_information = gradient_norms([class_loss, information], shared)
    tiny = torch.finfo(of_class.dtype).tiny
    scale = of_class / of_information.clamp_min(tiny)
    return torch.where((of_information > 0) & scale.isfinite(), scale, 0)


class GradNorm(nn.Module):
    """Weights of n losses, moved so that every one learns at the same rate (Chen et al. 2018).

    `forward(losses, shared)` steps w_i by the sign and size of d|G_i - mean(G) r_i^alpha| / dw_i
    (eq. 2), G_i = w_i |g_i| at `shared`, r_i the loss ratio over the mean ratio; then the weights
    are floored and renormalised to sum n. It returns them as constants. Two departures: the step is
    relative to mean(G), so that `lr` fits any scale, and a loss is compared with the largest value
    it had: that is L_i(0) where it falls from the start, but MI starts at 0. Nothing moves in eval
    mode, or where a loss or gradient is not finite. Raises ValueError for another number of losses.
    """

    def __init__(self, n: int, *, alpha: float = 1.5, lr: float = 0.025, floor: float = 0.01):
        super().__init__()
        self.alpha, self.lr, self.floor = alpha, lr, floor
        self.register_buffer("weight", torch.ones(n))
        self.register_buffer("largest", torch.zeros(n))

    def forward(self, losses: Sequence[Tensor], shared: Tensor) -> Float[Tensor, " n"]:
        if len(losses) != len(self.weight):
            raise ValueError(f"{len(losses)} losses for {len(self.weight)} weights")
        if self.training:
            values = widened(torch.stack([loss.detach() for loss in losses]))
            values = of_all(values[None]).mean(dim=0)
            norms = gradient_norms(losses, shared)
            if values.isfinite().all() and norms.isfinite().all():  # else all stay as they are
                self.largest = torch.maximum(self.largest, values.clamp_min(0))
                self.weight = self._moved(values.clamp_min(0), norms)
        return self.weight.clone()

    def _moved(self, values: Tensor, norms: Tensor) -> Tensor:
        tiny = torch.finfo(norms.dtype).tiny
        ratio = values / self.largest.clamp_min(tiny)
        rate = ratio / ratio.mean().clamp_min(tiny)
        scaled = self.weight * norms
        mean = scaled.mean()
        # The target is a constant, so that d|G_i - target| / dw_i is sign(G_i - target) |g_i|.
        slope = torch.sign(scaled - mean * rate**self.alpha) * norms / mean.clamp_min(tiny)
        weight = (self.weight - self.lr * slope).clamp_min(self.floor)
        return weight * len(weight) / weight.sum()


class AttentionWeighter(nn.Module):
    """Confounder Attention Weighter: which of n factors to disentangle most. A RECONSTRUCTION.

    MIMM-X names such a module but no formula of it is public. Ours: softmax over i of
    <q(f_y), k(f_zi)> / sqrt(d), averaged over the batch, as weight of MI_i, or of f_zi in a summary
    of all factors (an earlier abstract says "Summarizer"); q and k are linear. The weights are
    positive and sum to 1, so equal ones give the mean. Let it be trained by
    the player that maximises the weighted MI, with the statistics network: whoever minimises it
    would put all weight on the factor with the least MI.
    """

    def __init__(self, size: int, *, width: int = 32, generator: torch.Generator | None = None):
        super().__init__()
        self.query = nn.Parameter(torch.empty(size, width))
        self.key = nn.Parameter(torch.empty(size, width))
        for matrix in (self.query, self.key):
            nn.init.uniform_(matrix, -(size**-0.5), size**-0.5, generator=generator)

    def forward(
        self, target: Float[Tensor, "b d"], factors: Float[Tensor, "n b d"]
    ) -> Float[Tensor, " n"]:
        query, keys = target @ self.query, factors @ self.key
        similarity = (query * keys).sum(dim=2) / self.query.shape[1] ** 0.5
        return widened(similarity).softmax(dim=0).mean(dim=1)
