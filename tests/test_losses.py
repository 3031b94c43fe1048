"""Every loss: value by a naive second way, errors, shape, gradient, degenerate input."""

import pytest
import torch
from torch.autograd import gradcheck

from xbl_kit.losses import exemplar_triplet_loss, mask_loss, right_reasons_loss


def _maps(n: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, 4, generator=generator, dtype=torch.float64)


def _naive_triplet(explanation, good, bad, margin):
    losses = []
    for one in explanation:
        to_good = sum(((one - other) ** 2).sum() ** 0.5 for other in good) / len(good)
        to_bad = sum(((one - other) ** 2).sum() ** 0.5 for other in bad) / len(bad)
        losses.append(max(to_good - to_bad + margin, torch.zeros(())))
    return losses


@pytest.mark.parametrize(("n_good", "n_bad"), [(1, 1), (3, 2)])
def test_triplet_equals_the_naive_formula(n_good, n_bad):
    explanation, good, bad = _maps(5, 0), _maps(n_good, 1), _maps(n_bad, 2)
    naive = torch.stack(_naive_triplet(explanation, good, bad, 0.2))
    assert 0 < (naive == 0).sum() < 5 or naive.std() > 0
    for reduction, value in (("none", naive), ("sum", naive.sum()), ("mean", naive.mean())):
        ours = exemplar_triplet_loss(explanation, good, bad, margin=0.2, reduction=reduction)
        torch.testing.assert_close(ours, value)


def test_triplet_gradient():
    explanation = _maps(3, 0).requires_grad_()
    assert gradcheck(lambda e: exemplar_triplet_loss(e, _maps(1, 1), _maps(1, 2)), (explanation,))


def test_no_violated_triplet_gives_zero_with_a_graph():
    good = _maps(1, 1)
    explanation = good.clone().requires_grad_()
    loss = exemplar_triplet_loss(explanation, good, good + 10)
    assert loss == 0
    loss.backward()
    assert (explanation.grad == 0).all()


def test_an_explanation_that_equals_its_exemplar_has_a_finite_gradient():
    good = _maps(1, 1)
    explanation = good.clone().requires_grad_()
    exemplar_triplet_loss(explanation, good, good, margin=1.0).backward()
    assert explanation.grad.isfinite().all()


def test_triplet_refuses_other_sizes():
    with pytest.raises(ValueError, match=r"one size.*\(3, 4\).*\(4, 3\)"):
        exemplar_triplet_loss(_maps(2, 0), _maps(1, 1), _maps(1, 2).transpose(1, 2))


def test_mask_loss_equals_the_naive_formula():
    cam, wrong = _maps(4, 0), _maps(4, 1) > 0.5
    naive = sum(float(c) for c, w in zip(cam.flatten(), wrong.flatten(), strict=True) if w)
    assert mask_loss(cam, wrong).item() == pytest.approx(naive / cam.numel())
    assert gradcheck(lambda c: mask_loss(c, wrong), (cam.requires_grad_(),))
    assert mask_loss(cam, torch.zeros_like(wrong)) == 0


def test_right_reasons_loss_equals_the_naive_formula():
    gradient, wrong = _maps(4, 0) - 0.5, _maps(4, 1) > 0.5
    naive = sum(
        sum(float(g) ** 2 for g, w in zip(one.flatten(), mask.flatten(), strict=True) if w)
        for one, mask in zip(gradient, wrong, strict=True)
    )
    assert right_reasons_loss(gradient, wrong).item() == pytest.approx(naive / 4)
    assert gradcheck(lambda g: right_reasons_loss(g, wrong), (gradient.requires_grad_(),))
    assert right_reasons_loss(gradient, torch.zeros_like(wrong)) == 0


@pytest.mark.parametrize("loss", [mask_loss, right_reasons_loss])
def test_masks_of_another_size_are_refused(loss):
    with pytest.raises(ValueError, match=r"\(2, 3, 4\).*\(2, 4, 3\).*upsample"):
        loss(_maps(2, 0), (_maps(2, 1) > 0.5).transpose(1, 2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened(dtype):
    generator = torch.Generator().manual_seed(0)
    maps, wrong = torch.rand(3, 8, 8, generator=generator).to(dtype), torch.rand(3, 8, 8) > 0.5
    for loss in (
        lambda maps: exemplar_triplet_loss(maps, maps[:1], maps[1:]),
        lambda maps: mask_loss(maps, wrong),
        lambda maps: right_reasons_loss(300 * maps, wrong),  # float16 ends at 65504
    ):
        assert loss(maps).dtype == torch.float32 and loss(maps).isfinite()
    assert torch.equal(mask_loss(maps, wrong), mask_loss(maps.float(), wrong))


def test_the_margin_is_1_unless_said_otherwise():
    explanation, good, bad = _maps(3, 0), _maps(1, 1), _maps(2, 2)
    losses = [exemplar_triplet_loss(explanation, good, bad, **o) for o in ({}, {"margin": 1.0})]
    assert losses[0] == losses[1] != exemplar_triplet_loss(explanation, good, bad, margin=2.0)
