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


def _features(n=400, shift=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    level = torch.arange(n) % 2
    features = torch.randn(n, 3, generator=generator)
    features[:, 1] += shift * (2 * level - 1)
    return features, level


def test_a_probe_finds_what_is_there_and_only_that():
    nothing = metrics.probe(*_features())
    assert nothing["accuracy"] < nothing["null_95"] + 0.03 and 0.5 < nothing["null_95"] < 0.6
    shifted = metrics.probe(*_features(shift=1.0))
    # Two normals two standard deviations apart are told from each other in Phi(1) of all cases.
    assert shifted["accuracy"] == pytest.approx(0.841, abs=0.05) and shifted["null_95"] < 0.6
    assert metrics.probe(*_features(shift=1.0)) == shifted


def test_an_mlp_finds_what_a_line_cannot():
    features, level = _features(800)
    features[:, 0] = features[:, 0].sign() * (1 + 0.1 * features[:, 1])
    features[:, 2] = features[:, 0].sign() * (2 * level - 1) + 0.1 * features[:, 2]
    linear, mlp = (
        metrics.probe(features, level, kind=kind, permutations=3) for kind in ("linear", "mlp")
    )
    assert linear["accuracy"] < 0.6 and mlp["accuracy"] > 0.9


def test_a_probe_keeps_patients_apart_and_leaves_out_the_unknown():
    """Features that name the patient tell the level of other images of the same patient only."""
    patient = torch.arange(100).repeat_interleave(4)
    level = torch.randint(2, (100,), generator=torch.Generator().manual_seed(0))[patient]
    features = torch.randn(100, 60, generator=torch.Generator().manual_seed(1))[patient]
    leaking = metrics.probe(features, level, permutations=2)
    apart = metrics.probe(features, level, patient=patient, permutations=2)
    assert leaking["accuracy"] > 0.75 > 0.65 > apart["accuracy"]
    features, level = _features(shift=1.0)
    some = level.clone()
    some[:40] = -1
    assert metrics.probe(features, some) == metrics.probe(features[40:], level[40:])


def test_a_probe_without_two_levels_is_said():
    features, level = _features(20)
    with pytest.raises(ValueError, match=r"levels with \[20\] patients"):
        metrics.probe(features, torch.zeros_like(level))
    with pytest.raises(ValueError, match=r"\[19, 1\] patients: expected 2 levels, 2 each"):
        metrics.probe(features, (torch.arange(20) == 3).long())
    with pytest.raises(ValueError, match="kind='tree'"):
        metrics.probe(features, level, kind="tree")


def test_neighbour_purity_equals_a_loop_and_meets_its_limits():
    features, level = _features(30, shift=0.7)
    scaled = ((features - features.mean(dim=0)) / features.std(dim=0, correction=0)).tolist()
    shares = []
    for i, x in enumerate(scaled):
        near = sorted(
            (sum((a - b) ** 2 for a, b in zip(x, z, strict=True)), j)
            for j, z in enumerate(scaled)
            if j != i
        )[:5]
        shares.append(sum(level[j].item() == level[i].item() for _, j in near) / 5)
    found = metrics.neighbour_purity(features, level, k=5)
    assert found == pytest.approx({"purity": np.mean(shares), "chance": 14 / 29})
    alone = features[:, 1:2] + 99 * level[:, None]
    assert metrics.neighbour_purity(alone, level)["purity"] == 1
    with pytest.raises(ValueError, match="30 images: expected more than k=30"):
        metrics.neighbour_purity(features, level, k=30)


def test_tsne_keeps_clusters_apart_and_is_repeatable():
    features, level = _features(60)
    features[:, 0] += 50 * level
    plane = metrics.tsne(features)
    assert plane.shape == (60, 2) and torch.equal(plane, metrics.tsne(features))
    assert metrics.neighbour_purity(plane, level, k=5)["purity"] == 1
    with pytest.raises(ValueError, match="4 images: expected at least 5"):
        metrics.tsne(features[:4])


def test_images_of_no_known_group_are_no_group():
    """Four right images of known sex and a wrong one of unknown sex: 1, and not 0."""
    label, prediction = torch.zeros(5, dtype=torch.int64), torch.tensor([0, 0, 0, 0, 1])
    sex = {"sex": torch.tensor([0, 0, 0, 1, -1])}
    levels = {"sex": ("F", "M")}
    group = metrics.group_numbers(label, sex, levels=levels)
    assert group.tolist() == [0, 0, 0, 1, -1]
    assert metrics.worst_group(prediction, label, group) == (1, 3), "alike: the largest"
    assert metrics.worst_group_accuracy(prediction, label, group) == 1
    worst, n = metrics.worst_group(prediction[4:], label[4:], group[4:])
    assert isnan(worst) and n == 0


def test_group_numbers_tell_all_groups_apart():
    label, age, sex = torch.cartesian_prod(*map(torch.arange, (4, 2, 3))).T
    levels = {"age": ("adult", "child"), "sex": ("F", "M", "O")}
    group = metrics.group_numbers(label, {"age": age, "sex": sex}, levels=levels)
    assert group.unique().numel() == 24


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (("a/b", "c"), ("a", "b/c")),
        (("a\\", "b"), ("a", "\\/b")),
        (("a/", "b"), ("a", "/b")),
        (("a\\/b", "c"), ("a", "b\\/c")),
        (("a", "unknown"), ("a", None)),
    ],
)
def test_no_two_groups_have_one_name(one, two):
    classes, levels = sorted({one[0], two[0]}), sorted({one[1], two[1]} - {None})
    label = torch.tensor([classes.index(one[0]), classes.index(two[0])])
    level = torch.tensor([levels.index(x[1]) if x[1] is not None else -1 for x in (one, two)])
    named = {"classes": classes, "levels": {"f": levels}}
    groups = metrics.group_accuracy(label, label, {"f": level}, **named)
    assert [group["n"] for group in groups.values()] == [1, 1]
    assert all("/" in name for name in groups)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_maps_of_half_precision_are_widened(dtype):
    cams, masks = _case()
    half = cams.to(dtype)
    for metric in (metrics.activation_precision, metrics.region_share):
        expected = torch.as_tensor(metric(half.float(), masks))
        assert torch.equal(torch.as_tensor(metric(half, masks)), expected)
    large = torch.full((1, 20, 15), 60_000.0).to(dtype)  # whose sum float16 does not hold
    assert metrics.region_share(large, masks[:1]).item() == pytest.approx(
        masks[:1].float().mean().item(), rel=1e-3
    )


