"""The classifier that every method trains: frozen prefix and its cache, body, a head for a task."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from xbl_kit.digests import digest, kept_array


@contextmanager
def modes_kept(module: nn.Module) -> Iterator[None]:
    """Training or eval of each part as it was, in the end and after an error."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def at_once(model: "Classifier") -> int:
    """Images a batch where nothing is trained: a CPU's own memory holds the maps of few."""
    return 16 if model.mean.device.type == "cpu" else 64


class Classifier(nn.Module):
    """An image classifier whose forward returns the last feature maps beside the logits.

    `prefix` is frozen: never trained, its BatchNorm always in eval mode. `frozen` names further
    frozen parts inside `body`. `head` answers for the label; `factors` has one more head for every
    spurious factor, by name. A head has no BatchNorm, so that the explanation of an image does not
    depend on its batch-mates. `mean` and `std` are subtracted and divided by, per channel; a grey
    image is repeated over the channels.
    """

    def __init__(
        self,
        prefix: nn.Module,
        body: nn.Module,
        head: nn.Module,
        *,
        factors: Mapping[str, nn.Module] | None = None,
        mean: tuple[float, ...] = (0.5,),
        std: tuple[float, ...] = (0.5,),
        frozen: tuple[nn.Module, ...] = (),
    ):
        super().__init__()
        self.prefix, self.body = prefix, body
        # A list: columns of users' tables may have names that a ModuleDict does not take.
        self.factors = tuple(factors or {})
        self.heads = nn.ModuleList([head, *(factors or {}).values()])
        self._frozen = (prefix, *frozen)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        for part in self._frozen:
            part.requires_grad_(False).eval()

    @property
    def head(self) -> nn.Module:
        """The head of the label."""
        return self.heads[0]

    def train(self, mode: bool = True) -> "Classifier":
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

    def run_prefix(self, image: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b c p q"]:
        """The frozen prefix's output, which stays the same all through training."""
        return self.prefix(((image - self.mean) / self.std).to(self.mean.dtype))

    def encode(
        self, image: Float[Tensor, "b 1 h w"], stem: Float[Tensor, "b c p q"] | None = None
    ) -> Float[Tensor, "b d r s"]:
        """The last feature maps; a cached `stem` stands in for the prefix."""
        return self.body(self.run_prefix(image) if stem is None else stem.to(self.mean.dtype))

    def forward(
        self, image: Float[Tensor, "b 1 h w"], stem: Float[Tensor, "b c p q"] | None = None
    ) -> tuple[Float[Tensor, "b d r s"], Float[Tensor, "b k"]]:
        """Features (b, d, r, s) and logits (b, k)."""
        features = self.encode(image, stem)
        return features, self.head(features.clone())  # a head may work in place

    def tasks(
        self, features: Float[Tensor, "b d r s"]
    ) -> tuple[list[Float[Tensor, "b ..."]], list[Float[Tensor, "b _"]]]:
        """What goes into the last layer of every head, f_y, f_z1, ..., and the logits of each.

        The label's come first. Of a head that is no sequence of layers the part is what it sees.
        """
        whole = [head if isinstance(head, nn.Sequential) else [head] for head in self.heads]
        parts = [nn.Sequential(*layers[:-1])(features.clone()) for layers in whole]
        return parts, [layers[-1](part) for layers, part in zip(whole, parts, strict=True)]


def pooled_head(
    width: int, n_classes: int, *, hidden: int = 256, dropout: float = 0.5
) -> nn.Sequential:
    """The paper's head: mean over space, `hidden` ReLU units, dropout, one logit a class.

    With `hidden=0` the logits are linear in the pooled features, and Grad-CAM is an exact account
    of them (class activation mapping, Zhou et al. 2016).
    """
    if not hidden:
        return _pooled(nn.Linear(width, n_classes))
    layers = nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout)
    return _pooled(*layers, nn.Linear(hidden, n_classes))


def part_head(width: int, size: int, outputs: int) -> nn.Sequential:
    """A head with a part of the features of its own (MIMM, Fay et al. 2023).

    Mean over space, a linear layer to `size` features, a linear layer to the logits: all first
    layers together are MIMM's one layer, split into equal parts. There is no ReLU on a part, so
    that f_y is all that the logits are made of.
    """
    return _pooled(nn.Linear(width, size), nn.Linear(size, outputs))


def _pooled(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *layers)


def cache_stem(
    model: Classifier, images: np.ndarray, folder: str | Path, *, batch_size: int | None = None
) -> np.ndarray | None:
    """The prefix's outputs (n, c, p, q) for `images` (n, h, w; uint8), memory-mapped read-only.

    The file's name is a hash of the prefix, its scaling and the images, so another image or
    another weight is another file. It is written under a temporary name and renamed when whole: a
    run that is killed leaves nothing that would be taken for a cache. None where the model has no
    prefix or there are no images.
    """
    if not list(model.prefix.children()) or not len(images):
        return None
    state = model.prefix.state_dict() | {"mean": model.mean, "std": model.std}
    named = [part for item in state.items() for part in item]
    key = digest(repr(model.prefix), *named, f"{images.shape}{images.dtype}", *images)
    path = Path(folder) / f"stem-{key}.npy"
    shape = len(images), *_stem(model, images[:1]).shape[1:]

    def fill(file: BinaryIO) -> None:
        size = batch_size or at_once(model)
        for start in tqdm(range(0, len(images), size), "frozen prefix", unit="batch", disable=None):
            file.write(np.ascontiguousarray(_stem(model, images[start : start + size])))

    return kept_array(path, shape, np.float32, fill, what="outputs of the frozen prefix")


@torch.no_grad()
def layer_statistics(
    model: Classifier, images: np.ndarray, *, batch_size: int | None = None
) -> Float[np.ndarray, "n p"]:
    """Mean and standard deviation over space of many layers' maps, for `images` (n, h, w; uint8).

    The last layer of every shape counts, from a quarter of the image's resolution on and without
    the top: of MobileNetV2 the blocks 3, 6, 10, 13, 16 and 17. The model's mode is left as it was.
    """
    device = model.mean.device
    size = batch_size or at_once(model)
    layers, found = [*model.prefix.children(), *model.body.children()], []
    with modes_kept(model):
        model.eval()
        for start in range(0, len(images), size):
            image = torch.from_numpy(np.array(images[start : start + size])).to(device)
            maps = (image[:, None].float() / 255 - model.mean) / model.std
            by_shape = {tuple(maps.shape[1:]): maps for maps in _outputs(layers[:-1], maps)}
            small = [m for shape, m in by_shape.items() if 4 * shape[-1] <= image.shape[-1]]
            both = [side for m in small for side in (m.mean(dim=(2, 3)), m.std(dim=(2, 3)))]
            found.append(torch.cat(both, dim=1).cpu().numpy())
    return np.concatenate(found)


def _outputs(layers: Sequence[nn.Module], maps: Tensor) -> Iterator[Tensor]:
    for layer in layers:
        maps = layer(maps)
        yield maps.clone()  # the next layer may work in place


@torch.no_grad()
def _stem(model: Classifier, images: np.ndarray) -> Float[np.ndarray, "n c p q"]:
    image = torch.from_numpy(np.array(images)).to(model.mean.device)[:, None].float() / 255
    return model.run_prefix(image).float().cpu().numpy()
