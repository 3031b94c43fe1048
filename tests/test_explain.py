"""Grad-CAM against two other libraries and the definition; its gradient; its limits."""

import pytest
import torch

from xbl_kit import explain
from xbl_kit.models import build_classifier


def _double_model(backbone: str, seed: int = 0):
    model = build_classifier(backbone, 4, seed=seed).double().eval()
    generator = torch.Generator().manual_seed(seed)
    return model, torch.rand(3, 1, 64, 64, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "densenet121", "resnet18"])
def test_grad_cam_equals_captum_and_pytorch_grad_cam(backbone):
    from captum.attr import LayerGradCam
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model, image = _double_model(backbone)
    target = torch.tensor([0, 3, 2])
    ours = explain.grad_cam(*model(image), target)

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, image):
            return self.model(image)[1]

    captum = LayerGradCam(Logits(), model.body).attribute(
        image, target=target, relu_attributions=True
    )
    torch.testing.assert_close(ours, captum[:, 0].detach(), rtol=0, atol=1e-9)

    class Unscaled(GradCAM):
        """The package's maps as they are before it resizes and scales them for display."""

        def compute_cam_per_layer(self, input_tensor, targets, eigen_smooth):
            activations = self.activations_and_grads.activations[0].cpu().data.numpy()
            gradients = self.activations_and_grads.gradients[0].cpu().data.numpy()
            layer = self.target_layers[0]
            cam = self.get_cam_image(input_tensor, layer, targets, activations, gradients, False)
            return [cam.clip(min=0)[:, None]]

        def aggregate_multi_layers(self, cam_per_target_layer):
            return cam_per_target_layer[0][:, 0]

    with Unscaled(Logits(), [model.body]) as theirs:
        maps = theirs(image, [ClassifierOutputTarget(int(i)) for i in target])
    torch.testing.assert_close(ours, torch.as_tensor(maps).double(), rtol=0, atol=1e-9)


def test_grad_cam_is_its_definition():
    model, image = _double_model("small_cnn")
    features, logits = model(image)
    cam = explain.grad_cam(features, logits, torch.tensor([1, 1, 0]))
    for i, target in enumerate((1, 1, 0)):
        (gradient,) = torch.autograd.grad(logits[i, target], features, retain_graph=True)
        naive = sum(gradient[i, c].mean() * features[i, c] for c in range(features.shape[1]))
        torch.testing.assert_close(cam[i], naive.clamp(min=0).detach())


