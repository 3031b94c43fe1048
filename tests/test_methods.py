"""Each method's losses against their parts, and at the limits."""

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F

from xbl_kit.batch import region_pixels
from xbl_kit.exemplar import Exemplar
from xbl_kit.explain import grad_cam, image_times_cam, log_odds
from xbl_kit.losses import exemplar_triplet_loss
from xbl_kit.methods import Erm, ExBL, Known, Method
from xbl_kit.methods.explained import rrr
from xbl_kit.methods.weighted import group_dro
from xbl_kit.models import build_classifier
from xbl_kit.pick import explained


def _setting(data):
    model = build_classifier("small_cnn").eval()
    rows = torch.arange(0, 60, 6)
    cam = torch.rand(len(rows), 4, 4, generator=torch.Generator().manual_seed(0))
    at = torch.tensor([0]), torch.tensor([1])
    exemplar = Exemplar(*(explained(data, rows, cam, some) for some in at))
    return model, exemplar, data[rows]


def test_exbl_is_cross_entropy_and_the_triplet_of_its_parts(small_cohort):
    model, exemplar, batch = _setting(small_cohort)
    losses = ExBL(model, exemplar, weight=0.3, margin=0.5)(batch)
    features, logits = model(batch.image)
    product = image_times_cam(batch.image, grad_cam(features, log_odds(logits), batch.label))
    good = image_times_cam(exemplar.good.image, exemplar.good.cam)
    bad = image_times_cam(exemplar.bad.image, exemplar.bad.cam)
    triplet = exemplar_triplet_loss(product, good, bad, margin=0.5)
    assert triplet > 0
    torch.testing.assert_close(losses["class"], F.cross_entropy(logits, batch.label))
    torch.testing.assert_close(losses["explanation"], 0.3 * triplet)


def test_only_the_logits_map_changes_when_all_logits_move_together(small_cohort):
    """A common shift changes no probability, so an explanation had better not change either."""
    model, exemplar, batch = _setting(small_cohort)
    losses = {}
    for moment in ("before", "after"):
        for score in ("log-odds", "centred", "logit"):
            loss = ExBL(model, exemplar, score=score)(batch)["explanation"].item()
            losses[score, moment] = loss
        with torch.no_grad():
            model.head[5].weight += torch.randn(256, generator=torch.Generator().manual_seed(1))
    for score in ("log-odds", "centred"):
        assert losses[score, "before"] == pytest.approx(losses[score, "after"], abs=1e-4)
    assert losses["logit", "before"] != pytest.approx(losses["logit", "after"], abs=1e-2)
    assert losses["log-odds", "before"] != losses["centred", "before"]
    with pytest.raises(ValueError, match="score 'softmax': expected one of log-odds, centred"):
        ExBL(model, exemplar, score="softmax")


def test_with_weight_zero_exbl_is_erm(small_cohort):
    model, exemplar, batch = _setting(small_cohort)
    gradients = []
    for method in (Erm(model), ExBL(model, exemplar, weight=0.0)):
        model.zero_grad()
        sum(method(batch).values()).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_the_triplet_reaches_head_and_body_at_both_resolutions(small_cohort):
    model, exemplar, batch = _setting(small_cohort)
    for resolution in ("input", "features"):
        model.zero_grad()
        ExBL(model, exemplar, resolution=resolution)(batch)["explanation"].backward()
        for part in (model.head[2], model.head[5], model.body[0]):
            assert part.weight.grad.abs().sum() > 0


def test_exemplars_of_another_feature_size_can_be_replayed(small_cohort):
    """Maps picked with one network serve another: they are resized as the view asks."""
    _, exemplar, batch = _setting(small_cohort)
    model = build_classifier("resnet18").eval()
    assert model(batch.image)[0].shape[-1] == 1
    losses = ExBL(model, exemplar, resolution="input")(batch)
    assert losses["explanation"].isfinite()


