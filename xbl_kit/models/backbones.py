"""The networks a classifier can be built on, and where their weights come from."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torchvision
from torch import nn

from xbl_kit.models.classifier import Classifier, pooled_head

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


class Parts(NamedTuple):
    """A backbone in parts: frozen prefix, trained body, its channels, frozen parts of the body."""

    prefix: nn.Module
    body: nn.Module
    width: int
    frozen: tuple[nn.Module, ...] = ()


def build_classifier(
    backbone: str = "mobilenet_v2",
    n_classes: int = 4,
    *,
    weights: str | Path | None = None,
    hidden: int = 256,
    dropout: float = 0.5,
    seed: int = 0,
) -> Classifier:
    """A classifier on a named backbone (`BACKBONES`), initialised from `seed` alone.

    `weights` is None (random), "imagenet" (torchvision's own file, downloaded once and checked
    against the hash in its name) or a file in torchvision's key layout, whose classifier is left
    out. MobileNetV2 is cut as in Hagos et al. 2023: the first 50 Keras layers are frozen if it has
    pre-trained weights, and nothing is frozen if it has none.

    Raises ValueError for an unknown backbone or weights that do not fit it.
    """
    if backbone not in BACKBONES:
        raise ValueError(f"backbone={backbone!r}: expected one of {', '.join(BACKBONES)}")
    if weights is not None and backbone not in _NETWORKS:
        raise ValueError(f"weights={str(weights)!r}: there are none for {backbone}, expected None")
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        parts = BACKBONES[backbone](weights)
        head = pooled_head(parts.width, n_classes, hidden=hidden, dropout=dropout)
    scale = IMAGENET if backbone in _NETWORKS else {}
    model = Classifier(parts.prefix, parts.body, head, frozen=parts.frozen, **scale)
    return model.to(memory_format=torch.channels_last)  # a quarter faster on CPUs


def small_cnn(weights: None = None) -> Parts:
    """Four convolutions for the classroom: 128 px to 128 maps of 16x16, each seeing 15x15 px.

    The last one is 1x1, so that a map's cell sees little more than itself: with a view of 31x31
    px a lung's edge sees the shoulder, and a map inside the lungs no longer means the shoulder is
    ignored.
    """
    return _convolutions((1, 16, 3, 2), (16, 32, 3, 2), (32, 64, 3, 2), (64, 128, 1, 1))


def digit_cnn(weights: None = None) -> Parts:
    """Four convolutions for digits of 28 px, to a map of one cell, which sees the whole digit."""
    return _convolutions((1, 32, 5, 2), (32, 64, 3, 2), (64, 128, 3, 2), (128, 128, 7, 4))


def mobilenet_v2(weights: str | Path | None = None) -> Parts:
    """MobileNetV2 (Sandler et al. 2018), cut after the 50th layer as Keras counts them.

    That layer is the depthwise BatchNorm inside `features[6]`. The cache holds what enters
    `features[6]`, five times less than what leaves the layer, whose parts are frozen in the body.
    """
    layers = _torchvision("mobilenet_v2", weights).features
    if weights is None:
        return Parts(nn.Sequential(), layers, 1280)
    return Parts(layers[:6], layers[6:], 1280, frozen=tuple(layers[6].conv[:2]))


def resnet18(weights: str | Path | None = None) -> Parts:
    """ResNet-18 (He et al. 2016), trained whole."""
    body = nn.Sequential(*list(_torchvision("resnet18", weights).children())[:-2])
    return Parts(nn.Sequential(), body, 512)


def densenet121(weights: str | Path | None = None) -> Parts:
    """DenseNet-121 (Huang et al. 2017), trained whole, with the ReLU after its last BatchNorm."""
    body = nn.Sequential(_torchvision("densenet121", weights).features, nn.ReLU())
    return Parts(nn.Sequential(), body, 1024)


BACKBONES: dict[str, Callable[[str | Path | None], Parts]] = {
    "small_cnn": small_cnn,
    "digit_cnn": digit_cnn,
    "mobilenet_v2": mobilenet_v2,
    "resnet18": resnet18,
    "densenet121": densenet121,
}
_NETWORKS = {"mobilenet_v2", "resnet18", "densenet121"}


def _convolutions(*plan: tuple[int, int, int, int]) -> Parts:
    """Convolution, BatchNorm, ReLU for each (inputs, outputs, kernel, stride)."""
    layers = [
        layer
        for inputs, outputs, size, stride in plan
        for layer in (
            nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )
    ]
    return Parts(nn.Sequential(), nn.Sequential(*layers), plan[-1][1])


def _torchvision(name: str, weights: str | Path | None) -> nn.Module:
    network = torchvision.models.get_model(name)
    if weights is None:
        return network
    if weights == "imagenet":
        source = torchvision.models.get_model_weights(name).IMAGENET1K_V1
        state = source.get_state_dict(progress=True, check_hash=True)
    else:
        state = _read_state(Path(weights))
    state = {key: value for key, value in state.items() if not key.startswith(_TOP)}
    missing, unexpected = network.load_state_dict(state, strict=False)
    wrong = [key for key in missing if not key.startswith(_TOP)] + list(unexpected)
    if wrong:
        raise ValueError(f"{weights}: not weights of torchvision's {name}, at {wrong[0]!r}")
    return network


_TOP = ("classifier.", "fc.")


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such weights file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: not a file of weights that torch can read ({reason})") from error
    if not isinstance(state, dict):
        raise ValueError(f"{path}: holds a {type(state).__name__}, expected a state dict")
    return state
