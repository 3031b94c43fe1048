"""Where the prefix is cut, what is frozen, and the cache of the prefix."""

from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision

from xbl_kit.methods import Erm
from xbl_kit.models import BACKBONES, Classifier, build_classifier, cache_stem
from xbl_kit.models.backbones import TOP
from xbl_kit.train import predict


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    """Random weights in torchvision's layout, as a user's own file."""
    path = tmp_path_factory.mktemp("weights") / "mobilenet.pth"
    torch.manual_seed(3)
    torch.save(torchvision.models.mobilenet_v2().state_dict(), path)
    return path


@pytest.fixture(scope="module")
def pretrained(weights_file):
    return build_classifier("mobilenet_v2", 4, weights=weights_file)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_forward_returns_features_and_logits(backbone):
    model = build_classifier(backbone, 3).eval()
    features, logits = model(torch.rand(2, 1, 64, 64))
    assert features.ndim == 4 and logits.shape == (2, 3)
    torch.testing.assert_close(model.head(features), logits)


def test_mobilenet_is_torchvisions_network_on_the_grey_image(weights_file, pretrained):
    reference = torchvision.models.mobilenet_v2()
    reference.load_state_dict(torch.load(weights_file, weights_only=True))
    image = torch.rand(2, 1, 64, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    colour = (image.repeat(1, 3, 1, 1) - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    features, _ = pretrained.eval()(image)
    torch.testing.assert_close(features, reference.eval().features(colour))


def test_mobilenet_is_frozen_up_to_the_fiftieth_keras_layer(pretrained):
    """Layers 0-49 of Keras' MobileNetV2 hold this many parameters, BatchNorm's scale included."""
    pretrained.train()
    frozen = {name for name, p in pretrained.named_parameters() if not p.requires_grad}
    trained = {name for name, p in pretrained.named_parameters() if p.requires_grad}
    assert {name for name in frozen if name.startswith("body.")} == {
        f"body.6.conv.{i}.{rest}" for i in (0, 1) for rest in ("0.weight", "1.weight", "1.bias")
    }
    assert "body.6.conv.2.weight" in trained and "heads.0.2.weight" in trained
    norms = [m for m in pretrained.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert sum(not norm.training for norm in norms) == 1 + 2 + 3 * 4 + 2
    assert not any(norm.training for norm in pretrained.prefix.modules())


def test_head_has_no_batch_norm():
    for backbone in BACKBONES:
        head = build_classifier(backbone).head
        assert not any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in head.modules())


def test_without_hidden_units_the_logits_are_linear_in_the_features():
    model = build_classifier("small_cnn", 3, hidden=0).eval()
    features, logits = model(torch.rand(2, 1, 32, 32))
    weight, bias = model.head[2].weight, model.head[2].bias
    torch.testing.assert_close(logits, features.mean(dim=(2, 3)) @ weight.T + bias)


def test_the_seed_alone_decides_the_weights_and_the_global_state_stays():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, same, other = (build_classifier("small_cnn", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one.head[2].weight, same.head[2].weight)
    assert not torch.equal(one.head[2].weight, other.head[2].weight)


def test_errors_name_what_was_given(tmp_path, weights_file):
    with pytest.raises(ValueError, match=r"'vgg'.*mobilenet_v2"):
        build_classifier("vgg")
    with pytest.raises(ValueError, match="small_cnn, expected None"):
        build_classifier("small_cnn", weights="imagenet")
    with pytest.raises(FileNotFoundError, match=r"absent\.pth: no such weights file"):
        build_classifier(weights=tmp_path / "absent.pth")
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"not a zip")
    with pytest.raises(ValueError, match=r"broken\.pth"):
        build_classifier(weights=broken)
    with pytest.raises(ValueError, match="not weights of torchvision's resnet18"):
        build_classifier("resnet18", weights=weights_file)


def test_without_internet_the_way_out_is_said(monkeypatch, tmp_path):
    def offline(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "urlopen", offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    words = r"resnet18 cannot be downloaded \(.*no network.*fetch resnet18-\w+\.pth.*--weights FILE"
    with pytest.raises(OSError, match=words) as error:
        build_classifier("resnet18", weights="imagenet")
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_imagenet_weights_load(imagenet_weights):
    model = build_classifier("mobilenet_v2", weights=imagenet_weights)
    assert model.prefix[0][0].weight.std() > 0.05


def test_the_cache_equals_the_prefix(pretrained, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64), dtype=np.uint8)
    stem = cache_stem(pretrained, images, tmp_path, batch_size=2)
    image = torch.from_numpy(images)[:, None] / 255
    pretrained.eval()
    torch.testing.assert_close(torch.from_numpy(stem.copy()), pretrained.run_prefix(image))
    with_cache = pretrained(image, torch.from_numpy(stem.copy()))[1]
    torch.testing.assert_close(with_cache, pretrained(image)[1])


def test_the_cache_is_found_again_and_only_for_the_same_images_and_weights(
    pretrained, weights_file, tmp_path
):
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    cache_stem(pretrained, images, tmp_path)
    (first,) = tmp_path.iterdir()
    written = first.stat().st_mtime_ns
    again = build_classifier("mobilenet_v2", 4, weights=weights_file, seed=9)
    cache_stem(again, images.copy(), tmp_path)
    assert [p.stat().st_mtime_ns for p in tmp_path.iterdir()] == [written]
    images[1, 2, 3] ^= 1
    cache_stem(pretrained, images, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    with torch.no_grad():
        again.prefix[0][0].weight[0, 0, 0, 0] += 1
    cache_stem(again, images, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_an_interrupted_cache_leaves_nothing_behind(pretrained, tmp_path, monkeypatch):
    images = np.zeros((4, 32, 32), dtype=np.uint8)
    calls = []
    run = pretrained.run_prefix

    def killed(image):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run(image)

    monkeypatch.setattr(pretrained, "run_prefix", killed)
    with pytest.raises(KeyboardInterrupt):
        cache_stem(pretrained, images, tmp_path, batch_size=1)
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    assert len(cache_stem(pretrained, images, tmp_path)) == 4


def test_without_a_prefix_or_images_there_is_no_cache(pretrained, tmp_path):
    images = np.zeros((2, 32, 32), dtype=np.uint8)
    assert cache_stem(build_classifier("small_cnn"), images, tmp_path) is None
    assert cache_stem(pretrained, images[:0], tmp_path) is None


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "shufflenet_v2_x0_5", "swin_t"])
def test_any_network_of_torchvisions_is_cut_before_its_pooling(name):
    """What the body gives, pooled and sent through the network's own last layers, is its answer."""
    model = build_classifier(name, 3).eval()
    network = torchvision.models.get_model(name).eval()
    ours = [tensor for key, tensor in model.state_dict().items() if key.startswith("body.")]
    theirs = [t for k, t in network.state_dict().items() if k.split(".")[0] not in TOP]
    for one, other in zip(theirs, ours, strict=True):
        one.copy_(other)
    image = torch.rand(2, 1, 96, 96)
    features, _ = model(image)
    colour = (image - model.mean) / model.std
    top = network.fc if hasattr(network, "fc") else getattr(network, "classifier", None)
    top = network.head if top is None else top
    torch.testing.assert_close(top(features.mean(dim=(2, 3))), network(colour))


def test_a_network_without_feature_maps_is_refused():
    with pytest.raises(ValueError, match="'vit_b_16': it has no last feature maps"):
        build_classifier("vit_b_16")


def test_a_head_need_not_be_a_sequence(small_cohort):
    """A person's own network, for example one that flattens the maps."""

    class Flat(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(128 * 4 * 4, 4)

        def forward(self, features):
            return self.linear(features.flatten(1))

    base = build_classifier("small_cnn")
    model = Classifier(base.prefix, base.body, Flat())
    seen = predict(model, small_cohort, torch.arange(5))
    assert seen.logits.shape == (5, 4) and seen.cam.shape == (5, 4, 4)
    assert Erm(model)(small_cohort[[0, 1]])["class"].requires_grad
