"""The phantom keeps its promises: reproducible, counterfactual, signs where they belong."""

import dataclasses

import numpy as np
import pytest
import torch

from xbl_kit.data import open_dataset
from xbl_kit.data.phantom import CLASSES, FACTORS, make_phantoms, redraw

N = 12
NORMAL = CLASSES.index("Normal")
ROWS = {
    "label": np.arange(N) % 4,
    "age": np.arange(N) // 2 % 2,
    "sex": np.arange(N) // 3 % 2,
    "site": np.arange(N) % 2,
}


def make(size=64, **changes):
    rows = ROWS | changes
    return make_phantoms(rows.pop("label"), size=size, **rows)


def flip(factor):
    return {factor: 1 - ROWS[factor]}


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


# Every sixth pixel of line 40 of the first three of ROWS at 64 px, as in the first release.
PIXELS = [
    [118, 127, 170, 141, 100, 232, 211, 120, 113, 5, 170],
    [189, 78, 107, 149, 125, 216, 205, 94, 100, 40, 164],
    [184, 128, 42, 94, 125, 229, 222, 217, 87, 6, 149],
]


@pytest.fixture(scope="module")
def base():
    return make()


def test_shapes_and_types(base):
    assert [x.shape for x in base] == [(N, 64, 64)] * 3
    assert [x.dtype for x in base] == [np.uint8, bool, bool]
    assert len({image.tobytes() for image in base.image}) == N


def test_same_seed_same_bits_whatever_the_batch_order_threads_and_global_state(base):
    np.random.seed(1)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    assert same(base, make(threads=1))
    assert same(base, make(threads=3))
    backwards = make(patient=np.arange(N)[::-1], **{k: x[::-1] for k, x in ROWS.items()})
    assert same(base, [x[::-1] for x in backwards])
    for i in range(N):
        one = make(patient=i, **{k: int(x[i]) for k, x in ROWS.items()})
        assert same([x[i : i + 1] for x in base], one)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_seed_and_patient_change_the_picture(base):
    for other in (make(seed=1), make(patient=np.arange(N) + 100)):
        assert (np.abs(other.image.astype(int) - base.image).mean((1, 2)) > 2).all()


