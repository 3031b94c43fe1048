"""Folders that are written anew: what was written there goes, and nothing else."""

import json
import os

import pytest

from xbl_kit.storage import OwnFiles, write_beside

RECORD = ".xbl-kit.json"


def own_names(folder):
    return OwnFiles(folder).names


def start_over(folder, names):
    files = OwnFiles(folder)
    files.begin(names)
    files.names |= set(names)
    files.save()


def _write(folder, names):
    """As a user of the module does: first the record, then the files."""
    start_over(folder, names)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"ours, {name}")


def _files(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()} - {RECORD}


FIRST, SECOND = ["a.csv", "images/0.png", "images/1.png"], ["a.csv", "images/0.png", "deep/er/b"]


def test_a_new_or_empty_folder_gets_a_record(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "new" / "er"):
        assert own_names(folder) == set()
        _write(folder, FIRST)
        assert own_names(folder) == _files(folder) == set(FIRST)


def test_only_what_is_recorded_is_removed(tmp_path):
    _write(tmp_path, FIRST)
    foreign = {"holiday.png", "images/2.png", "images/0.png.bak"}
    for name in foreign:
        (tmp_path / name).write_text("foreign")
    (tmp_path / "images/1.png").unlink()
    _write(tmp_path, SECOND)
    assert _files(tmp_path) == {*SECOND, *foreign} and own_names(tmp_path) == {*SECOND}
    assert all((tmp_path / name).read_text() == "foreign" for name in foreign)
    start_over(tmp_path, [])
    assert _files(tmp_path) == foreign and own_names(tmp_path) == set()


def test_a_folder_of_others_is_refused(tmp_path):
    for name in ("notes.txt", "a.csv"):
        folder = tmp_path / name[0]
        folder.mkdir()
        (folder / name).write_text("foreign")
        with pytest.raises(ValueError, match=rf"{folder}: {name} was not .*choose another folder"):
            start_over(folder, FIRST)
        assert _files(folder) == {name} and not (folder / RECORD).exists()


@pytest.mark.parametrize("name", ["new.csv", "deep/er/new", "in/the/way", "linked/new"])
def test_a_name_that_is_taken_is_refused_before_anything_is_removed(tmp_path, name):
    home, other = tmp_path / "home", tmp_path / "other"
    _write(home, FIRST)
    other.mkdir()
    (home / "deep/er/new").mkdir(parents=True)
    (home / "new.csv").write_text("foreign")
    (home / "in").write_text("a file, where a folder is to be")
    (home / "linked").symlink_to(other)
    before = _files(home)
    with pytest.raises(ValueError, match=r"home/(new.csv|deep/er/new|in|linked) was not written"):
        start_over(home, ["a.csv", name])
    assert _files(home) == before and own_names(home) == set(FIRST)


def test_a_folder_in_the_place_of_our_file_stays(tmp_path):
    _write(tmp_path, FIRST)
    (tmp_path / "a.csv").unlink()
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(ValueError, match=r"/a.csv was not written"):
        start_over(tmp_path, FIRST)
    start_over(tmp_path, ["b.csv"])
    assert (tmp_path / "a.csv").is_dir()


def test_our_file_may_lie_where_a_folder_is_to_be(tmp_path):
    _write(tmp_path, ["images"])
    _write(tmp_path, ["images/0.png"])
    assert _files(tmp_path) == {"images/0.png"}


def test_a_record_that_was_changed_is_not_followed(tmp_path):
    home = tmp_path / "home"
    _write(home, FIRST)
    secret = tmp_path / "secret"
    secret.write_text("foreign")
    (home / "up").symlink_to(tmp_path)
    for content in (
        json.dumps({"written_by": "xbl-kit", "files": ["../secret"]}),
        json.dumps({"written_by": "xbl-kit", "files": [str(secret)]}),
        json.dumps({"written_by": "xbl-kit", "files": ["up/secret"]}),
        json.dumps({"written_by": "xbl-kit", "files": 3}),
        json.dumps({"theme": "dark"}),
        json.dumps({"files": ["a.csv"]}),
        json.dumps(["a.csv"]),
        "no json",
    ):
        (home / RECORD).write_text(content)
        for call in (lambda: own_names(home), lambda: start_over(home, FIRST)):
            with pytest.raises(
                ValueError, match=r"\.xbl-kit\.json: not a record of files in"
            ) as error:
                call()
            assert "\n" not in str(error.value)
    assert secret.exists() and _files(home) >= set(FIRST)


def test_only_the_first_process_of_a_machine_touches_a_folder(tmp_path, monkeypatch):
    _write(tmp_path, FIRST)
    monkeypatch.setitem(os.environ, "LOCAL_RANK", "1")
    start_over(tmp_path, SECOND)
    assert _files(tmp_path) == own_names(tmp_path) == set(FIRST)


def test_a_link_that_leads_nowhere_is_not_replaced(tmp_path):
    """Its drive may only be away."""
    for name in ("card.md", "pick-1.npz"):
        (tmp_path / name).symlink_to(tmp_path / "unmounted")
    with pytest.warns(UserWarning, match=r"card\.md: says something else"):
        assert write_beside(tmp_path / "card.md", b"new").name == "card-1.md"
    files = OwnFiles(tmp_path / "run")
    files.write("pick.npz", b"mine")
    (tmp_path / "run/pick-1.npz").symlink_to(tmp_path / "unmounted")
    assert files.set_aside("pick.npz").name == "pick-2.npz"
    assert (tmp_path / "card.md").is_symlink() and (tmp_path / "run/pick-1.npz").is_symlink()
