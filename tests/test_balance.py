"""Weights and scales of loss terms against naive formulas; none gives NaN at zero gradients."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from xbl_kit.losses import AttentionWeighter, GradNorm, clip_scale, even_scale


def _features(seed: int = 0) -> torch.Tensor:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(seed)).requires_grad_()


@pytest.mark.parametrize(("factor", "alpha"), [(5.0, 0.2), (1.0, 1.0), (0.5, 1.0)])
def test_clip_scale_is_the_smaller_norm_over_that_of_the_information(factor, alpha):
    features = _features()
    loss = features.square().sum()
    scale = clip_scale(loss, factor * loss, features)
    assert scale.item() == pytest.approx(alpha) and not scale.requires_grad
    # By hand, and the losses can still go backward.
    (loss + scale * factor * loss).backward()
    expected = 2 * features * (1 + min(1, factor))
    torch.testing.assert_close(features.grad, expected.detach())


def test_clip_scale_of_zero_or_absent_gradients_is_finite():
    features = _features()
    loss, zero, apart = features.square().sum(), (0 * features).sum(), torch.ones(())
    weight = torch.ones((), requires_grad=True)
    for nothing in (zero, apart, 2 * weight):
        assert clip_scale(loss, nothing, features) == 1
        assert clip_scale(nothing, loss, features) == 0
        assert clip_scale(nothing, nothing, features) == 0


@pytest.mark.parametrize("factor", [5.0, 0.5])
def test_even_scale_makes_the_information_pull_as_hard_as_the_class(factor):
    features = _features()
    loss = features.square().sum()
    scale = even_scale(loss, factor * loss, features)
    assert scale.item() == pytest.approx(1 / factor) and not scale.requires_grad
    for nothing in ((0 * features).sum(), torch.ones(())):
        assert even_scale(loss, nothing, features) == 0
        assert even_scale(nothing, loss, features) == 0


def _naive_gradnorm(weights, losses, largest, norms, *, alpha, lr, floor):
    n = len(weights)
    largest = [max(old, loss) for old, loss in zip(largest, losses, strict=True)]
    ratios = [loss / most for loss, most in zip(losses, largest, strict=True)]
    mean = sum(w * g for w, g in zip(weights, norms, strict=True)) / n
    moved = []
    for w, g, ratio in zip(weights, norms, ratios, strict=True):
        target = mean * (ratio / (sum(ratios) / n)) ** alpha
        moved.append(max(floor, w - lr * math.copysign(1, w * g - target) * g / mean))
    return [n * w / sum(moved) for w in moved], largest


def test_gradnorm_equals_the_naive_formula():
    features = _features()
    balance = GradNorm(3, alpha=1.5, lr=0.1, floor=0.05)
    weights, largest = [1.0] * 3, [0.0] * 3
    for factors in ((1.0, 4.0, 0.2), (0.9, 1.0, 0.1), (0.1, 0.9, 0.3)):
        losses = [f * features.square().sum() for f in factors]
        norms = [(2 * f * features).norm().item() for f in factors]
        found = balance(losses, features)
        values = [loss.item() for loss in losses]
        weights, largest = _naive_gradnorm(
            weights, values, largest, norms, alpha=1.5, lr=0.1, floor=0.05
        )
        torch.testing.assert_close(found, torch.tensor(weights))
        assert not found.requires_grad
    assert min(weights) != max(weights)


def test_gradnorm_evens_out_gradients_of_another_size():
    features = _features()
    balance = GradNorm(2, lr=0.1)
    loss = features.square().sum()
    for _ in range(100):
        weights = balance([loss, 9 * loss], features)
    torch.testing.assert_close(weights, torch.tensor([1.8, 0.2]), atol=0.15, rtol=0)


@pytest.mark.parametrize(("alpha", "rises"), [(1.5, True), (1.0, False)])
def test_gradnorm_lets_the_slower_loss_have_a_larger_gradient(alpha, rises):
    features = _features()
    move = features.sum() - features.sum().detach()
    balance = GradNorm(2, alpha=alpha)
    balance([1.0 + move, 1.0 + move], features)
    # Rates 1.6 and .4, gradients 1.8 and .2 of the mean: 1.6 < 1.8 < 1.6^1.5.
    weights = balance([1.0 + 9 * move, 0.25 + move], features)
    assert (weights[0] > 1) == rises


def test_gradnorm_of_zero_gradients_or_negative_losses_is_finite():
    features = _features()
    nothing = 0 * features.sum()
    balance = GradNorm(2)
    assert balance([nothing, nothing], features).equal(torch.ones(2))
    assert balance([features.square().sum(), nothing], features).isfinite().all()
    weights = balance([-features.square().sum(), features.square().sum()], features)
    assert weights.isfinite().all() and weights.sum().item() == pytest.approx(2)
    assert (weights > 0).all()


def test_gradnorm_moves_in_training_only_and_is_restored_from_its_state():
    features = _features()
    losses = [features.sum().square(), 9 * features.square().sum()]
    balance = GradNorm(2)
    moved = balance(losses, features)
    assert balance.eval()(losses, features).equal(moved)
    other = GradNorm(2)
    other.load_state_dict(balance.state_dict())
    assert other(losses, features).equal(balance.train()(losses, features))
    with pytest.raises(ValueError, match="1 losses for 2 weights"):
        balance(losses[:1], features)


def test_attention_equals_the_naive_formula():
    weigher = AttentionWeighter(4, width=3, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(5, 4, generator=generator)
    factors = torch.randn(3, 5, 4, generator=generator)
    rows = []
    for b in range(5):
        query = target[b] @ weigher.query
        scores = [math.exp((query @ (f[b] @ weigher.key)).item() / math.sqrt(3)) for f in factors]
        rows.append([score / sum(scores) for score in scores])
    found = weigher(target, factors)
    torch.testing.assert_close(found, torch.tensor(rows).mean(dim=0))
    assert found.sum().item() == pytest.approx(1)


def test_attention_gradient_and_degenerate_input():
    weigher = AttentionWeighter(2, generator=torch.Generator().manual_seed(0)).double()
    target = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    factors = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(weigher, (target, factors))
    assert weigher(target, factors[:1]).tolist() == [1.0]
    same = weigher(0 * target, factors)
    torch.testing.assert_close(same, torch.full((2,), 0.5, dtype=torch.float64))


def test_attention_of_the_player_that_maximises_looks_at_the_larger_information():
    weigher = AttentionWeighter(2, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(weigher.parameters(), lr=0.05)
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(32, 2, generator=generator)
    factors = torch.stack([torch.randn(32, 2, generator=generator), target])
    information = torch.tensor([0.0, 1.0])
    for _ in range(50):
        optimizer.zero_grad()
        (-(weigher(target, factors) * information).sum()).backward()
        optimizer.step()
    assert weigher(target, factors)[1] > 0.6


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_gradnorm_keeps_its_weights_where_a_loss_is_no_number(value):
    shared = torch.randn(4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    gradnorm = GradNorm(2)
    for _ in range(3):
        gradnorm([shared.square().sum(), 10 * shared.sum() ** 2], shared)
    before = {name: tensor.clone() for name, tensor in gradnorm.state_dict().items()}
    gradnorm([value * shared.square().sum(), shared.sum() ** 2], shared)
    assert all(torch.equal(gradnorm.state_dict()[name], was) for name, was in before.items())
    gradnorm([shared.square().sum(), 10 * shared.sum() ** 2], shared)
    assert not torch.equal(gradnorm.weight, before["weight"]), "and goes on with the next batch"
