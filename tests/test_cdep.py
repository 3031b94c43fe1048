"""CDEP's decomposition adds up, and is that of a loop over units."""

import pytest
import torch
from torch import nn

from xbl_kit.methods import Known
from xbl_kit.methods.cdep import cdep, decompose
from xbl_kit.models import build_classifier


def _shaken(model):
    """Running statistics, biases and scales that are none of 0 or 1."""
    random = torch.Generator().manual_seed(0)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.running_mean, layer.bias.data):
                tensor.copy_(0.3 * torch.randn(tensor.shape, generator=random))
            layer.running_var.copy_(1 + torch.rand(layer.running_var.shape, generator=random))
    return model.eval()


@pytest.mark.parametrize("backbone", ["small_cnn", "mobilenet_v2", "vgg11"])
def test_both_parts_add_up_to_the_logits(backbone):
    model = _shaken(build_classifier(backbone, 3))
    image = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    whole = (image - model.mean) / model.std
    network = nn.Sequential(model.prefix, model.body, model.head)
    left = torch.arange(64) < 20
    beta, gamma = decompose(network, (whole * left, whole * ~left))
    torch.testing.assert_close(beta + gamma, model(image)[1], atol=1e-4, rtol=1e-4)
    assert beta.abs().max() > 1e-4 and gamma.abs().max() > 1e-4
    beta, gamma = decompose(network, (0 * whole, whole))
    torch.testing.assert_close(gamma, model(image)[1], atol=1e-4, rtol=1e-4)
    assert (beta == 0).all(), "no pixel, no part"


def test_a_small_network_equals_a_loop_over_units():
    """Singh et al. 2018, eq. 4-8, on two linear layers with ReLU."""
    random = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    for parameter in network.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=random))
    x = torch.randn(4, generator=random)
    beta, gamma = [x[0].item(), x[1].item(), 0.0, 0.0], [0.0, 0.0, x[2].item(), x[3].item()]
    for number, layer in enumerate((network[0], network[2])):
        both = []
        for weight, bias in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True):
            b = sum(w * v for w, v in zip(weight, beta, strict=True))
            g = sum(w * v for w, v in zip(weight, gamma, strict=True))
            share = abs(b) / (abs(b) + abs(g))
            b, g = b + share * bias, g + (1 - share) * bias
            if number == 0:
                b, g = max(b, 0), max(b + g, 0) - max(b, 0)
            both.append((b, g))
        beta, gamma = zip(*both, strict=True)
    split = x * torch.tensor([1, 1, 0, 0]), x * torch.tensor([0, 0, 1, 1])
    found = decompose(network, tuple(side[None] for side in split))
    for one, other in zip(found, (beta, gamma), strict=True):
        torch.testing.assert_close(one[0], torch.tensor(other), atol=1e-4, rtol=1e-4)


def test_the_loss_is_a_softmax_over_the_two_parts_and_reaches_all(small_cohort):
    model = _shaken(build_classifier("small_cnn"))
    batch = small_cohort[torch.arange(0, 60, 6)]
    known = Known(small_cohort, batch.index, region="lungs")
    loss = cdep(model, known, weight=3.0)(batch)["explanation"]
    total = 0.0
    for i in range(len(batch.label)):
        image = 2 * batch.image[i : i + 1] - 1
        inside = batch.masks["lungs"][i]
        network = nn.Sequential(model.body, model.head)
        parts = decompose(network, (image * ~inside, image * inside))
        total += torch.cat(parts).softmax(dim=0)[0].mean() / len(batch.label)
    torch.testing.assert_close(loss, 3 * total)
    loss.backward()
    assert model.body[0].weight.grad.abs().sum() > 0
    before = model.body[1].running_mean.clone()
    cdep(model.train(), known).train()(batch)
    moved = 0.9 * before + 0.1 * model.body[0](2 * batch.image - 1).mean(dim=(0, 2, 3))
    torch.testing.assert_close(model.body[1].running_mean, moved)


def test_a_network_with_a_layer_of_no_rule_is_refused(small_cohort):
    known = Known(small_cohort, torch.arange(4))
    with pytest.raises(
        ValueError, match="cdep has no rule for BasicBlock: expected Conv2d, Linear"
    ):
        cdep(build_classifier("resnet18"), known)
