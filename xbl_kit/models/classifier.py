"""The classifier that every method trains: frozen prefix, body, head."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Classifier(nn.Module):
    """An image classifier whose forward returns the last feature maps beside the logits.

    `prefix` is frozen: never trained, its BatchNorm always in eval mode. `frozen` names further
    frozen parts inside `body`. The head has no BatchNorm, so that the explanation of an image does
    not depend on its batch-mates. `mean` and `std` are subtracted and divided by, per channel; a
    grey image is repeated over the channels.
    """

    def __init__(
        self,
        prefix: nn.Module,
        body: nn.Module,
        head: nn.Module,
        *,
        mean: tuple[float, ...] = (0.5,),
        std: tuple[float, ...] = (0.5,),
        frozen: tuple[nn.Module, ...] = (),
    ):
        super().__init__()
        self.prefix, self.body, self.head = prefix, body, head
        self._frozen = (prefix, *frozen)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        for part in self._frozen:
            part.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Classifier":
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

    def run_prefix(self, image: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b c p q"]:
        """The frozen prefix's output, which stays the same all through training."""
        return self.prefix((image - self.mean) / self.std)

    def encode(
        self, image: Float[Tensor, "b 1 h w"], stem: Float[Tensor, "b c p q"] | None = None
    ) -> Float[Tensor, "b d r s"]:
        """The last feature maps; a cached `stem` stands in for the prefix."""
        return self.body(self.run_prefix(image) if stem is None else stem)

    def forward(
        self, image: Float[Tensor, "b 1 h w"], stem: Float[Tensor, "b c p q"] | None = None
    ) -> tuple[Float[Tensor, "b d r s"], Float[Tensor, "b k"]]:
        """Features (b, d, r, s) and logits (b, k)."""
        features = self.encode(image, stem)
        return features, self.head(features)


def pooled_head(
    width: int, n_classes: int, *, hidden: int = 256, dropout: float = 0.5
) -> nn.Sequential:
    """The paper's head: mean over space, `hidden` ReLU units, dropout, one logit a class.

    With `hidden=0` the logits are linear in the pooled features, and Grad-CAM is an exact account
    of them (class activation mapping, Zhou et al. 2016).
    """
    pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    if not hidden:
        return nn.Sequential(*pool, nn.Linear(width, n_classes))
    layers = (nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout))
    return nn.Sequential(*pool, *layers, nn.Linear(hidden, n_classes))
