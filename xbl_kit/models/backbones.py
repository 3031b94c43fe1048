"""The networks a classifier can be built on, and where their weights come from."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
import torchvision
from torch import nn

from xbl_kit.models.classifier import Classifier, part_head, pooled_head
from xbl_kit.weights import fill, read_weights

# Networks of ours: inputs, outputs, kernel and stride of each convolution.
CONVOLUTIONS = {
    # For the classroom: 128 px to 128 maps of 16x16. The last layer is 1x1, so that a map's cell
    # sees 15x15 px: with a view of 31x31 a lung's edge sees the shoulder, and a map inside the
    # lungs no longer means that the shoulder is ignored.
    "small_cnn": ((1, 16, 3, 2), (16, 32, 3, 2), (32, 64, 3, 2), (64, 128, 1, 1)),
    # For digits of 28 px, to maps of one cell, which sees the whole digit.
    "digit_cnn": ((1, 32, 5, 2), (32, 64, 3, 2), (64, 128, 3, 2), (128, 128, 7, 4)),
}
BACKBONES = (*CONVOLUTIONS, "mobilenet_v2")  # and any other of torchvision's
OWN = ("heads", "mean", "std")  # what the kit's own files have beside the layers
TOP = ("avgpool", "flatten", "classifier", "fc", "head")  # what follows torchvision's feature maps
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
    against the hash in its name) or a file of torchvision's network or of a classifier that the kit
    saved; heads are left out. MobileNetV2 is cut as in Hagos et al. 2023: the first 50 Keras layers
    are frozen if it has pre-trained weights, and nothing is frozen if it has none.

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
    if backbone in CONVOLUTIONS:
        parts = _convolutions(*CONVOLUTIONS[backbone])
        if weights is not None and not Path(weights).is_file():
            what = f"weights={str(weights)!r}: there are none for {backbone}"
            raise ValueError(f"{what}, expected None or a file that the kit saved")
        if weights is not None:
            where = f"{weights}: not weights of {backbone}"
            fill(nn.ModuleDict({"body": parts.body}), read_weights(weights), where, skip=OWN)
        return parts
    if backbone not in torchvision.models.list_models(module=torchvision.models):
        known = ", ".join(BACKBONES)
        others = "a network of torchvision's such as resnet18 or densenet121"
        raise ValueError(f"backbone={backbone!r}: expected {known}, or {others}")
    network = _torchvision(backbone, weights)
    if backbone == "mobilenet_v2" and weights is not None:
        return _cut_mobilenet(network.features)
    layers = _layers(network)
    if isinstance(network, torchvision.models.DenseNet):  # the ReLU after its last BatchNorm
        layers.append(nn.ReLU())
    body = nn.Sequential(*layers).eval()
    try:
        with torch.no_grad():
            _, width, _, _ = body(torch.zeros(1, 3, 96, 96)).shape
    except (RuntimeError, AssertionError, NotImplementedError, ValueError):
        raise ValueError(f"backbone={backbone!r}: it has no last feature maps") from None
    return Parts(nn.Sequential(), body.train(), width, colour=True)


def _cut_mobilenet(layers: nn.Sequential) -> Parts:
    """MobileNetV2 (Sandler et al. 2018), cut after the 50th layer as Keras counts them.

    That layer is the depthwise BatchNorm inside `features[6]`. The cache holds what enters
    `features[6]`, five times less than what leaves the layer, whose parts are frozen in the body.
    """
    return Parts(layers[:6], layers[6:], 1280, tuple(layers[6].conv[:2]), colour=True)


def _convolutions(*plan: tuple[int, int, int, int]) -> Parts:
    """Convolution, BatchNorm, ReLU for each (inputs, outputs, kernel, stride)."""
    layers: list[nn.Module] = []
    for inputs, outputs, size, stride in plan:
        layers.append(nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False))
        layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
    return Parts(nn.Sequential(), nn.Sequential(*layers), plan[-1][1])


def _classifier(
    parts: Parts, head: nn.Module, factors: Mapping[str, nn.Module] | None = None
) -> Classifier:
    options = {"factors": factors, "frozen": parts.frozen} | (IMAGENET if parts.colour else {})
    model = Classifier(parts.prefix, parts.body, head, **options)
    return model.to(memory_format=torch.channels_last)  # a quarter faster on CPUs


def _torchvision(name: str, weights: str | Path | None) -> nn.Module:
    network = torchvision.models.get_model(name)
    if weights is None:
        return network
    state = _imagenet(name) if weights == "imagenet" else read_weights(weights)
    what = f"{weights}: not weights of torchvision's {name}"
    fill(_named_as(state, network), state, what, skip=(*OWN, *TOP))
    return network


def _imagenet(name: str) -> dict[str, torch.Tensor]:
    source = torchvision.models.get_model_weights(name).IMAGENET1K_V1
    try:
        return source.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:  # no network; no room; not the file of that hash
        file, folder = source.url.rpartition("/")[2], Path(torch.hub.get_dir(), "checkpoints")
        what = f"the ImageNet weights of {name} cannot be downloaded ({error})"
        out = f"fetch {file} elsewhere and give it by --weights FILE, or put it into {folder}"
        raise OSError(f"{what}; {out}; --weights none does without") from None


def _named_as(state: Collection[str], network: nn.Module) -> nn.Module:
    """A network of torchvision's, or where the names of weights are those of the kit's own
    classifiers, its layers as these have them: a MobileNetV2 may have been cut."""
    kinds, layers = {name.split(".")[0] for name in state}, _layers(network)
    if "prefix" in kinds and isinstance(network, torchvision.models.MobileNetV2):
        cut = _cut_mobilenet(*layers)
        return nn.ModuleDict({"prefix": cut.prefix, "body": cut.body})
    return nn.ModuleDict({"body": nn.Sequential(*layers)}) if "body" in kinds else network


def _layers(network: nn.Module) -> list[nn.Module]:
    return [layer for name, layer in network.named_children() if name not in TOP]
