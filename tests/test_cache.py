"""Files are decoded once: by their contents, their size and the way they are read."""

import dataclasses
from functools import partial

import numpy as np
import pytest
from PIL import Image
from test_table import _write

from xbl_kit.data import list_images, open_dataset, picture
from xbl_kit.data.cache import read_manifest


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
    assert again[[0, 3]].image.shape == (2, 1, 8, 8) and len(list(folder.iterdir())) == 1
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
    assert len(list(folder.iterdir())) == 3