def test_a_group_is_known_where_every_level_is():
    label = torch.tensor([0, 1, 1, 0, 1])
    factors = {"sex": torch.tensor([1, -1, 0, 1, -1]), "site": torch.tensor([2, 0, -1, 0, -1])}
    levels = {"sex": "FM", "site": "xyz"}
    assert metrics.group_numbers(label, factors, levels=levels).tolist() == [5, -1, -1, 3, -1]


@pytest.mark.parametrize("tau", [0.0, -0.1, 1.1])
def test_a_share_of_pixels_is_above_0_and_1_at_most(tau):
    cams, masks = _case()
    with pytest.raises(ValueError, match=f"tau={tau}"):
        metrics.activation_precision(cams, masks, tau)
    whole = metrics.activation_precision(cams, masks, 1.0)
    assert whole == pytest.approx(metrics.activation_precision_chance(masks))


@pytest.mark.filterwarnings("ignore")  # sklearn's, on so few images
def test_the_fewest_images_that_are_enough():
    features = torch.randn(11, 3, generator=torch.Generator().manual_seed(0))
    level, patient = torch.arange(8) % 2, torch.arange(8) // 2 * 2 + torch.arange(8) % 2
    found = metrics.probe(features[:4], level[:4], patient=patient[:4], permutations=1)
    assert 0 <= found["accuracy"] <= 1
    with pytest.raises(ValueError, match=r"levels with \[2, 1\] patients: expected 2 levels"):
        metrics.probe(features[:3], level[:3], patient=patient[:3], permutations=1)
    assert metrics.neighbour_purity(features, torch.arange(11) % 2)["chance"] > 0
    with pytest.raises(ValueError, match="10 images: expected more than k=10"):
        metrics.neighbour_purity(features[:10], torch.arange(10) % 2)
    assert metrics.tsne(features[:5]).shape == (5, 2)
    with pytest.raises(ValueError, match="4 images: expected at least 5"):
        metrics.tsne(features[:4])
