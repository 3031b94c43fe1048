"""Each method's losses against their parts, and at the limits."""

import dataclasses
import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F

from xbl_kit.batch import region_pixels
from xbl_kit.exemplar import Exemplar
from xbl_kit.explain import grad_cam, image_times_cam, log_odds, upsample
from xbl_kit.losses import exemplar_triplet_loss
from xbl_kit.methods import Erm, ExBL, Known, Method
from xbl_kit.methods.cdep import cdep
from xbl_kit.methods.explained import caipi, exbl_picked, hint, rbr, rrr, rrr_g
from xbl_kit.methods.features import adversary, club, dcor, hsic_penalty
from xbl_kit.methods.last_layer import dfr
from xbl_kit.methods.weighted import added_images, group_dro, jtt
from xbl_kit.models import build_classifier
from xbl_kit.pick import explained
from xbl_kit.train import predict


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


def test_exemplars_per_class_equal_a_loop_over_images(small_cohort):
    """An image is compared with the exemplars of its class, and where there are none with all."""
    model, _, _ = _setting(small_cohort)
    batch, rows = small_cohort[torch.arange(0, 128, 9)], torch.tensor([0, 1, 40, 80])
    cam = torch.rand(len(rows), 4, 4, generator=torch.Generator().manual_seed(0))
    sides = [explained(small_cohort, rows, cam, at) for at in (torch.arange(3), torch.arange(1, 4))]
    exemplar = Exemplar(*sides)
    assert len(set(sides[0].label)) == 2 and len(set(batch.label.tolist())) == 4
    losses = exbl_picked(model, _known(small_cohort, exemplar=exemplar), per_class=True)(batch)
    features, logits = model(batch.image)
    product = image_times_cam(batch.image, grad_cam(features, log_odds(logits), batch.label))
    each = []
    for i, label in enumerate(small_cohort.names(batch.label)):
        distances = []
        for side in sides:
            own = [j for j, name in enumerate(side.label) if name == label] or [0, 1, 2]
            others = image_times_cam(side.image, side.cam)[own]
            distances.append(sum((product[i] - other).norm() for other in others) / len(own))
        each.append((distances[0] - distances[1] + 1).relu())
    torch.testing.assert_close(losses["explanation"], torch.stack(each).mean())
    alone = exbl_picked(model, _known(small_cohort, exemplar=exemplar), per_class=True)
    one = alone(small_cohort[batch.index[:1]])["explanation"]
    torch.testing.assert_close(one, each[0], atol=1e-4, rtol=1e-4)
    shared = exbl_picked(model, _known(small_cohort, exemplar=exemplar))(batch)
    assert shared["explanation"] != losses["explanation"]


NOTHING_ADDED = {
    "exbl": lambda model, known: ExBL(model, known.exemplar, weight=0.0),
    "rrr-g": lambda model, known: rrr_g(model, known, weight=0.0),
    "hint": lambda model, known: hint(model, known, weight=0.0),
    "cdep": lambda model, known: cdep(model, known, weight=0.0),
    "rbr": lambda model, known: rbr(model, known, weight=0.0),
    "caipi": lambda model, known: caipi(model, known, copies=0),
    "adversary": lambda model, known: adversary(model, known, weight=0.0),
    "club": lambda model, known: club(model, known, weight=0.0),
    "dcor": lambda model, known: dcor(model, known, weight=0.0),
    "hsic": lambda model, known: hsic_penalty(model, known, weight=0.0),
    "jtt": lambda model, known: jtt(model, known, up=1.0),
    "added-images": lambda model, known: added_images(model, known, share=3 / len(known.rows)),
}


@pytest.mark.parametrize("name", NOTHING_ADDED)
def test_with_weight_zero_a_method_is_erm(small_cohort, name):
    model, exemplar, batch = _setting(small_cohort)
    seen = predict(model, small_cohort, torch.arange(len(small_cohort)))
    given = {"exemplar": exemplar, "before": seen, "images": torch.arange(3), "steps": 9}
    gradients = []
    for method in (Erm(model), NOTHING_ADDED[name](model, _known(small_cohort, **given))):
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


