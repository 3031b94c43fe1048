"""CDEP: what the pixels of the wrong region add to the logits is kept small."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.mobilenetv2 import InvertedResidual

from xbl_kit.batch import region_pixels
from xbl_kit.methods.base import Known, Method, Seen
from xbl_kit.models import Classifier

Split = tuple[Float[Tensor, "b ..."], Float[Tensor, "b ..."]]  # beta and gamma, which sum to all


def cdep(model: Classifier, known: Known, *, weight: float = 1.0) -> Method:
    """Cross-entropy + `weight` * mean over images and classes of e^beta / (e^beta + e^gamma).

    CDEP (Rieger et al. 2020, eq. 4 with the score of their code): contextual decomposition splits
    each logit into beta, of the pixels outside the region, and gamma, of all others. Ours is
    BatchNorm, which theirs has none of: with its running statistics, as the network is used; and
    the sums of residual blocks. Dropout is left out, a cached prefix not made use of. In grey
    images the mean, scaled to 0, is what counts as nothing, as it is there.

    Raises ValueError for a network with a layer that there is no rule for.
    """
    parts = nn.Sequential(model.prefix, model.body, model.head)
    for layer in parts.modules():
        if not (isinstance(layer, nn.Sequential | InvertedResidual) or type(layer) in RULES):
            kinds = ", ".join(kind.__name__ for kind in RULES)
            raise ValueError(f"cdep has no rule for {type(layer).__name__}: expected {kinds}")

    def wrong_part(seen: Seen) -> Float[Tensor, ""]:
        image = (seen.batch.image - model.mean) / model.std
        inside = region_pixels(seen.batch, known.region)[:, None]
        beta, gamma = decompose(parts, (image * ~inside, image * inside))
        return weight * (beta - gamma).float().sigmoid().mean()

    return Method(model, terms={"explanation": wrong_part})


def decompose(network: nn.Module, split: Split) -> Split:
    """beta and gamma behind a network of layers that have a rule, residual blocks among them."""
    if isinstance(network, InvertedResidual):
        inner = decompose(network.conv, split)
        skipped = split if network.use_res_connect else (0, 0)
        return inner[0] + skipped[0], inner[1] + skipped[1]
    if isinstance(network, nn.Sequential):
        for layer in network:
            split = decompose(layer, split)
        return split
    return RULES[type(network)](network, *split)


def affine(layer: Callable[[Tensor], Tensor], beta: Tensor, gamma: Tensor) -> Split:
    """W beta + share * bias, W gamma + (1 - share) * bias; share = |W beta| / (both), or 0."""
    bias = layer(torch.zeros_like(beta[:1]))
    beta, gamma = layer(beta) - bias, layer(gamma) - bias
    share = beta.abs() / (beta.abs() + gamma.abs() + 1e-6)
    return beta + share * bias, gamma + (1 - share) * bias


def batch_norm(layer: nn.BatchNorm2d, beta: Tensor, gamma: Tensor) -> Split:
    """Like any affine layer, at its running statistics."""
    given = layer.running_mean, layer.running_var, layer.weight, layer.bias
    return affine(lambda maps: F.batch_norm(maps, *given, eps=layer.eps), beta, gamma)


def relu(layer: nn.Module, beta: Tensor, gamma: Tensor) -> Split:
    """relu(beta), and what is left of relu(beta + gamma)."""
    ceiling = getattr(layer, "max_val", torch.inf)
    own = beta.clamp(0, ceiling)
    return own, (beta + gamma).clamp(0, ceiling) - own


def largest(layer: nn.MaxPool2d, beta: Tensor, gamma: Tensor) -> Split:
    """Both from where their sum is largest."""
    size = layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode
    _, at = F.max_pool2d(beta + gamma, *size, return_indices=True)
    both = (part.flatten(2).gather(2, at.flatten(2)).view_as(at) for part in (beta, gamma))
    return tuple(both)


def alone(layer: nn.Module, beta: Tensor, gamma: Tensor) -> Split:
    """Each for itself."""
    return layer(beta), layer(gamma)


RULES = {
    **dict.fromkeys((nn.Conv2d, nn.Linear), affine),
    nn.BatchNorm2d: batch_norm,
    **dict.fromkeys((nn.ReLU, nn.ReLU6), relu),
    nn.MaxPool2d: largest,
    **dict.fromkeys((nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten), alone),
    nn.Dropout: lambda layer, beta, gamma: (beta, gamma),
}
