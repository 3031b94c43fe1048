"""Morpho-MNIST on digits that the test draws: strokes, turns, cells, what is refused."""

import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion

from xbl_kit.data import open_dataset
from xbl_kit.data.morphomnist import _restroke
from xbl_kit.run.task import inputs_of, settle

SPLITS = {"train": 300, "t10k": 120}


def write_mnist(root: Path) -> Path:
    """Files as MNIST's: upright bars, digit d as wide as 3 + d % 2 pixels."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, n in SPLITS.items():
        digits, label = np.zeros((n, 28, 28), np.uint8), (np.arange(n) % 10).astype(np.uint8)
        for i, digit in enumerate(digits):
            digit[6:22, 12 : 15 + label[i] % 2] = 255
        head = struct.pack(">IIII", 2051, n, 28, 28)
        (raw / f"{name}-images-idx3-ubyte").write_bytes(head + digits.tobytes())
        head = struct.pack(">II", 2049, n)
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(head + label.tobytes())
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    counts = {"train": np.array([[[9, 1], [5, 2]], [[1, 8], [2, 6]]]), "val": 2, "test": 3}
    return open_dataset("morphomnist", write_mnist(tmp_path_factory.mktemp("m")), per_cell=counts)


def test_every_cell_has_the_images_that_were_asked_for_and_no_digit_is_drawn_twice(data):
    assert data.images.shape == (34 + 16 + 24, 28, 28) and data.classes == ("0-4", "5-9")
    train = data.split == "train"
    cells = [data.label, data.confounders["stroke"], data.confounders["rotation"]]
    counts = np.zeros((2, 2, 2), int)
    np.add.at(counts, tuple(cell.numpy()[train] for cell in cells), 1)
    assert counts.tolist() == [[[9, 1], [5, 2]], [[1, 8], [2, 6]]]
    assert len(data.patient.unique()) == len(data)
    number = data.patient.numpy()
    assert ((number >= 60_000) == (data.split == "test")).all()
    assert ((number % 60_000 % 10 >= 5) == (data.label.numpy() == 1)).all()


def test_the_stroke_is_thin_or_thick_and_the_digit_turned(data):
    ink = data.images > 127
    tall, wide = ink.any(axis=2).sum(axis=1), ink.any(axis=1).sum(axis=1)
    turned = data.confounders["rotation"].numpy() == 1
    assert (tall[~turned] > wide[~turned]).all() and (tall[turned] < wide[turned]).all()
    across = np.minimum(tall, wide)
    thick = data.confounders["stroke"].numpy() == 1
    assert across[~thick].max() <= 3 < 6 <= across[thick].min()


def test_a_threshold_on_distances_is_morphology_with_a_disk():
    ink = np.zeros((40, 40), bool)
    ink[8:32, 16:24] = True
    ink[8:16, 16:36] = True
    reach = np.hypot(*np.mgrid[-20:21, -20:21])
    thick, thin = _restroke(ink, True), _restroke(ink, False)
    dilated = [binary_dilation(ink, reach <= r) for r in np.arange(1, 9, 0.25)]
    eroded = [binary_erosion(ink, reach <= r) for r in np.arange(0, 4, 0.25)]
    assert any((thick == one).all() for one in dilated)
    assert any((thin == one).all() for one in eroded)
    assert thin.sum() < ink.sum() < thick.sum()


def test_no_stroke_vanishes_and_an_empty_digit_stays_empty():
    dot = np.zeros((20, 20), bool)
    dot[9:11, 9:11] = True
    assert _restroke(dot, False).any()
    assert not _restroke(np.zeros((20, 20), bool), False).any()


def test_the_same_seed_gives_the_same_digits(tmp_path):
    root = write_mnist(tmp_path)
    one, same, other = (
        open_dataset("morphomnist", root, per_cell={"train": 4}, seed=seed) for seed in (0, 0, 1)
    )
    assert (one.images == same.images).all() and (one.patient != other.patient).any()


def test_what_is_of_no_use_is_said(tmp_path, monkeypatch):
    root = write_mnist(tmp_path / "here")
    with pytest.raises(ValueError, match="150 digits 0-4, 160 wanted"):
        open_dataset("morphomnist", root, per_cell={"train": 40})
    with pytest.raises(ValueError, match="'slant'"):
        open_dataset("morphomnist", root, crossed=("slant",))

    def offline(*_, **__):
        raise RuntimeError("no network")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", offline)
    with pytest.raises(ValueError, match="no MNIST there"):
        open_dataset("morphomnist", tmp_path / "absent")


def test_only_the_test_split_is_drawn_from_the_test_set(tmp_path):
    data = open_dataset("morphomnist", write_mnist(tmp_path), per_cell={"": 2, "test": 2})
    assert ((data.patient.numpy() >= 60_000) == (data.split == "test")).all()
    assert len(data.patient.unique()) == len(data) and data.images.any(axis=(1, 2)).all()


def test_other_digits_are_other_data(tmp_path):
    how = settle("mimm-x", data="morphomnist", root=write_mnist(tmp_path))
    before = inputs_of(how)["data"]
    file = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    assert before and inputs_of(how)["data"] == before
    file.write_bytes(file.read_bytes()[:-1] + b"\7")
    assert inputs_of(how)["data"] != before
