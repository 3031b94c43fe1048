"""Every metric against a loop, another library, and its limits."""

from math import isnan

import numpy as np
import pytest
import torch

from xbl_kit import metrics


def _case(n=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 20, 15, generator=generator), torch.rand(
        n, 20, 15, generator=generator
    ) > 0.6


@pytest.mark.parametrize("tau", [0.05, 0.3])
def test_activation_precision_equals_a_naive_loop(tau):
    cams, masks = _case()
    cams[0] = cams[0].round(decimals=1)  # ties
    cams[1] = 0
    shares = []
    for cam, mask in zip(cams.numpy().astype(np.float64), masks.numpy(), strict=True):
        threshold = np.percentile(cam, 100 * (1 - tau))
        inside = total = 0
        for y, x in np.ndindex(cam.shape):
            if cam[y, x] >= threshold - 1e-7:
                total += 1
                inside += bool(mask[y, x])
        shares.append(inside / total)
    assert metrics.activation_precision(cams, masks, tau) == pytest.approx(np.mean(shares))


def test_activation_precision_equals_quantus_without_ties():
    from quantus import TopKIntersection

    cams, masks = _case()
    k = int(0.05 * cams[0].numel())
    topk = TopKIntersection(k=k, disable_warnings=True, display_progressbar=False)
    scores = topk.evaluate_batch(a_batch=cams[:, None].numpy(), s_batch=masks[:, None].numpy())
    assert metrics.activation_precision(cams, masks, 0.05) == pytest.approx(np.mean(scores))


def test_activation_precision_at_its_limits():
    cams, masks = _case()
    chance = metrics.activation_precision_chance(masks)
    assert metrics.activation_precision(torch.zeros_like(cams), masks) == pytest.approx(chance)
    assert metrics.activation_precision(masks.float() + cams, masks) == 1
    assert metrics.activation_precision(cams - masks.float(), masks) == 0
    assert isnan(metrics.activation_precision(cams[:0], masks[:0]))
    random = torch.rand(400, 20, 15, generator=torch.Generator().manual_seed(1))
    repeated = masks[:1].expand(400, -1, -1)
    share = masks[:1].float().mean().item()
    assert metrics.activation_precision(random, repeated) == pytest.approx(share, abs=0.03)


def test_activation_precision_over_many_batches_is_the_mean():
    cams, masks = _case(130)
    each = [metrics.activation_precision(cams[i : i + 1], masks[i : i + 1]) for i in range(130)]
    assert metrics.activation_precision(cams, masks) == pytest.approx(np.mean(each))


def test_bad_arguments_are_named():
    cams, masks = _case()
    with pytest.raises(ValueError, match=r"tau=5.*0\.05"):
        metrics.activation_precision(cams, masks, 5.0)
    with pytest.raises(ValueError, match="upsample"):
        metrics.activation_precision(cams[:, ::2], masks)
    with pytest.raises(ValueError, match="upsample"):
        metrics.region_share(cams[:, ::2], masks)


def test_region_share():
    cams, masks = _case()
    cams[2] = 0
    share = metrics.region_share(cams, masks)
    for i in (0, 1, 3):
        inside = sum(float(v) for v, m in zip(cams[i].flatten(), masks[i].flatten()) if m)  # noqa: B905
        assert share[i].item() == pytest.approx(inside / cams[i].sum().item(), rel=1e-5)
    assert share[2].isnan()


def test_accuracy_by_group_and_of_the_worst():
    label = torch.tensor([0, 0, 0, 1, 1, 1])
    prediction = torch.tensor([0, 1, 0, 1, 1, 0])
    age = torch.tensor([0, 0, 1, 0, -1, 1])
    groups = metrics.group_accuracy(
        prediction, label, {"age": age}, classes=("ill", "well"), levels={"age": ("old", "young")}
    )
    assert groups == {
        "ill/old": {"n": 2, "accuracy": 0.5},
        "ill/young": {"n": 1, "accuracy": 1},
        "well/old": {"n": 1, "accuracy": 1},
        "well/unknown": {"n": 1, "accuracy": 1},
        "well/young": {"n": 1, "accuracy": 0},
    }
    number = label * 3 + age
    assert metrics.worst_group_accuracy(prediction, label, number) == 0
    assert metrics.worst_group_accuracy(prediction[:5], label[:5], number[:5]) == 0.5
    assert metrics.accuracy(prediction, label) == pytest.approx(4 / 6)


def test_no_images_give_nan():
    none = torch.zeros(0, dtype=torch.int64)
    assert isnan(metrics.accuracy(none, none))
    assert isnan(metrics.worst_group_accuracy(none, none, none))
