"""What the fixtures of all tests promise."""

from concurrent.futures import ThreadPoolExecutor

import pytest


def test_a_folder_is_filled_once_whoever_asks(once):
    filled = []

    def fill(folder):
        filled.append(folder)
        (folder / "made").write_text("x")

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(once, "asked-for-at-once", fill) for _ in range(4)]
    folders = {each.result() for each in asked}
    assert len(filled) == len(folders) == 1 and once("asked-for-at-once", fill) in folders
    assert (folders.pop() / "made").read_text() == "x"


def test_a_folder_half_filled_is_none(once):
    def fail(folder):
        (folder / "half").write_text("x")
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        once("tried-again", fail)
    assert not list(once("tried-again", lambda folder: None).iterdir())
