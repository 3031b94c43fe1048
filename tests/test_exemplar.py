"""The exemplar file: what goes in comes out, and what is none is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from xbl_kit.exemplar import Exemplar, Explained, picked_by_person


def _explained(k=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Explained(
        image=torch.rand(k, 1, 8, 8, generator=generator),
        cam=torch.rand(k, 2, 2, generator=generator),
        index=tuple(range(7, 7 + k)),
        label=("COVID",) * k,
    )


@pytest.mark.parametrize("k", [1, 3])
def test_save_and_load(tmp_path, k):
    exemplar = Exemplar(good=_explained(k), bad=_explained(1, seed=1), picked_by="auto")
    exemplar.save(tmp_path / "pick.npz")
    again = Exemplar.load(tmp_path / "pick.npz")
    assert again.summary() == exemplar.summary()
    for side in ("good", "bad"):
        ours, theirs = getattr(exemplar, side), getattr(again, side)
        assert torch.equal(ours.image, theirs.image) and torch.equal(ours.cam, theirs.cam)


def test_summary_of_one_and_of_several():
    summary = Exemplar(good=_explained(2), bad=_explained()).summary()
    assert summary["picked_by"] == "person"
    assert summary["good"] == [{"index": 7, "label": "COVID"}, {"index": 8, "label": "COVID"}]
    assert summary["bad"] == {"index": 7, "label": "COVID"}


def test_other_files_are_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.npz: no such exemplar"):
        Exemplar.load(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "other.npz", a=np.zeros(2))
    np.savez(tmp_path / "pickle.npz", picked_by=np.array([{}], dtype=object))
    for name in ("text.npz", "other.npz", "pickle.npz"):
        with pytest.raises(ValueError, match=f"{name[:-4]}.*not an exemplar"):
            Exemplar.load(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("good_image", np.zeros((1, 3, 8, 8), np.float32)),
        ("good_image", np.full((1, 1, 8, 8), 255, np.float32)),
        ("bad_image", np.full((1, 1, 8, 8), -1, np.float32)),
        ("bad_cam", np.zeros((1, 0, 4), np.float32)),
        ("good_cam", -np.ones((1, 2, 2), np.float32)),
    ],
)
def test_arrays_that_are_no_images_or_maps_are_refused(tmp_path, name, array):
    side = Explained(torch.rand(1, 1, 8, 8), torch.rand(1, 2, 2), (0,), ("a",))
    Exemplar(side, side).save(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", **(dict(np.load(tmp_path / "a.npz")) | {name: array}))
    with pytest.raises(ValueError, match=rf"b\.npz: .*{name.split('_')[0]}: expected grey"):
        Exemplar.load(tmp_path / "b.npz")


def test_parts_must_fit():
    with pytest.raises(ValueError, match="as many maps, rows and labels as images"):
        Explained(torch.rand(2, 1, 4, 4), torch.rand(1, 2, 2), (1, 2), ("a", "b"))
    with pytest.raises(ValueError, match="at least one"):
        Explained(torch.rand(0, 1, 4, 4), torch.rand(0, 2, 2), (), ())


def test_no_pick_replaces_that_of_another_person(tmp_path):
    """Whoever saves it: a lesson run again, a run, a script."""
    file = tmp_path / "exemplar.npz"
    by_hand = Exemplar(good=_explained(), bad=_explained(seed=1), picked_by="group 3")
    ranked = Exemplar(good=_explained(seed=2), bad=_explained(seed=3), picked_by="auto")
    ranked.save(file)
    by_hand.save(file)  # what the ranking picked may be replaced, and a person may pick anew
    by_hand.save(file)
    for other in (ranked, replace(by_hand, picked_by="Ada"), replace(by_hand, picked_by="person")):
        with pytest.raises(FileExistsError, match=r"npz: picked by 'group 3', whom.* another name"):
            other.save(file)
    assert Exemplar.load(file).picked_by == "group 3"
    assert picked_by_person(file).summary() == by_hand.summary()
    ranked.save(tmp_path / "other.npz")
    assert picked_by_person(tmp_path / "other.npz") is None
    assert picked_by_person(tmp_path / "absent.npz") is None


def test_saving_replaces_no_file_of_another_kind_and_damage_is_named(tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    exemplar = Exemplar(good=_explained(), bad=_explained(seed=1))
    with pytest.raises(ValueError, match=r"notes\.txt: not an exemplar"):
        exemplar.save(notes)
    assert notes.read_text() == "mine"
    exemplar.save(tmp_path / "pick.npz")
    whole = (tmp_path / "pick.npz").read_bytes()
    for damaged in (whole[:900], whole[:300] + b"x" + whole[301:], whole[:40]):
        (tmp_path / "pick.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"pick\.npz: not an exemplar"):
            Exemplar.load(tmp_path / "pick.npz")


@pytest.fixture
def pair():
    return Exemplar(good=_explained(), bad=_explained(seed=1))


@pytest.mark.parametrize(
    ("name", "file", "kept"),
    [
        ("Ada", "Ada.npz", "Ada"),
        ("  Zoë   L. ", "Zoë-L.npz", "Zoë L."),
        ("Zoe\u0308", "Zoë.npz", "Zoë"),  # one letter, however it was typed
        ("../../etc/passwd", "etc-passwd.npz", "../../etc/passwd"),
        ("C:\\x|?*", "C-x.npz", "C:\\x|?*"),
        ("李", "李.npz", "李"),
        ("a" * 300, "a" * 60 + ".npz", "a" * 60),
    ],
)
def test_a_pick_is_saved_under_a_persons_name(pair, tmp_path, name, file, kept):
    assert pair.save_as(name, tmp_path / "picks") == tmp_path / "picks" / file
    assert [path.name for path in (tmp_path / "picks").iterdir()] == [file]
    again = Exemplar.load(tmp_path / "picks" / file)
    assert again.picked_by == kept and again.good.index == pair.good.index


@pytest.mark.parametrize("name", ["", "  ", "...", "-/-", "auto", " Auto "])
def test_a_name_that_is_none_is_refused(pair, tmp_path, name):
    with pytest.raises(ValueError, match=r"^name .*choose another$"):
        pair.save_as(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_taken_gets_a_number_and_nothing_is_lost(pair, tmp_path):
    (tmp_path / "Ada.npz").write_text("hers")
    with pytest.warns(UserWarning, match=r"Ada\.npz: says something else, and stays"):
        assert pair.save_as("Ada", tmp_path).name == "Ada-1.npz"
    other = Exemplar(good=_explained(seed=2), bad=_explained(seed=3))
    with pytest.warns(UserWarning, match=r"Ada(-1)?\.npz"):
        assert other.save_as("Ada", tmp_path).name == "Ada-2.npz"
    assert (tmp_path / "Ada.npz").read_text() == "hers"
    with pytest.warns(UserWarning, match=r"Ada\.npz"):  # the same picks need no third file
        assert pair.save_as("Ada", tmp_path).name == "Ada-1.npz"
    assert torch.equal(Exemplar.load(tmp_path / "Ada-1.npz").good.cam, pair.good.cam)
