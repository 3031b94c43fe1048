"""The automatic choice of exemplars."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from xbl_kit.data import Dataset
from xbl_kit.pick import pick_automatically, region_pixels, warn_of_other_sources


@pytest.fixture
def data():
    masks = np.zeros((6, 8, 8), dtype=bool)
    masks[:, :, :4] = True  # "lungs" are the left half
    return Dataset(
        images=np.full((6, 8, 8), 100, dtype=np.uint8),
        label=torch.tensor([0, 1, 0, 1, 0, 1]),
        classes=("ill", "well"),
        patient=torch.arange(6),
        masks={"lungs": masks},
    )


def _left(share: float) -> torch.Tensor:
    return torch.tensor([[share, 1 - share]] * 2)


CAMS = torch.stack([_left(s) for s in (0.5, 0.9, 0.2, 0.7, 1.0, 0.0)])
RIGHT = torch.tensor([0, 1, 0, 1])


def test_the_best_and_the_worst_right_prediction_are_taken(data):
    rows = torch.tensor([5, 1, 2, 3, 4])
    predicted = torch.tensor([0, 1, 0, 1, 1])  # rows 5 and 4 are wrong
    exemplar = pick_automatically(data, rows, CAMS[rows], predicted)
    assert exemplar.summary() == {
        "picked_by": "auto",
        "good": {"index": 1, "label": "well"},
        "bad": {"index": 2, "label": "ill"},
    }
    assert torch.equal(exemplar.good.cam, CAMS[1:2])


def test_several_pairs(data):
    exemplar = pick_automatically(data, torch.arange(6), CAMS, data.label, pairs=2)
    assert exemplar.good.index == (4, 1) and exemplar.bad.index == (5, 3)


def test_the_bad_one_comes_from_the_class_that_looks_away_most(data):
    """Row 2 has the worst map of all, but it is an oddity of a class that looks inside."""
    cams = torch.stack([_left(share) for share in (0.95, 0.3, 0.1, 0.3, 1.0, 0.3)])
    exemplar = pick_automatically(data, torch.arange(6), cams, data.label)
    assert exemplar.bad.label == ("well",) and exemplar.good.index == (4,)


def test_an_empty_map_is_never_picked_and_too_few_are_an_error(data):
    cams = CAMS.clone()
    cams[[2, 4]] = 0
    exemplar = pick_automatically(data, torch.arange(4), cams[:4], RIGHT)
    assert exemplar.bad.index == (0,)
    with pytest.raises(ValueError, match=r"only 1 right predictions"):
        pick_automatically(data, torch.tensor([0, 2]), cams[[0, 2]], torch.tensor([0, 0]))


def test_a_box_stands_in_for_masks(data):
    bare = replace(data, masks={})
    with pytest.raises(ValueError, match=r"'lungs'.*there are: none.*left,top,right,bottom"):
        pick_automatically(bare, torch.arange(6), CAMS, data.label)
    right_half = pick_automatically(
        bare, torch.arange(6), CAMS, data.label, region=(0.5, 0.0, 1.0, 1.0)
    )
    assert right_half.good.index == (5,) and right_half.bad.index == (4,)
    pixels = region_pixels(bare[[0]], (0.5, 0.0, 1.0, 0.25))[0]
    assert pixels.nonzero().tolist() == [[y, x] for y in (0, 1) for x in (4, 5, 6, 7)]
    with pytest.raises(ValueError, match="left < right"):
        region_pixels(bare[[0]], (0.5, 0.0, 0.2, 1.0))


def test_a_counter_group_from_elsewhere_is_told(data):
    counter = torch.tensor([0, 0, 0, 1, 0, 1], dtype=torch.bool)
    sites = {"confounders": {"site": torch.tensor([0, 0, 0, 0, 1, 2])}}
    told = replace(data, counter=counter, levels={"site": ("a", "b", "c")}, **sites)
    with pytest.warns(UserWarning, match=r"1 of 2 counter .* source than ill \(c\)"):
        warn_of_other_sources(told, biased=0)
    warn_of_other_sources(replace(told, counter=counter & False), biased=0)
    warn_of_other_sources(data, biased=0)