def _known(data, **more):
    return Known(data, torch.arange(len(data)), ("age", "sex"), **more)


def test_group_dro_equals_a_loop_over_batches_and_groups(small_cohort):
    """Sagawa et al. 2020, algorithm 1; an image of no known group does not count."""
    model, _, _ = _setting(small_cohort)
    small_cohort.confounders["sex"][:9] = -1
    method = group_dro(model, _known(small_cohort), step=0.5)
    model.eval()
    q = {group: 1 / 16 for group in product(range(4), range(2), range(2))}
    for rows in (torch.arange(0, 60), torch.arange(30, 90)):
        batch = small_cohort[rows]
        each = F.cross_entropy(model(batch.image)[1], batch.label, reduction="none")
        columns = batch.label, batch.confounders["age"], batch.confounders["sex"]
        own = list(zip(*(column.tolist() for column in columns), strict=True))
        mean = {
            g: torch.stack([loss for loss, o in zip(each, own, strict=True) if o == g]).mean()
            for g in set(own) & set(q)
        }
        q |= {g: q[g] * math.exp(0.5 * loss.item()) for g, loss in mean.items()}
        q = {g: value / sum(q.values()) for g, value in q.items()}
        torch.testing.assert_close(method(batch)["class"], sum(q[g] * mean[g] for g in mean))
    frozen = method.eval().state_dict()["weigh.q"].clone()
    method(batch)
    assert torch.equal(method.weigh.q, frozen), "nothing moves in validation"
    assert len(q) == len(frozen) and frozen.sum().item() == pytest.approx(1)


def test_group_dro_with_one_group_a_batch_lowers_its_mean(small_cohort):
    model, _, _ = _setting(small_cohort)
    alone = (small_cohort.label == 1) & (small_cohort.confounders["age"] == 0)
    batch = small_cohort[(alone & (small_cohort.confounders["sex"] == 1)).nonzero()[:, 0]]
    method = group_dro(model, _known(small_cohort), step=0.0)
    torch.testing.assert_close(method(batch)["class"], Erm(model)(batch)["class"] / 16)


@pytest.mark.parametrize("region", ["lungs", (0.2, 0.1, 0.8, 0.9)])
def test_rrr_equals_a_loop_over_images(small_cohort, region):
    model, _, batch = _setting(small_cohort)
    losses = rrr(model, _known(small_cohort, region=region), weight=3.0)(batch)
    inside, total = region_pixels(batch, region), 0.0
    for i in range(len(batch.image)):
        image = batch.image[i : i + 1].clone().requires_grad_()
        score = model(image)[1].log_softmax(dim=1).sum()
        (gradient,) = torch.autograd.grad(score, image)
        total += (gradient[0, 0][~inside[i]] ** 2).sum() / len(batch.image)
    torch.testing.assert_close(losses["explanation"], 3 * total)
    assert losses["explanation"] > 0
    torch.testing.assert_close(losses["class"], Erm(model)(batch)["class"])
    losses["explanation"].backward()
    assert model.body[0].weight.grad.abs().sum() > 0, "it reaches the first layer"
    assert not batch.image.requires_grad


def test_a_method_may_change_the_batch_and_a_term_may_be_a_function(small_cohort):
    model, _, batch = _setting(small_cohort)
    brighter = batch._replace(image=batch.image * 0.5, stem=None)
    method = Method(
        model,
        change=lambda given: given._replace(image=given.image * 0.5, stem=None),
        weigh=lambda seen, each: 2 * each,
        terms={"size": lambda seen: seen.features.mean()},
        balance=lambda seen, losses: losses | {"size": 0 * losses["size"]},
    )
    losses = method(batch)
    torch.testing.assert_close(losses["class"], 2 * Erm(model)(brighter)["class"])
    assert losses["size"] == 0 and method.step == 1 and method.turns == ("model",)
    method.eval()(batch)
    assert method.step == 1, "what is validated is no step"
