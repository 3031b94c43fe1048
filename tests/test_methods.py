"""Each method's losses against their parts, and at the limits."""

import pytest
import torch
import torch.nn.functional as F

from xbl_kit.exemplar import Exemplar
from xbl_kit.explain import grad_cam, image_times_cam, log_odds
from xbl_kit.losses import exemplar_triplet_loss
from xbl_kit.methods import Erm, ExBL
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
    with pytest.raises(ValueError, match="score='softmax': expected one of log-odds, centred"):
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
