"""No tensor is made on the CPU where a model lies elsewhere.

No GPU is needed: on torch's "meta" device tensors have shapes and no values, and one made on the
CPU beside them raises. What depends on values cannot be run there, and is named.
"""

import pytest
import torch
from test_contracts import CORRECTIONS, built
from torch import nn

from xbl_kit import explain, losses, metrics
from xbl_kit.methods import Method
from xbl_kit.models import build_classifier, build_multihead
from xbl_kit.run import RECIPES
from xbl_kit.train import predict

METHODS = [name for name in RECIPES if name not in CORRECTIONS]
B, K, SIDE = 6, 4, 8
# Methods with a step whose shapes depend on values: which, and what torch says of it.
ROWS = "nonzero|item"  # only the images of a class, or of known level
BY_VALUE = dict.fromkeys(["adversary", "club", "dcor", "hsic", "mimm-x"], ROWS)
BY_VALUE |= {"caipi": "no data"}  # other images of these rows are fetched from the data


def meta(*shape: int, levels: int = 0) -> torch.Tensor:
    """A tensor without values, of floats that require grad or of levels."""
    if levels:
        return torch.empty(shape, dtype=torch.int64, device="meta")
    return torch.empty(shape, device="meta").requires_grad_()


def on_host(method) -> None:
    """Numbers that count steps and what is in memory back to the CPU, which reads them."""
    for module in method.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if not buffer.ndim and not buffer.is_floating_point():
                setattr(module, name, torch.zeros_like(buffer, device="cpu"))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_trains_wherever_its_model_lies(name, small_cohort):
    method = built(name, small_cohort).to("meta")
    on_host(method)
    batch = small_cohort[torch.arange(B)].to("meta")
    for turn in method.turns:
        if name in BY_VALUE:
            with pytest.raises((RuntimeError, NotImplementedError), match=BY_VALUE[name]):
                method(batch, turn)
            return
        found = method.train()(batch, turn)
        assert {loss.device.type for loss in found.values()} == {"meta"}
        sum(found.values()).backward()
    assert any(parameter.grad is not None for parameter in method.parameters())


def test_what_is_made_on_the_cpu_is_noticed(small_cohort):
    def term(seen):
        return (seen.logits * torch.rand(B, K)).mean()

    method = Method(build_classifier("small_cnn", K).to("meta"), terms={"wrong": term})
    with pytest.raises(RuntimeError, match="meta"):
        method(small_cohort[torch.arange(B)].to("meta"))


def losses_of(kind: str):
    """A number, of tensors without values."""
    maps, masks = meta(B, SIDE, SIDE), torch.empty(B, SIDE, SIDE, dtype=torch.bool, device="meta")
    image, part, other = meta(B, 1, SIDE, SIDE), meta(B, SIDE), meta(B, SIDE)
    features = meta(B, 3, SIDE, SIDE)
    logits, label = features.mean(dim=(2, 3)) @ meta(3, K), meta(B, levels=K)
    return {
        "triplet": lambda: losses.exemplar_triplet_loss(maps, meta(2, SIDE, SIDE), maps[:1]),
        "mask": lambda: losses.mask_loss(maps, masks),
        "right reasons": lambda: losses.right_reasons_loss(maps, masks),
        "dcor": lambda: losses.distance_correlation(part, other),
        "hsic": lambda: losses.hsic(part, other, bandwidth=1.0),
        "hsic, median": lambda: losses.hsic(part, other),
        "clip": lambda: losses.clip_scale(part.sum(), part.square().sum(), part) * part.sum(),
        "even": lambda: losses.even_scale(part.sum(), part.square().sum(), part) * part.sum(),
        "grad-cam": lambda: explain.grad_cam(features, logits, label, create_graph=True),
        "log odds": lambda: explain.log_odds(logits),
        "scaled": lambda: explain.normalise(maps),
        "resized": lambda: explain.upsample(maps, (16, 16)),
        "image": lambda: explain.image_times_cam(image, maps),
        "image, small": lambda: explain.image_times_cam(image, maps, resolution="features"),
        "share": lambda: metrics.region_share(maps, masks),
        "class": lambda: nn.functional.cross_entropy(logits, label),
    }[kind]


KINDS = ["triplet", "mask", "right reasons", "dcor", "hsic", "hsic, median", "clip", "even"]
KINDS += ["grad-cam", "log odds", "scaled", "resized", "image", "image, small", "share", "class"]


@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_maps_stay_where_their_tensors_lie(kind):
    found = losses_of(kind)()
    assert found.device.type == "meta"
    found.sum().backward()


@pytest.mark.parametrize("target", ["label", "predicted"])
@pytest.mark.parametrize("heads", [{}, {"age": 2, "sex": 2}])
def test_a_prediction_is_made_where_the_model_lies(small_cohort, monkeypatch, target, heads):
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: tensor)  # there is nothing to fetch
    model = build_multihead("small_cnn", K, heads) if heads else build_classifier("small_cnn", K)
    seen = predict(model.to("meta"), small_cohort, torch.arange(B), target=target)
    assert {seen.logits.device.type, seen.cam.device.type} == {"meta"}
