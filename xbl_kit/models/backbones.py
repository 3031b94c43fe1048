"""The networks a classifier can be built on, and where their weights come from."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
import torchvision
from torch import nn

from xbl_kit.models.classifier import Classifier, part_head, pooled_head

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


class Parts(NamedTuple):
    """A backbone in parts: frozen prefix, trained body, its channels, frozen parts of the body,
    and whether it takes colour images, scaled as those of ImageNet."""

    prefix: nn.Module
    body: nn.Module
    width: int
    frozen: tuple[nn.Module, ...] = ()
    colour: bool = False


def build_classifier(
    backbone: str = "mobilenet_v2",
    n_classes: int = 4,
    *,
    weights: str | Path | None = None,
    hidden: int = 256,
    dropout: float = 0.5,
    seed: int = 0,
) -> Classifier:
    """A classifier on a named backbone, initialised from `seed` alone.

    `backbone` is one of `BACKBONES` or any network of torchvision's that ends in feature maps.
    `weights` is None (random), "imagenet" (torchvision's own file, downloaded once and checked
    against the hash in its name) or a file in torchvision's key layout, whose classifier is left
    out. MobileNetV2 is cut as in Hagos et al. 2023: the first 50 Keras layers are frozen if it has
    pre-trained weights, and nothing is frozen if it has none.

    Raises ValueError for an unknown backbone or weights that do not fit it.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        parts = _parts(backbone, weights)
        head = pooled_head(parts.width, n_classes, hidden=hidden, dropout=dropout)
    return _classifier(parts, head)


def build_multihead(
    backbone: str = "mobilenet_v2",
    n_classes: int = 4,
    factors: Mapping[str, int] | None = None,
    *,
    size: int = 4,
    weights: str | Path | None = None,
    seed: int = 0,
) -> Classifier:
    """A classifier with a head and a part of `size` features for the label and for each factor.

    `factors` maps each spurious factor to its number of levels; the label's head is the same
    whatever they are. See `build_classifier` and `classifier.part_head`.
    Raises ValueError for an unknown backbone, weights that do not fit it, or a size below 1.
    """
    if size < 1:
        raise ValueError(f"size={size}: expected at least 1 feature a task")
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        parts = _parts(backbone, weights)
        torch.manual_seed(seed)
        head = part_head(parts.width, size, n_classes)
        others = {f: part_head(parts.width, size, n) for f, n in (factors or {}).items()}
    return _classifier(parts, head, others)


def _parts(backbone: str, weights: str | Path | None) -> Parts:
    if backbone in BACKBONES:
        return BACKBONES[backbone](weights)
    if backbone in torchvision.models.list_models(module=torchvision.models):
        return torchvision_network(backbone, weights)
    raise ValueError(
        f"backbone={backbone!r}: expected {', '.join(BACKBONES)}, or a network of torchvision's "
        "such as resnet18 or densenet121"
    )


def _classifier(
    parts: Parts, head: nn.Module, factors: Mapping[str, nn.Module] | None = None
) -> Classifier:
    options = {"factors": factors, "frozen": parts.frozen} | (IMAGENET if parts.colour else {})
    model = Classifier(parts.prefix, parts.body, head, **options)
    return model.to(memory_format=torch.channels_last)  # a quarter faster on CPUs


def small_cnn(weights: str | Path | None = None) -> Parts:
    """Four convolutions for the classroom: 128 px to 128 maps of 16x16, each seeing 15x15 px.

    The last one is 1x1, so that a map's cell sees little more than itself: with a view of 31x31
    px a lung's edge sees the shoulder, and a map inside the lungs no longer means the shoulder is
    ignored.
    """
    plan = (1, 16, 3, 2), (16, 32, 3, 2), (32, 64, 3, 2), (64, 128, 1, 1)
    return _convolutions("small_cnn", weights, *plan)


def digit_cnn(weights: str | Path | None = None) -> Parts:
    """Four convolutions for digits of 28 px, to a map of one cell, which sees the whole digit."""
    plan = (1, 32, 5, 2), (32, 64, 3, 2), (64, 128, 3, 2), (128, 128, 7, 4)
    return _convolutions("digit_cnn", weights, *plan)


def mobilenet_v2(weights: str | Path | None = None) -> Parts:
    """MobileNetV2 (Sandler et al. 2018), cut after the 50th layer as Keras counts them.

    That layer is the depthwise BatchNorm inside `features[6]`. The cache holds what enters
    `features[6]`, five times less than what leaves the layer, whose parts are frozen in the body.
    """
    layers = _torchvision("mobilenet_v2", weights).features
    if weights is None:
        return Parts(nn.Sequential(), layers, 1280, colour=True)
    frozen = tuple(layers[6].conv[:2])
    return Parts(layers[:6], layers[6:], 1280, frozen, colour=True)


def torchvision_network(name: str, weights: str | Path | None = None) -> Parts:
    """Any of torchvision's networks up to its last feature maps, trained whole.

    Raises ValueError for one that has none (a plain vision transformer).
    """
    network = _torchvision(name, weights)
    layers = [layer for key, layer in network.named_children() if key not in _TOP]
    if isinstance(network, torchvision.models.DenseNet):  # the ReLU after its last BatchNorm
        layers.append(nn.ReLU())
    body = nn.Sequential(*layers).eval()
    try:
        with torch.no_grad():
            _, width, *_ = shape = body(torch.zeros(1, 3, 96, 96)).shape
    except (RuntimeError, AssertionError, NotImplementedError):
        shape = ()
    if len(shape) != 4:
        raise ValueError(f"backbone={name!r}: it has no last feature maps to explain")
    return Parts(nn.Sequential(), body.train(), width, colour=True)


# Named here where they are ours, or cut in two; all others are torchvision's.
BACKBONES: dict[str, Callable[[str | Path | None], Parts]] = {
    "small_cnn": small_cnn,
    "digit_cnn": digit_cnn,
    "mobilenet_v2": mobilenet_v2,
}
_TOP = ("avgpool", "flatten", "classifier", "fc", "head")  # what follows the feature maps


def _convolutions(name: str, weights: str | Path | None, *plan: tuple[int, int, int, int]) -> Parts:
    """Convolution, BatchNorm, ReLU for each (inputs, outputs, kernel, stride)."""
    if weights is not None:
        raise ValueError(f"weights={str(weights)!r}: there are none for {name}, expected None")
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
    missing, unexpected = network.load_state_dict(
        {key: value for key, value in state.items() if key.split(".")[0] not in _TOP}, strict=False
    )
    wrong = [key for key in missing if key.split(".")[0] not in _TOP] + list(unexpected)
    if wrong:
        raise ValueError(f"{weights}: not weights of torchvision's {name}, at {wrong[0]!r}")
    return network


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
