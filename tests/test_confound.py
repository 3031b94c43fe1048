"""Exact counts, wanted biases, patients apart, clear errors."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from xbl_kit.data import Dataset, confound

CLASSES = ("a", "b", "c")


def _data(n=600, patients=200, seed=0, **more) -> Dataset:
    generator = torch.Generator().manual_seed(seed)
    patient = torch.randint(patients, (n,), generator=generator)
    label = patient % 3
    factors = {
        "age": torch.randint(2, (n,), generator=generator),
        "site": torch.randint(3, (n,), generator=generator),
    }
    levels = {"age": ("old", "young"), "site": ("x", "y", "z")}
    images = np.zeros((n, 2, 2), dtype=np.uint8)
    return Dataset(images, label, CLASSES, patient, factors, levels, **more)


def test_biased_inverted_and_balanced_tables():
    table = confound.biased((0, 1), 3, 0.8)
    np.testing.assert_allclose(table, [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
    np.testing.assert_allclose(confound.inverted(table), [[0.1, 0.45, 0.45], [0.45, 0.1, 0.45]])
    np.testing.assert_allclose(confound.inverted(confound.biased((1,))), [[1, 0]])
    assert (confound.balanced(2, 4) == 0.25).all()
    with pytest.raises(ValueError, match=r"strength=1\.2"):
        confound.biased((0, 1), strength=1.2)


@pytest.mark.parametrize("per_class", [0, 1, 7, 100])
def test_cell_counts_are_exact_and_near_the_product(per_class):
    tables = {"age": confound.biased((0, 1, 1), 2, 0.9), "site": confound.balanced(3, 3)}
    counts = confound.cell_counts(per_class, tables)
    assert counts.shape == (3, 2, 3)
    assert (counts.sum(axis=(1, 2)) == per_class).all()
    for c, a, s in np.ndindex(counts.shape):
        assert abs(counts[c, a, s] - per_class * tables["age"][c, a] / 3) < 1


def test_sampled_rows_have_exactly_the_wanted_counts():
    data = _data()
    tables = {"age": confound.biased((0, 1, 0), 2, 0.75), "site": confound.balanced(3, 3)}
    rows = confound.sample_rows(data, torch.arange(300, 600), 24, tables)
    assert len(rows) == len(rows.unique()) == 72 and rows.min() >= 300
    wanted = confound.cell_counts(24, tables)
    found = np.zeros_like(wanted)
    for row in rows:
        factors = data.confounders
        found[data.label[row], factors["age"][row], factors["site"][row]] += 1
    assert (found == wanted).all()
    assert data.label[rows].diff().count_nonzero() > 10, "the rows are shuffled"


def test_sampling_depends_on_its_seed_alone():
    data, pool, even = _data(), torch.arange(600), {"age": confound.balanced(3)}
    first = confound.sample_rows(data, pool, 20, even, seed=1)
    torch.manual_seed(99)
    assert torch.equal(first, confound.sample_rows(data, pool, 20, even, seed=1))
    assert not torch.equal(first, confound.sample_rows(data, pool, 20, even, seed=2))


def test_a_cell_with_too_few_images_is_named():
    with pytest.raises(ValueError, match=r"a/young: \d+ images, 500 are wanted"):
        confound.sample_rows(_data(), torch.arange(600), 500, {"age": confound.biased((1, 0, 0))})


def test_no_patient_is_in_two_splits_and_every_label_in_each():
    data = _data()
    splits = confound.split_patients(data, {"train": 0.6, "val": 0.2, "test": 0.2})
    assert sorted(torch.cat(list(splits.values())).tolist()) == list(range(600))
    for one, other in combinations(splits.values(), 2):
        assert not set(data.patient[one].tolist()) & set(data.patient[other].tolist())
    for name, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
        assert len(splits[name]) / 600 == pytest.approx(share, abs=0.05)
        assert data.label[splits[name]].unique().tolist() == [0, 1, 2]


def test_counter_images_and_their_patients_are_in_no_split():
    counter = torch.zeros(600, dtype=torch.bool)
    counter[::50] = True
    data = _data(counter=counter)
    splits = confound.split_patients(data, {"train": 0.6, "val": 0.2, "test": 0.2})
    left = set(data.patient[torch.cat(list(splits.values()))].tolist())
    assert left and not left & set(data.patient[counter].tolist())


def test_a_label_with_one_patient_is_named():
    data = _data()
    data.label[data.label == 1] = 0
    data.label[data.patient == 5] = 1
    with pytest.raises(ValueError, match=r"label 'b' has 1 patient, expected at least 2"):
        confound.split_patients(data, {"train": 0.8, "test": 0.2})


def test_a_given_split_is_taken_and_checked():
    split = np.array(["train", "test"] * 300)
    data = replace(_data(), patient=torch.arange(600), split=split)
    splits = confound.split_patients(data, {"train": 0.5, "test": 0.5})
    assert splits["train"].tolist() == list(range(0, 600, 2))
    leaking = replace(data, patient=torch.arange(600) // 2)
    with pytest.raises(ValueError, match=r"patient number 0 has images in train and in test"):
        confound.split_patients(leaking, {"train": 0.5, "test": 0.5})
    split[data.label.numpy() == 2] = "train"
    with pytest.raises(ValueError, match=r"label 'c' has no image in split 'test'"):
        confound.split_patients(data, {"train": 0.5, "test": 0.5})


def test_measured_tables_are_what_was_drawn():
    data = _data()
    rows = torch.arange(0, 600, 3)
    table = confound.measured(data, rows, "site")
    for c, z in np.ndindex(table.shape):
        inside = data.label[rows] == c
        share = (data.confounders["site"][rows][inside] == z).double().mean().item()
        assert table[c, z] == pytest.approx(share)
    data.confounders["age"][data.label == 2] = -1
    with pytest.raises(ValueError, match="'c' has no image with a known level of 'age'"):
        confound.measured(data, rows, "age")
    even = confound.measured(data, rows, "age", pseudocount=1.0)
    np.testing.assert_allclose(even[2], 0.5)


@pytest.mark.parametrize("strength", [0.5, 0.8, 1.0])
def test_most_per_class_can_be_drawn_and_one_more_cannot(strength):
    data, pool = _data(), torch.arange(1, 600, 2)
    tables = {"age": confound.biased((0, 1, 1), 2, strength), "site": confound.balanced(3, 3)}
    most = confound.most_per_class(data, pool, tables)
    assert len(confound.sample_rows(data, pool, most, tables)) == 3 * most > 0
    with pytest.raises(ValueError, match="are wanted"):
        confound.sample_rows(data, pool, most + 1, tables)


def test_a_cell_without_an_image_is_named():
    data = _data()
    pool = ((data.label != 1) | (data.confounders["age"] != 0)).nonzero()[:, 0]
    with pytest.raises(ValueError, match=f"b/old: no image among {len(pool)}, at least one"):
        confound.most_per_class(data, pool, {"age": confound.biased((0, 0, 0))})


@pytest.mark.parametrize("fractions", [(0.6, 0.2, 0.2), (0.6, 0.1, 0.3), (0.5, 0.5, 0.3)])
def test_without_val_it_is_taken_from_train_by_patient(fractions):
    data = _data()
    split = np.where(data.patient.numpy() % 10 < 8, "train", "test")
    wanted = dict(zip(("train", "val", "test"), fractions, strict=True))
    splits = confound.split_patients(replace(data, split=split), wanted)
    assert splits["test"].tolist() == np.flatnonzero(split == "test").tolist()
    both = torch.cat([splits["train"], splits["val"]]).sort().values
    assert both.tolist() == np.flatnonzero(split == "train").tolist()
    assert not {*data.patient[splits["train"]].tolist()} & {*data.patient[splits["val"]].tolist()}
    share = fractions[1] / (fractions[0] + fractions[1])
    assert len(splits["val"]) / len(both) == pytest.approx(share, abs=0.08)
    assert {*data.label[splits["val"]].tolist()} == {0, 1, 2}


@pytest.mark.parametrize("per_class", [1, 2, 5, 7, 11, 100])
def test_what_rounding_leaves_over_goes_to_the_largest_remainders(per_class):
    tables = {"age": confound.biased((0, 1), 2, 0.83), "site": confound.biased((2, 0), 3, 0.45)}
    counts = confound.cell_counts(per_class, tables)
    for label in (0, 1):
        exact = per_class * np.outer(tables["age"][label], tables["site"][label]).ravel()
        expected = np.floor(exact + 1e-6)
        while expected.sum() < per_class:
            remainder = exact - expected
            expected[remainder.argmax()] += 1
        assert counts[label].ravel().tolist() == expected.tolist()


def test_defaults_and_limits():
    data, pool, even = _data(), torch.arange(600), {"age": confound.balanced(3)}
    assert confound.biased((0, 1), strength=0.0).tolist() == [[0, 1], [1, 0]]
    assert confound.biased((0, 1)).tolist() == confound.biased((0, 1), 2, 1.0).tolist()
    assert confound.balanced(1).tolist() == [[0.5, 0.5]]
    assert torch.equal(
        confound.sample_rows(data, pool, 20, even),
        confound.sample_rows(data, pool, 20, even, seed=0),
    )
    counts = confound._counts(data, pool, ("age",))
    found = confound.measured(data, pool, "age", pseudocount=5.0)
    np.testing.assert_allclose(found, (counts + 5) / (counts.sum(axis=1, keepdims=True) + 10))
    assert (confound.measured(data, pool, "age") == counts / counts.sum(axis=1)[:, None]).all()


@pytest.mark.parametrize("crossed", [("age",), ("age", "site"), ()])
def test_what_is_laid_out_has_every_cell_in_every_split(crossed):
    levels = {"age": ("old", "young"), "site": ("x", "y", "z")}
    shape = (3, *(len(levels[factor]) for factor in crossed))
    own = np.arange(np.prod(shape)).reshape(shape)
    columns = confound.lay_out({"train": own, "test": 4}, crossed, 3, levels)
    assert sorted(columns) == ["age", "label", "site", "split"]
    for split, wanted in (("train", own), ("test", np.full(shape, 4))):
        found = np.zeros(shape, dtype=int)
        for row in range(len(columns["label"])):
            if columns["split"][row] == split:
                found[tuple(columns[name][row] for name in ("label", *crossed))] += 1
        assert np.array_equal(found, wanted)
    again = confound.lay_out({"train": own, "test": 4}, crossed, 3, levels, seed=0)
    other = confound.lay_out({"train": own, "test": 4}, crossed, 3, levels, seed=1)
    assert all((columns[name] == again[name]).all() for name in columns)
    drawn = [name for name in levels if name not in crossed]
    assert all((columns[name] != other[name]).any() for name in drawn)
    assert all(set(columns[name]) == set(range(len(levels[name]))) for name in drawn)
    with pytest.raises(ValueError, match=r"factor 'sex': expected one of age, site"):
        confound.lay_out({"train": 1}, ("sex",), 3, levels)


@pytest.mark.filterwarnings("ignore:The least populated class")  # sklearn's own
def test_splits_have_a_seed_and_are_as_fine_as_tenths():
    data, halves = _data(), {"train": 0.5, "test": 0.5}
    first = confound.split_patients(data, halves)
    same, other = (confound.split_patients(data, halves, seed=seed) for seed in (0, 1))
    assert torch.equal(first["train"], same["train"])
    assert not torch.equal(first["train"], other["train"])
    fine = confound.split_patients(data, {"train": 0.9, "test": 0.1})
    assert len(fine["test"]) / 600 == pytest.approx(0.1, abs=0.03)
    few = replace(
        data, label=(data.patient < 2).long(), classes=("a", "b")
    )  # as many patients as there are splits
    assert set(confound.split_patients(few, halves)) == {"train", "test"}


def test_cells_alike_are_rounded_to_the_whole():
    assert confound.cell_counts(3, {"age": confound.balanced(2, 4)}).tolist() == [[1, 1, 1, 0]] * 2


def test_one_image_a_class_is_enough_for_one():
    data, bias = _data(), {"age": confound.biased((0, 0, 0))}
    cells = [(data.label == y) & (data.confounders["age"] == 0) for y in range(3)]
    one = torch.cat([cell.nonzero()[:1, 0] for cell in cells])
    assert confound.most_per_class(data, one, bias) == 1
    with pytest.raises(ValueError, match="c/old: no image among 2, at least one"):
        confound.most_per_class(data, one[:2], bias)


def test_a_tenth_is_a_tenth():
    data = replace(_data(), patient=torch.arange(600), label=torch.arange(600) % 3)
    splits = confound.split_patients(data, {"train": 0.9, "test": 0.1})
    assert [len(rows) for rows in splits.values()] == [540, 60]
