"""Files are decoded once: by their path, size and time of change, and the way they are read."""

import dataclasses
import sys
import warnings
from collections import Counter
from functools import partial

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_table import _rows, _write

from xbl_kit.data import DataError, list_images, open_dataset, picture
from xbl_kit.data.open import read_manifest

BARE = [{"image": row["image"], "label": row["label"]} for row in _rows()]
OPENED: Counter | None = None


def _note(event: str, arguments: tuple) -> None:
    if OPENED is not None and event == "open" and isinstance(arguments[0], str):
        OPENED[arguments[0]] += 1


sys.addaudithook(_note)


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """How often each picture of `tmp_path / "data"` is opened by a function, whoever opens it."""

    def count(function) -> Counter:
        with monkeypatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            patch.setattr(sys.modules[__name__], "OPENED", Counter())
            function()
            seen = {path: n for path, n in OPENED.items() if path.endswith(".png")}
        return Counter({path: n for path, n in seen.items() if str(tmp_path / "data") in path})

    return count


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XBL_KIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


def test_the_second_opening_and_a_pass_decode_nothing(tmp_path, folder, monkeypatch):
    first = open_dataset("table", _write(tmp_path / "data"), size=8)

    def decode(path):
        raise AssertionError(f"{path} is decoded again")

    monkeypatch.setattr(picture, "read_picture", decode)
    again = open_dataset("table", tmp_path / "data", size=8)
    assert isinstance(again.images, np.memmap) and not again.images.flags.writeable
    assert np.array_equal(first.images, again.images)
    assert np.array_equal(first.masks["lungs"], again.masks["lungs"])
    assert again[[0, 3]].image.shape == (2, 1, 8, 8) and len(list(folder.glob("*.npy"))) == 1
    with pytest.raises(AssertionError, match="is decoded again"):
        open_dataset("table", tmp_path / "data", size=9)


def test_a_changed_file_or_another_way_of_reading_makes_another_cache(tmp_path, folder):
    root = _write(tmp_path / "data")
    old = open_dataset("table", root, size=8).images[2].copy()
    image = Image.open(root / "images/2.png").point(lambda grey: 255 - grey)
    image.save(root / "images/2.png")
    new = open_dataset("table", root, size=8).images
    assert abs(int(new[2, 0, 0]) - (255 - int(old[0, 0]))) <= 1
    listing = list_images("table", root)
    padded = dataclasses.replace(listing, read=partial(picture.read_frames, pad=True))
    above, below = read_manifest(padded, size=8).images[1, [0, 4], 0].tolist()
    assert above < below == 40, "an image of 20 x 16 gets black borders above and below"
    assert len(list(folder.glob("*.npy"))) == 3


def test_a_second_opening_reads_no_file(tmp_path, folder, opened):
    root = _write(tmp_path / "data")
    assert len(opened(lambda: open_dataset("table", root, size=8))) == 12
    assert not opened(lambda: open_dataset("table", root, size=8))
    assert not opened(lambda: open_dataset("table", root, size=8, skip_faulty=True))


def _spoil(root):
    """Of six rows the second cannot be read, the third has no file, the fifth is the fourth."""
    (root / "images/1.png").write_bytes(b"hello")
    (root / "images/2.png").unlink()
    (root / "images/4.png").write_bytes((root / "images/3.png").read_bytes())


def _pairs():
    """Two rows a label, so that each is left when one picture of both labels is not."""
    return [row | {"label": "ill" if i in (0, 3, 4) else "well"} for i, row in enumerate(_rows())]


def test_what_is_left_out_is_remembered(tmp_path, folder, opened):
    root = _write(tmp_path / "data", _pairs())
    _spoil(root)
    found = []

    def skip():
        found.append(open_dataset("table", root, size=8, skip_faulty=True))

    def refused():
        with pytest.raises(DataError, match=r"line 4: image .*images/2\.png: no such file$"):
            open_dataset("table", root, size=8)

    assert not opened(refused), "what a path tells is told before a picture is read"
    with pytest.warns(UserWarning, match="3 of 6 rows left out; `xbl-kit data check` lists them"):
        skip()
    assert not opened(skip)
    for data in found:
        assert data.images[:, 3, 3].tolist() == [0, 120, 200]
        assert data.masks["lungs"].shape == (3, 8, 8) and data.label.tolist() == [0, 0, 1]


def test_what_is_left_out_costs_one_more_decoding_at_most(tmp_path, folder, monkeypatch):
    root, read, decoded = _write(tmp_path / "data", _pairs()), picture.read_picture, Counter()
    _spoil(root)
    monkeypatch.setattr(picture, "read_picture", lambda p: decoded.update([p.name]) or read(p))
    with pytest.warns(UserWarning, match="3 of 6 rows left out"):
        open_dataset("table", root, size=8, skip_faulty=True)
    # image and mask of each row: twice where they are kept, once where not
    assert decoded == {"0.png": 4, "1.png": 1, "3.png": 4, "4.png": 2, "5.png": 4}


def test_a_refusal_is_never_from_memory(tmp_path, folder, opened):
    root = _write(tmp_path / "data")
    (root / "images/1.png").write_bytes(b"hello")

    def refused():
        with pytest.raises(DataError, match="not a picture"):
            open_dataset("table", root, size=8)

    assert opened(refused) and opened(refused), "a missing package may have been installed"
    assert "pixels" not in str(list(folder.iterdir()))


def test_twins_are_judged_by_the_labels_of_today(tmp_path, folder):
    root = _write(tmp_path / "data", _pairs())
    (root / "images/4.png").write_bytes((root / "images/3.png").read_bytes())
    with pytest.warns(UserWarning, match="1 of 6 rows left out"):
        assert len(open_dataset("table", root, size=8, skip_faulty=True)) == 5
    rows = _pairs()
    rows[4]["label"], rows[5]["label"] = "well", "ill"
    pd.DataFrame(rows).to_csv(root / "metadata.csv", index=False)
    with pytest.warns(UserWarning, match="2 of 6 rows left out"):
        data = open_dataset("table", root, size=8, skip_faulty=True)
    assert data.images[:, 3, 3].tolist() == [0, 40, 80, 200]
    assert data.label.tolist() == [0, 1, 1, 0]


def test_what_is_left_must_still_be_a_data_set(tmp_path, folder):
    parts = ("val", "train", "test")
    rows = [row | {"split": parts[i // 2]} for i, row in enumerate(_rows())]
    root = _write(tmp_path / "data", rows)
    (root / "images/1.png").write_bytes(b"hello")
    with (
        pytest.warns(UserWarning, match="1 of 6 rows left out"),
        pytest.raises(DataError, match="split 'val' has no row with label 'well'"),
    ):
        open_dataset("table", root, size=8, skip_faulty=True)
    for file in (root / "images").iterdir():
        file.write_bytes(b"hello")
    for _ in range(2):
        with pytest.raises(DataError, match=r"images/0\.png: not a picture.*and 5 more"):
            open_dataset("table", root, size=8, skip_faulty=True)


def test_masks_can_be_of_another_region(tmp_path, folder):
    root = _write(tmp_path / "data")
    data = open_dataset("table", root, size=8, mask_region="brain")
    assert list(data.masks) == ["brain"] and list(data[[1]].masks) == ["brain"]
    with pytest.raises(DataError, match="mask_region is 'brain', but there is no column 'mask'"):
        open_dataset("table", _write(tmp_path / "bare", BARE), size=8, mask_region="brain")