def test_rrr_g_equals_a_loop_over_images(small_cohort):
    model, _, batch = _setting(small_cohort)
    losses = rrr_g(model, _known(small_cohort), weight=3.0, score="logit")(batch)
    total = 0.0
    for i in range(len(batch.image)):
        features, logits = model(batch.image[i : i + 1])
        cam = grad_cam(features, logits, batch.label[i : i + 1])
        cam = upsample(cam / cam.max().clamp_min(1e-8), (32, 32))[0]
        total += cam[~batch.masks["lungs"][i]].sum() / 32**2 / len(batch.image)
    torch.testing.assert_close(losses["explanation"], 3 * total)
    losses["explanation"].backward()
    assert model.body[0].weight.grad.abs().sum() > 0, "it reaches the first layer"
    with pytest.raises(ValueError, match="score 'softmax': expected one of"):
        rrr_g(model, _known(small_cohort), score="softmax")(batch)


def test_hint_equals_a_loop_over_pairs_of_cells(small_cohort):
    model, _, batch = _setting(small_cohort)
    losses = hint(model, _known(small_cohort), weight=3.0)(batch)
    features, logits = model(batch.image)
    cam = grad_cam(features, log_odds(logits), batch.label)
    total = 0.0
    for i, own in enumerate(cam):
        side = 32 // len(own)
        cells = list(product(range(len(own)), repeat=2))
        inside = {
            (y, x): batch.masks["lungs"][i, y * side : (y + 1) * side, x * side : (x + 1) * side]
            .float()
            .mean()
            .item()
            for y, x in cells
        }
        pairs = [(p, q) for p in cells for q in cells if inside[p] > inside[q]]
        over = [max(0.0, ((own[q] - own[p]) / own.max()).item()) for p, q in pairs]
        total += sum(over) / len(pairs) / len(cam)
    assert losses["explanation"].item() == pytest.approx(3 * total, rel=1e-4) and total > 0


def test_hint_is_nothing_where_no_cell_is_ranked_above_another(small_cohort):
    model, _, batch = _setting(small_cohort)
    assert hint(model, _known(small_cohort, region=(0.0, 0.0, 1.0, 1.0)))(batch)["explanation"] == 0


def test_rbr_is_the_influence_of_the_last_layer(small_cohort):
    """Koh and Liang 2017, eq. 5, of an image on itself with H = 1: dL/dW' d^2 L / dx dW."""
    model, _, batch = _setting(small_cohort)
    losses = rbr(model, _known(small_cohort), weight=3e4)(batch)
    total, last = 0.0, list(model.head[-1].parameters())
    for i in range(len(batch.image)):
        image = batch.image[i : i + 1].clone().requires_grad_()
        loss = F.cross_entropy(model(image)[1], batch.label[i : i + 1])
        slopes = torch.autograd.grad(loss, last, create_graph=True)
        fixed = [slope.detach() for slope in slopes]
        (influence,) = torch.autograd.grad(slopes, image, fixed)
        total += (influence[0, 0][~batch.masks["lungs"][i]] ** 2).sum() / len(batch.image)
    torch.testing.assert_close(losses["explanation"], 3e4 * total)
    losses["explanation"].backward()
    assert model.body[0].weight.grad.abs().sum() > 0, "it reaches the first layer"