def test_a_batch_equals_its_images_one_by_one():
    model, image = _double_model("mobilenet_v2")
    target = torch.tensor([0, 3, 2])
    together = explain.grad_cam(*model(image), target)
    alone = [explain.grad_cam(*model(image[i : i + 1]), target[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_log_odds_are_those_of_the_softmax_and_give_its_map():
    model, image = _double_model("small_cnn")
    target = torch.tensor([0, 3, 2])
    features, logits = model(image)
    p = logits.softmax(dim=1)
    torch.testing.assert_close(explain.log_odds(logits), (p / (1 - p)).log())
    of_odds = explain.grad_cam(features, explain.log_odds(logits), target)
    of_softmax = explain.grad_cam(features, p, target)
    chosen = p.gather(1, target[:, None])[:, :, None]
    torch.testing.assert_close(of_odds * chosen * (1 - chosen), of_softmax)
    sure = torch.tensor([[900.0, 0.0, -900.0]])
    assert explain.log_odds(sure).tolist() == [[900.0, -900.0, -1800.0]]


def test_head_and_body_get_a_gradient_through_the_map():
    model, image = _double_model("small_cnn")
    cam = explain.grad_cam(*model(image), torch.tensor([0, 1, 2]), create_graph=True)
    cam.square().sum().backward()
    for part in (model.head[2].weight, model.head[5].weight, model.body[0].weight):
        assert part.grad is not None and part.grad.abs().sum() > 0


def test_gradcheck_through_the_map():
    torch.manual_seed(0)
    first = torch.rand(5, 3, dtype=torch.float64, requires_grad=True)
    second = torch.rand(2, 5, dtype=torch.float64, requires_grad=True)
    features = torch.rand(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)

    def cam(features, first, second):
        hidden = (features.mean(dim=(2, 3)) @ first.T).tanh()
        target = torch.tensor([0, 1])
        return explain.grad_cam(features, hidden @ second.T, target, create_graph=True)

    assert cam(features, first, second).min() > 0  # away from the kink of the ReLU
    assert torch.autograd.gradcheck(cam, (features, first, second))


def test_without_create_graph_the_map_is_detached_and_the_graph_stays():
    model, image = _double_model("small_cnn")
    features, logits = model(image)
    assert not explain.grad_cam(features, logits, torch.tensor([0, 1, 2])).requires_grad
    logits.sum().backward()


def test_grad_cam_without_a_graph_says_what_to_do():
    model, image = _double_model("small_cnn")
    with torch.no_grad():
        features, logits = model(image)
    with pytest.raises(RuntimeError, match=r"features\.requires_grad_"):
        explain.grad_cam(features, logits, torch.tensor([0, 1, 2]))


def test_input_gradient_is_the_gradient_of_the_summed_log_probabilities():
    model, image = _double_model("small_cnn")
    image.requires_grad_()
    gradient = explain.input_gradient(image, model(image)[1])
    step = 1e-4
    scores = []
    for sign in (1, -1):
        nudged = image.detach().clone()
        nudged[1, 0, 20, 30] += sign * step
        scores.append(model(nudged)[1][1].log_softmax(0).sum().item())
    slope = (scores[0] - scores[1]) / (2 * step)
    assert slope == pytest.approx(gradient[1, 20, 30].item(), rel=1e-3)


def test_normalise():
    cam = torch.tensor([[[0.0, 2.0], [4.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert explain.normalise(cam).amax(dim=(1, 2)).tolist() == [1, 0]
    assert explain.normalise(cam, "l2").square().sum(dim=(1, 2)).tolist() == pytest.approx([1, 0])
    assert explain.normalise(cam, "none") is cam
    with pytest.raises(ValueError, match="'sum'"):
        explain.normalise(cam, "sum")


@pytest.mark.parametrize("by", ["max", "l2"])
def test_normalise_has_a_finite_gradient_at_zero(by):
    cam = torch.zeros(1, 2, 2, dtype=torch.float64, requires_grad=True)
    explain.normalise(cam, by).sum().backward()
    assert cam.grad.isfinite().all()


def test_image_times_cam_at_both_resolutions():
    image = torch.rand(2, 1, 8, 8)
    cam = torch.rand(2, 4, 4)
    fine = explain.image_times_cam(image, cam)
    scaled = cam / cam.amax(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(fine, image[:, 0] * explain.upsample(scaled, (8, 8)))
    coarse = explain.image_times_cam(image, cam, resolution="features", by="none")
    naive = image[:, 0].unfold(1, 2, 2).unfold(2, 2, 2).mean(dim=(3, 4)) * cam
    torch.testing.assert_close(coarse, naive)
    with pytest.raises(ValueError, match="'feature'"):
        explain.image_times_cam(image, cam, resolution="feature")


@pytest.mark.parametrize("size", [(7, 9), (64, 48), (3, 2), (1, 1)])
def test_upsample_is_bilinear_interpolation(size):
    cam = torch.rand(2, 4, 5, dtype=torch.float64, requires_grad=True)
    options = {"mode": "bilinear", "align_corners": False}
    expected = torch.nn.functional.interpolate(cam[:, None], size, **options)[:, 0]
    torch.testing.assert_close(explain.upsample(cam, size), expected)
    assert torch.autograd.gradcheck(lambda cam: explain.upsample(cam, size), cam)


def test_upsample_keeps_a_map_of_the_wanted_size():
    cam = torch.rand(2, 4, 4)
    assert explain.upsample(cam, (4, 4)) is cam
    assert explain.upsample(cam, (7, 9)).shape == (2, 7, 9)


HALF = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])


@HALF
@pytest.mark.parametrize("by", ["max", "l2"])
def test_a_map_of_zeros_stays_one(dtype, by):
    zeros, images = torch.zeros(2, 7, 7, dtype=dtype), torch.rand(2, 1, 28, 28).to(dtype)
    for found in (
        explain.normalise(zeros, by),
        explain.image_times_cam(images, zeros, by=by),
        explain.image_times_cam(images, zeros, by=by, resolution="features"),
    ):
        assert found.dtype == torch.float32 and not found.any()


@HALF
def test_maps_are_widened(dtype):
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(2, 3, 4, 4, generator=generator).to(dtype).requires_grad_()
    logits = (features * torch.tensor([1.0, 2, -1], dtype=dtype)[:, None, None]).mean((2, 3))
    for create_graph in (False, True):
        cam = explain.grad_cam(features, logits, torch.tensor([0, 2]), create_graph=create_graph)
        assert cam.dtype == torch.float32 and cam.requires_grad == create_graph
    image = torch.rand(2, 1, 4, 4, generator=generator).to(dtype).requires_grad_()
    scores = torch.cat([image.flatten(1).sum(1, keepdim=True), image[:, 0, 0, :1]], 1)
    gradient = explain.input_gradient(image, scores)
    assert gradient.dtype == explain.log_odds(scores.detach()).dtype == torch.float32
    maps = torch.rand(2, 3, 3, generator=generator)
    for found, wide in (
        (
            explain.upsample(maps.to(dtype), (6, 6)),
            explain.upsample(maps.to(dtype).float(), (6, 6)),
        ),
        (explain.upsample(maps.to(dtype), (3, 3)), maps.to(dtype).float()),
        (explain.normalise(maps.to(dtype), "none"), maps.to(dtype).float()),
    ):
        assert found.dtype == torch.float32 and torch.equal(found, wide)
    assert explain.normalise(maps.double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("features", "logits", "target", "words"),
    [
        ((2, 197, 64), (2, 4), [0, 1], r"\(2, 197, 64\), expected \(b, c, h, w\); of a ViT"),
        ((2, 64), (2, 4), [0, 1], r"\(2, 64\), expected"),
        ((2, 1, 8, 4, 4), (2, 4), [0, 1], r"\(2, 1, 8, 4, 4\), expected"),
        (
            (2, 8, 4, 4),
            (2, 1),
            [0, 1],
            r"target 1, expected 0 to 0 of logits \(2, 1\); of a single logit z give torch.cat",
        ),
        ((2, 8, 4, 4), (2, 1), [0, -1], r"target -1, expected 0 to 0 of logits \(2, 1\)"),
        ((2, 8, 4, 4), (2,), [0, 1], r"logits are \(2,\), expected \(b, k\); of a single logit z"),
        ((2, 8, 4, 4), (2, 9, 4), [0, 1], r"logits are \(2, 9, 4\), .* of tokens their mean"),
        ((2, 8, 4, 4), (2, 4), [0, 4], "target 4, expected 0 to 3 of logits"),
        ((2, 8, 4, 4), (2, 4), [-1, 3], "target -1, expected 0 to 3 of logits"),
        ((2, 8, 4, 4), (2, 4), [0], r"target is \(1,\), expected \(2,\): one for each image"),
        ((2, 8, 4, 4), (2, 4), [0, 1, 2], r"target is \(3,\), expected \(2,\)"),
        ((2, 8, 4, 4), (2, 4), [[0], [1]], r"target is \(2, 1\), expected \(2,\)"),
    ],
)
def test_what_has_no_map_is_named(features, logits, target, words):
    # the tests' type checker would be there first
    with pytest.raises(ValueError, match=words) as error:
        explain.require_maps(torch.zeros(features), torch.zeros(logits), torch.tensor(target))
    assert "\n" not in str(error.value)


def test_one_logit_or_no_image_is_explained():
    for images in (2, 0):
        features, none = torch.ones(images, 1, 2, 2).requires_grad_(), torch.zeros(images).long()
        cam = explain.grad_cam(features, features.mean((2, 3)), none)
        assert torch.equal(cam, torch.full((images, 2, 2), 0.25))


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 0.2, 5.0])
def test_faint_maps_are_scaled_as_others_are(scale):
    cam = scale * torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(explain.normalise(cam).amax(dim=(1, 2)), torch.ones(3))
    assert torch.allclose(explain.normalise(cam, "l2").square().sum(dim=(1, 2)), torch.ones(3))
    assert torch.equal(explain.normalise(cam), explain.normalise(cam, "max"))


def test_a_gradient_is_detached_and_its_graph_kept():
    image = torch.rand(2, 1, 4, 4).requires_grad_()
    logits = image.flatten(1)[:, :3] ** 2
    one, two = explain.input_gradient(image, logits), explain.input_gradient(image, logits)
    assert torch.equal(one, two) and not one.requires_grad
    assert explain.input_gradient(image, logits, create_graph=True).requires_grad


@pytest.mark.parametrize("alone", ["features", "logits", "neither"])
def test_features_and_logits_both_need_a_gradient(alone):
    features = torch.rand(2, 3, 4, 4).requires_grad_(alone == "features")
    logits = torch.rand(2, 4).requires_grad_(alone == "logits")
    with pytest.raises(RuntimeError, match="grad_cam needs features that require grad"):
        explain.grad_cam(features, logits, torch.tensor([0, 1]))


def test_upsampling_is_bilinear_between_the_centres_of_pixels():
    found = explain.upsample(torch.tensor([[[0.0, 1.0]]]), (1, 4))
    assert torch.allclose(found, torch.tensor([[[0.0, 0.25, 0.75, 1.0]]]))


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 4, 3), (1, 4, 4), (3, 4, 4)])
def test_maps_and_masks_of_two_sizes_are_refused(shape):
    explain.require_one_size(torch.zeros(2, 4, 4), torch.zeros(2, 4, 4))
    with pytest.raises(ValueError, match=r"maps are \(2, 4, 4\) and masks"):
        explain.require_one_size(torch.zeros(2, 4, 4), torch.zeros(shape))
