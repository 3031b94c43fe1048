"""The second opinion against a naive one, and at its limits."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import GroupKFold

from xbl_kit.batch import Prediction
from xbl_kit.data import Dataset
from xbl_kit.methods import Known
from xbl_kit.methods.second_opinion import second_opinion, unlike
from xbl_kit.models import build_classifier

N, P = 120, 6
MODEL = build_classifier("small_cnn", 3)  # which is not asked


@pytest.fixture
def setting():
    """Rows 0-59 are "ill", 60-119 "well", who differ in z; a model calls all "ill"."""
    generator = np.random.default_rng(0)
    z = generator.normal(size=(N, P))
    z[60:, 0] += 6
    label = torch.arange(N) // 60
    images = np.zeros((N, 4, 4), dtype=np.uint8)
    patient = torch.arange(N) // 2
    data = Dataset(images, label, ("ill", "well", "other"), patient)
    logits = torch.tensor([2.0, 1.0, 0.0]).expand(N, 3) + 0.01 * torch.arange(N)[:, None]
    seen = Prediction(logits, torch.zeros(N, 2, 2), [], {})
    common = {"before": seen, "biased": 0, "counter_class": 1, "statistics": lambda: z}
    return data, common, z


def _known(setting, **given):
    data, common, _ = setting
    return Known(data, torch.arange(40), held_out=torch.arange(40, 60), **common | given)


def test_few_images_turn_their_like_and_cost_the_budget(setting):
    logits = second_opinion(MODEL, _known(setting, images=torch.tensor([60, 62, 64])))
    label, before = logits.argmax(dim=1), setting[1]["before"].logits
    assert (label[60:] == 1).float().mean() > 0.95, "the well are well"
    assert (label[:60] == 0).float().mean() > 0.85, "few of the ill are lost"
    assert torch.equal(logits.sort(dim=1).values, before.sort(dim=1).values), "two are swapped"
    assert torch.equal(before, setting[1]["before"].logits)


def test_a_pool_without_labels_does_as_well(setting):
    pool = torch.cat([torch.arange(60, 80), torch.arange(0, 20)])
    label = second_opinion(MODEL, _known(setting, pool=pool)).argmax(dim=1)
    assert (label[80:] == 1).float().mean() > 0.9 and (label[20:60] == 0).float().mean() > 0.8


def test_images_of_several_classes_give_each_its_own(setting):
    data, _, z = setting
    data.label[90:], z[90:, 0], z[90:, 1] = 2, 0, 6
    z[60:90, 1] = 0
    given = torch.tensor([60, 62, 90, 92])
    label = second_opinion(MODEL, _known(setting, images=given)).argmax(dim=1)
    assert (label[64:90] == 1).float().mean() > 0.9 and (label[94:] == 2).float().mean() > 0.9


def test_what_is_not_called_biased_stays_as_it_is(setting):
    _, common, _ = setting
    logits = common["before"].logits.clone()
    logits[::2, 2] += 5
    common["before"] = common["before"]._replace(logits=logits)
    found = second_opinion(MODEL, _known(setting, images=torch.tensor([61, 63])))
    assert torch.equal(found[::2], logits[::2]) and (found[61::2].argmax(dim=1) == 1).any()


@pytest.mark.parametrize("given", [{}, {"images": torch.tensor([60]), "biased": 2}])
def test_nothing_to_tell_apart_is_refused(setting, given):
    with pytest.raises(ValueError, match=r"second-opinion: \d images given, and \d+ rows of"):
        second_opinion(MODEL, _known(setting, **given))


def test_the_score_is_the_weighted_ridge_solved_by_hand():
    generator = np.random.default_rng(1)
    z, own, others = generator.normal(size=(40, 5)), np.arange(20), np.arange(20, 24)
    z[20:] += 1
    patient, penalty, budget = np.arange(20), 0.1, 0.2
    folds = {}

    def score(fitted):
        x, y = z[np.r_[fitted, others]], np.r_[np.ones(len(fitted)), -np.ones(4)]
        weight = np.r_[np.full(len(fitted), 0.5 / len(fitted)), np.full(4, 0.5 / 4)]
        centred, target = x - weight @ x, y - weight @ y
        gram = (centred * weight[:, None]).T @ centred + penalty * 5 * np.eye(5)
        w = np.linalg.solve(gram, (centred * weight[:, None]).T @ target)
        return z @ w / np.linalg.norm(w)

    for fitted, rest in GroupKFold(5).split(own, groups=patient):
        folds |= dict(zip(own[rest], score(own[fitted])[own[rest]], strict=True))
    expected = score(own) < np.quantile(list(folds.values()), budget)
    assert np.array_equal(unlike(z, own, patient, others, penalty, budget), expected)
    assert 0 < expected[own].sum() < 12 and expected[20:].mean() > 0.5
