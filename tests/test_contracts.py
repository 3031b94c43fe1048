"""The same questions for every data set and every method."""

from functools import partial

import numpy as np
import pytest
import torch
from test_chexpert import write_chexpert
from test_morphomnist import write_mnist
from test_mri import write_bids
from test_radiography import write_radiography
from test_table import _write

from xbl_kit.batch import Batch
from xbl_kit.data import KINDS, open_dataset
from xbl_kit.methods import Known
from xbl_kit.models import build_classifier, build_multihead, layer_statistics
from xbl_kit.pick import pick_automatically
from xbl_kit.run import RECIPES
from xbl_kit.train import predict

# How a small data set of each kind is written, and what it is opened with.
SMALL = {
    "morphomnist": (write_mnist, {"per_cell": {"train": 4}}),
    "table": (_write, {}),
    "radiography": (write_radiography, {}),
    "chexpert": (write_chexpert, {}),
    "mri": (partial(write_bids, per_cell=1), {"target": "diagnosis"}),
}


@pytest.fixture(params=KINDS)
def data(request, tmp_path, small_cohort):
    if request.param == "phantom":
        return small_cohort
    write, options = SMALL[request.param]
    return open_dataset(request.param, write(tmp_path), size=32, **options)


def test_a_batch_says_the_same_as_its_data_set(data):
    rows = [3, 0, 5]
    batch = data[rows]
    assert isinstance(batch, Batch) and batch.image.shape == (3, 1, *data.images.shape[1:])
    assert batch.image.dtype == torch.float32 and 0 <= batch.image.min() <= batch.image.max() <= 1
    assert batch.label.max() < len(data.classes)
    for factor, level in batch.confounders.items():
        assert -1 <= level.min() and level.max() < len(data.levels[factor])
    for i, row in enumerate(rows):
        alone = data[row]
        assert torch.equal(alone.image[0], batch.image[i]) and alone.index.item() == row
        assert alone.label[0] == batch.label[i] and alone.patient[0] == batch.patient[i]
    assert batch.to("cpu").masks.keys() == batch.masks.keys() == data.masks.keys()


CORRECTIONS = [name for name, recipe in RECIPES.items() if recipe.schedule is None]


def built(name, data):
    """What a recipe makes of a new model, on every kind of data that has what it needs."""
    recipe, rows = RECIPES[name], torch.arange(len(data))
    if "factors" in recipe.needs and not data.levels:
        pytest.skip("these data have no factors")
    levels = {factor: len(names) for factor, names in data.levels.items() if recipe.heads}
    model = build_classifier("small_cnn", len(data.classes))
    if recipe.heads:
        model = build_multihead("small_cnn", len(data.classes), levels)
    region = next(iter(data.masks), (0.2, 0.2, 0.8, 0.8))
    seen = predict(model, data, rows)
    exemplar = pick_automatically(data, rows, seen.cam, data.label, region=region)
    last = int(data.label[-1])  # the images given are the last; the biased class is another
    biased = int(data.label[data.label != last].mode().values)
    if name == "second-opinion" and len(data.patient[data.label == biased].unique()) < 5:
        pytest.skip("the biased class has fewer than five patients")
    given = {"before": seen, "images": rows[-2:], "biased": biased, "counter_class": last}
    given["statistics"] = lambda: layer_statistics(model, data.images)
    return recipe.build(model, Known(data, rows, tuple(data.levels), exemplar, region, **given))


@pytest.fixture(params=[name for name in RECIPES if name not in CORRECTIONS])
def method(request, data):
    return built(request.param, data)


@pytest.mark.parametrize("name", CORRECTIONS)
def test_a_correction_gives_logits_of_all_rows_always_the_same(name, data):
    states = torch.random.get_rng_state(), np.random.mtrand._rand.get_state()[1].copy()
    logits = built(name, data)
    assert logits.shape == (len(data), len(data.classes)) and logits.isfinite().all()
    assert logits.std(dim=0).max() > 0, "images differ"
    assert torch.equal(built(name, data), logits)
    assert torch.equal(torch.random.get_rng_state(), states[0])
    assert (np.random.mtrand._rand.get_state()[1] == states[1]).all()


def test_a_method_gives_scalar_losses_with_a_gradient_and_leaves_its_arguments(method, data):
    batch = data[torch.arange(6)]
    before = [t.clone() for t in (batch.image, batch.label)]
    state = torch.random.get_rng_state()
    method.eval()
    losses = method(batch)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not method.training and "class" in losses
    assert all(loss.shape == () and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    for turn in method.turns[:-1]:
        sum(method(batch, turn).values()).backward()
    assert all(p.grad is not None for p in method.parameters())
    assert torch.equal(batch.image, before[0]) and torch.equal(batch.label, before[1])
    assert not batch.image.requires_grad