@pytest.mark.parametrize("fill", ["noise", "image"])
def test_caipi_keeps_region_and_label_and_draws_the_rest_once(small_cohort, fill):
    model, _, batch = _setting(small_cohort)
    method = caipi(model, _known(small_cohort), copies=2, fill=fill)
    changed, n = method.change(batch), len(batch.label)
    assert torch.equal(changed.image[:n], batch.image) and len(changed.image) == 3 * n
    for copy in (1, 2):
        for i in range(n):
            image, inside = changed.image[copy * n + i, 0], batch.masks["lungs"][i]
            assert torch.equal(image[inside], batch.image[i, 0][inside])
            drawn = image[~inside]
            assert changed.label[copy * n + i] == batch.label[i]
            assert not torch.equal(drawn, changed.image[(2 - copy // 2) * n + i, 0][~inside])
            if fill == "noise":
                assert 0.4 < drawn.mean() < 0.6 and 0 <= drawn.min() and drawn.max() <= 1
            else:
                pixels = torch.from_numpy(small_cohort.images)[:, ~inside].float() / 255
                (source,) = (pixels == drawn).all(dim=1).nonzero()[:, 0].tolist()
                assert small_cohort.label[source] != batch.label[i]
    alone = method.change(small_cohort[batch.index[3:5]])
    assert torch.equal(alone.image[2:4], changed.image[n + 3 : n + 5]), "of a row always the same"
    torch.testing.assert_close(method(batch)["class"], Erm(model)(changed)["class"])


def test_jtt_counts_the_errors_of_the_first_model_as_copies(small_cohort):
    """The mean over a batch of all training rows is that over the rows with their copies."""
    model, _, _ = _setting(small_cohort)
    seen = predict(model, small_cohort, torch.arange(len(small_cohort)))
    rows = torch.arange(0, 128, 2)
    known = Known(small_cohort, rows, before=seen)
    wrong = (seen.label != small_cohort.label).tolist()
    copied = [row for row in rows.tolist() for _ in range(7 if wrong[row] else 1)]
    assert len(rows) < len(copied) < 7 * len(rows)
    losses = jtt(model, known, up=7.0)(small_cohort[rows])
    torch.testing.assert_close(losses["class"], Erm(model)(small_cohort[copied])["class"])
    right = seen._replace(logits=F.one_hot(small_cohort.label, 4).float())
    with pytest.warns(UserWarning, match="0 of 64 training rows are predicted wrong"):
        method = jtt(model, Known(small_cohort, rows, before=right))
    assert method.weigh is None


def test_added_images_count_as_much_as_a_class(small_cohort):
    model, _, _ = _setting(small_cohort)
    own = [(small_cohort.label == y).nonzero()[:20, 0] for y in range(4)]
    images = (small_cohort.label == 2).nonzero()[-3:, 0]
    rows = torch.cat([*own, images])
    method = added_images(model, Known(small_cohort, rows, images=images))
    each = [Erm(model)(small_cohort[some])["class"] for some in (*own, images)]
    torch.testing.assert_close(method(small_cohort[rows])["class"], sum(each) / 5)
    with pytest.raises(ValueError, match="0 images that break the bias, expected at least 1"):
        added_images(model, Known(small_cohort, rows))


def test_dfr_finds_the_feature_that_balanced_groups_leave(small_cohort):
    """Of two features the second tells class 0 from 1 in training, and not on the images given."""
    random = torch.Generator().manual_seed(0)
    n, label = len(small_cohort), small_cohort.label % 2
    data = dataclasses.replace(small_cohort, label=label, classes=("ill", "well"))
    true = label + 0.4 * torch.randn(n, generator=random)
    shortcut = label + 0.01 * torch.randn(n, generator=random)
    images = torch.arange(20, 40)[label[20:40] == 1][:8]
    shortcut[images] -= 1
    model, _, _ = _setting(data)
    seen = predict(model, data, torch.arange(n))
    seen = seen._replace(parts=[torch.stack([true, shortcut], dim=1)])
    logits = dfr(model, Known(data, torch.arange(60), before=seen, images=images))
    assert logits.shape == (n, 2) and (logits.argmax(dim=1)[images] == 1).float().mean() > 0.7
    assert torch.equal(logits[:, 0], -logits[:, 1])
    with pytest.raises(ValueError, match="0 images that break the bias, expected at least 1"):
        dfr(model, Known(data, torch.arange(60), before=seen))


def test_dfr_is_the_mean_of_layers_each_the_optimum_of_its_balanced_rows(small_cohort):
    """Every subsample is as large as the groups: one fit, at which no coefficient can be better."""
    model, _, _ = _setting(small_cohort)
    label, images = small_cohort.label, torch.arange(90, 95)
    seen = predict(model, small_cohort, torch.arange(len(small_cohort)))
    part = torch.randn(len(label), 3, generator=torch.Generator().manual_seed(0))
    seen = seen._replace(parts=[part + F.one_hot(label, 4)[:, :3]])
    rows = torch.cat([(label == y).nonzero()[:5, 0] for y in range(4)] + [images])
    logits = dfr(model, Known(small_cohort, rows, before=seen, images=images)).double()
    x = seen.parts[0].double()
    x = (x - x[rows].mean(dim=0)) / x[rows].std(dim=0, correction=0)
    solved = torch.linalg.lstsq(torch.cat([x, torch.ones(len(x), 1)], dim=1), logits).solution
    layer = solved.clone().requires_grad_()

    def objective(layer):  # liblinear counts the intercept among the weights
        logits = x[rows] @ layer[:3] + layer[3]
        target = F.one_hot(label[rows], 4).double()
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        return layer.abs().sum() + loss

    best = objective(layer).item()
    for i, j in product(range(4), range(4)):
        for step in (-0.05, 0.05):
            moved = solved.clone()
            moved[i, j] += step
            assert objective(moved).item() > best - 1e-4