@pytest.mark.parametrize("size", [32, 64, 97, 128])
def test_masks_are_there_inside_the_frame_and_apart(size):
    p = make_phantoms(np.zeros(60, int), age=np.arange(60) % 2, sex=0, site=0, size=size)
    assert not (p.lungs & p.humerus).any()
    left, right = np.s_[..., : size // 2], np.s_[..., (size + 1) // 2 :]
    for mask, least in ((p.lungs, 0.05), (p.humerus, 0.005)):
        for half in (left, right):
            assert (mask[half].mean((1, 2)) > least).all()
    assert not p.lungs[:, [0, -1]].any() and not p.lungs[:, :, [0, -1]].any()


def test_other_sizes_show_the_same_patient(base):
    big = make(size=192)
    for name in ("lungs", "humerus"):
        large = getattr(big, name).reshape(N, 64, 3, 64, 3).mean((2, 4)) > 0.5
        assert (large == getattr(base, name)).mean() > 0.99
    small = big.image.reshape(N, 64, 3, 64, 3).mean((2, 4))
    for a, b in zip(small, base.image, strict=True):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("size", [32, 64, 128])
def test_growth_plate_changes_both_humeral_heads_and_nothing_else(size):
    fused, opened = make(size, growth_plate=0), make(size, growth_plate=1)
    change = np.abs(opened.image.astype(int) - fused.image)
    assert not change[~fused.humerus].any()
    assert (change[:, :, : size // 2].max((1, 2)) > 15).all()
    assert (change[:, :, size // 2 :].max((1, 2)) > 15).all()
    assert same(fused[1:], opened[1:])


def test_an_open_plate_is_a_lucent_line_across_the_neck_of_the_head():
    fused, opened = make(256, growth_plate=0), make(256, growth_plate=1)
    darker = fused.image.astype(int) - opened.image
    for i in range(N):
        for half in (np.s_[:128], np.s_[128:]):
            rows, columns = np.nonzero(fused.humerus[i][:, half])
            y, x, r = round(rows.mean()), round(columns.mean()), np.ptp(rows) / 3.3
            below = darker[i][:, half][y : y + round(0.8 * r), x - 1 : x + 2]
            assert below.max() > 50


def test_age_is_its_growth_plates_plus_the_proportions(base):
    child = make(**flip("age"), proportions=0)
    assert same(child, make(proportions=0, growth_plate=1 - ROWS["age"]))
    weak, strong = make(**flip("age")), make(**flip("age"), growth_plate=ROWS["age"], proportions=3)
    assert 0 < difference(weak, base) < difference(strong, base)


def difference(a, b):
    return np.abs(a.image.astype(int) - b.image).mean()


def test_label_changes_the_lungs_and_nothing_else():
    normal = make(label=NORMAL)
    for label in set(range(4)) - {NORMAL}:
        ill = make(label=label)
        change = ill.image.astype(int) - normal.image
        assert not change[~normal.lungs].any()
        assert (np.where(normal.lungs, change, 0).max((1, 2)) > 10).all()
        assert same(normal[1:], ill[1:])
        mild, healthy = make(label=label, severity=0.3), make(label=label, severity=0)
        assert difference(mild, normal) < difference(ill, normal)
        assert same(healthy, normal)


def test_signs_lie_where_the_disease_puts_them():
    normal = make(label=NORMAL, size=128)
    change = {}
    for name in ("COVID", "Lung_Opacity", "Viral Pneumonia"):
        ill = make(label=CLASSES.index(name), size=128).image.astype(int)
        change[name] = (ill - normal.image) * normal.lungs
    sides = {
        k: np.stack([x[..., :64].sum((1, 2)), x[..., 64:].sum((1, 2))]) for k, x in change.items()
    }
    share = {k: x.min(0) / x.max(0) for k, x in sides.items()}
    assert (share["Lung_Opacity"] < 0.02).all()  # one lung
    assert (share["COVID"] > 0.2).all() and (share["Viral Pneumonia"] > 0.4).all()  # both
    rows = np.arange(128)[:, None]
    middle = (rows * normal.lungs).sum((1, 2)) / normal.lungs.sum((1, 2))
    low = (rows * change["COVID"]).sum((1, 2)) / change["COVID"].sum((1, 2))
    assert (low > middle).all()  # lower zones
    touched = {k: (x > 3).sum((1, 2)) / normal.lungs.sum((1, 2)) for k, x in change.items()}
    assert (touched["Viral Pneumonia"] > 0.5).all() and (touched["Lung_Opacity"] < 0.4).all()


def test_sex_leaves_lungs_and_mediastinum_alone(base):
    female, male = make(sex=0), make(sex=1)
    assert np.array_equal(female.lungs, male.lungs)
    for still in (np.s_[:, 34:, 31:33], np.s_[:, :6, 16:48]):  # spine and heart; neck
        assert np.array_equal(female.image[still], male.image[still])
    lower = female.lungs & (np.arange(64)[:, None] > 36)
    change = female.image.astype(int) - male.image
    assert all(change[i][lower[i]].mean() > 1.5 for i in range(N))
    assert (female.humerus != male.humerus).any((1, 2)).all()


def test_site_is_a_marker_and_a_response_not_another_anatomy(base):
    a, b = make(site=0, size=128), make(site=1, size=128)
    assert same(a[1:], b[1:])
    assert (a.image[:, :20, 115:].max((1, 2)) > 200).all()
    assert (b.image[:, 110:, :16].max((1, 2)) > 200).all()
    inner = np.s_[:, 24:104, 20:108]
    for x, y in zip(a.image[inner], b.image[inner], strict=True):
        assert np.corrcoef(x.ravel(), y.ravel())[0, 1] > 0.97
        assert x.mean() > y.mean() + 5


def test_the_images_of_the_first_release_are_drawn_as_they_were(base):
    found = base.image[:3, 40, ::6].astype(int)
    np.testing.assert_allclose(found, PIXELS, atol=1)  # another processor may round otherwise
    assert same(base, make(line=0)) and "line" not in FACTORS


@pytest.mark.parametrize("size", [64, 128, 256])
def test_a_line_changes_what_lies_on_it_and_nothing_else(size):
    without, with_line = make(size), make(size, line=1)
    assert same(without[1:], with_line[1:])
    change = with_line.image.astype(int) - without.image
    on = change > 0
    assert (change >= 0).all() and 0.005 < on.mean() < 0.03
    for one in on:
        rows = np.nonzero(one.any(axis=1))[0]
        assert rows[0] == 0 and 0.45 < (rows[-1] + 1) / size < 0.7  # from above to the atrium
        runs = np.diff(one[rows].astype(int), axis=1, prepend=0) == 1
        assert (runs.sum(axis=1) == 1).all()  # one line, which never turns back
        assert 0.6 * size < np.nonzero(one[0])[0].mean() < 0.85 * size
        assert 0.35 * size < np.nonzero(one[rows[-1]])[0].mean() < 0.5 * size


def test_a_line_is_seen_on_every_patient_along_its_whole_course():
    for size, width in ((64, 4), (128, 6)):
        change = make(size, line=1).image.astype(int) - make(size).image
        on = change > 0
        assert (on.sum(axis=2).max(axis=1) < 6 * width).all()
        brightest = change.max(axis=2)
        seen = brightest[:, : size // 2]
        assert np.median(seen) > 40 and (np.quantile(seen, 0.1, axis=1) > 12).all()


def test_a_line_stays_where_it_is_when_all_else_is_flipped():
    def line(**changes):
        return make(line=1, **changes).image.astype(int) - make(**changes).image > 0

    usual = line()
    for factor in ("sex", "site"):
        assert (line(**flip(factor)) != usual).mean() < 0.002  # rounding at its soft edges


def test_a_cohort_has_the_line_only_where_it_is_crossed():
    plain, crossed = (
        open_dataset("phantom", per_cell={"train": 2}, size=32, crossed=factors)
        for factors in (("age",), ("age", "line"))
    )
    assert set(plain.levels) == set(plain.confounders) == set(FACTORS)
    assert set(crossed.confounders) == {*FACTORS, "line"}
    assert crossed.levels["line"] == ("none", "line") and crossed.confounders["line"].sum() == 16
    rows = torch.arange(6)
    for data, level in ((plain, torch.zeros(6, dtype=torch.int64)), (crossed, None)):
        level = data.confounders["line"][rows] if level is None else level
        np.testing.assert_array_equal(redraw(data, rows).images, data.images[rows])
        other = redraw(data, rows, line=1 - level)
        assert (other.images != data.images[rows]).any(axis=(1, 2)).all()
        assert (other.confounders["line"] == 1 - level).all()


def test_scalars_broadcast_and_nothing_gives_nothing():
    assert make_phantoms([0, 1], age=1, sex=0, site=0, size=32).image.shape == (2, 32, 32)
    assert make_phantoms(2, age=1, sex=0, site=0, size=32).image.shape == (1, 32, 32)
    assert [x.shape for x in make_phantoms([], age=[], sex=[], site=[])] == [(0, 128, 128)] * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"age": [0, 1]}, "lengths.*'age': 2"),
        ({"label": [4] * N}, "label is .*4.*0 to 3"),
        ({"label": [0.5] * N}, "label is .*0.5"),
        ({"sex": 2}, "sex is 2.*0 to 1"),
        ({"site": -1}, "site is -1"),
        ({"growth_plate": 7}, "growth_plate is 7"),
        ({"line": 2}, "line is 2.*0 to 1"),
        ({"patient": -3}, "patient is -3"),
        ({"size": 31}, "size is 31.*at least 32"),
        ({"severity": -0.1}, "severity is -0.1"),
        ({"severity": float("nan")}, "severity is nan"),
        ({"proportions": -1}, "proportions is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"threads": 0}, "threads is 0.*at least 1"),
    ],
)
def test_errors_show_what_was_given_and_expected(changes, message):
    with pytest.raises(ValueError, match=message) as error:
        make(**changes)
    assert "\n" not in str(error.value) and "expected" in str(error.value)


def test_factor_names():
    assert FACTORS["age"] == ("adult", "child") and len(CLASSES) == 4


def test_redrawn_phantoms_differ_in_what_was_changed_alone(small_cohort):
    rows = torch.tensor([3, 0, 7])
    plates = 1 - small_cohort.confounders["age"][rows]
    same, other = redraw(small_cohort, rows), redraw(small_cohort, rows, growth_plate=plates)
    np.testing.assert_array_equal(same.images, small_cohort.images[rows])
    differs = other.images != same.images
    assert differs.any(axis=(1, 2)).all() and not (differs & ~same.masks["humerus"]).any()
    moved = redraw(small_cohort, rows, site=1 - small_cohort.confounders["site"][rows])
    assert (moved.confounders["site"] == 1 - small_cohort.confounders["site"][rows]).all()
    assert (moved[[0, 1, 2]].label == small_cohort.label[rows]).all()
    assert len(redraw(small_cohort, torch.tensor([], dtype=torch.int64))) == 0


def test_only_phantoms_of_this_seed_are_redrawn(small_cohort):
    rows = torch.tensor([0])
    with pytest.raises(ValueError, match="not the phantoms of seed 1"):
        redraw(small_cohort, rows, seed=1)
    with pytest.raises(ValueError, match="not the phantoms of seed 0"):
        redraw(dataclasses.replace(small_cohort, confounders={}), rows)


def test_a_cohort_can_have_a_count_for_every_cell():
    counts = np.arange(8).reshape(4, 2)
    data = open_dataset("phantom", per_cell={"train": counts, "test": 1}, size=32)
    for split, wanted in (("train", counts), ("test", np.ones((4, 2)))):
        found = np.zeros((4, 2))
        rows = data.split == split
        np.add.at(found, (data.label.numpy()[rows], data.confounders["age"].numpy()[rows]), 1)
        assert (found == wanted).all()
    one, other = (
        open_dataset("phantom", per_cell={"train": n, "val": 1}, size=32)
        for n in (2, np.full((4, 2), 2))
    )
    assert (one.images == other.images).all() and (one.split == other.split).all()


def test_an_option_that_is_not_known_is_named():
    with pytest.raises(TypeError, match="'sizes'"):
        make(sizes=64)
    for name in ("sizes", "age"):
        with pytest.raises(ValueError, match=f"no option '{name}'.* per_cell, .*severity"):
            open_dataset("phantom", **{name: 1})


def test_phantoms_are_redrawn_as_they_were_drawn():
    drawing = {"severity": 1.2, "proportions": 2.0}
    data = open_dataset("phantom", per_cell={"": 2}, size=32, **drawing)
    unlike = (data.label != NORMAL).int() + data.confounders["age"]
    rows = torch.argsort(unlike)  # the first look the same, however they were drawn
    for name, value in drawing.items():
        with pytest.raises(ValueError, match=f"not the phantoms of seed 0 .*{name}.*expected"):
            redraw(data, rows, **{name: value})
    np.testing.assert_array_equal(redraw(data, rows, **drawing).images, data.images[rows])
    other = redraw(data, rows, site=1, **drawing)
    assert other.confounders["site"].tolist() == [1] * len(rows)
    kept = (other.images == data.images[rows]).all(axis=(1, 2))
    assert (kept == (data.confounders["site"][rows] == 1).numpy()).all()
