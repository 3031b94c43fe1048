"""What is said of a class's picks, on a run and on files that are made once."""

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from xbl_kit.cli import main
from xbl_kit.exemplar import Exemplar, Explained
from xbl_kit.pick import explained, is_of
from xbl_kit.run import class_picks, open_run, picks, reproduce
from xbl_kit.train import predict

SCHEDULE = {name: {"epochs": 2, "lr": 1e-3} for name in ("train", "refine", "oracle")}
SMALL = {"size": 32, "per_class": {"train": 20, "val": 4, "test": 8}} | SCHEDULE
PEOPLE = {"Ada": (1, 2), "Ben": (1, 2), "Cleo": (1, 3), "Zoë L.": (4, 2)}


def drawn(at: int) -> Exemplar:
    """A pair of noise, of data that nobody has."""
    noise = torch.rand(4, 32, 32, generator=torch.Generator().manual_seed(at))
    sides = [
        Explained(noise[i : i + 1, None], noise[i + 2 : i + 3, ::4, ::4], (at + i,), ("COVID",))
        for i in range(2)
    ]
    return Exemplar(*sides)


@pytest.fixture(scope="module")
def run(once):
    """A run of eXBL that takes seconds."""

    def fill(folder):
        models = ["unrefined", "control", "exbl"]
        reproduce("exbl", plan=SMALL, models=models, out=folder / "run", device="cpu")

    return once("picks-run", fill) / "run"


@pytest.fixture
def of(run):
    """Makes a pair of the run's training images, by their places in the first twenty."""
    opened = open_run(run)
    rows = opened.rows["train"][:20]
    cam = predict(opened.models["unrefined"], opened.data, rows).cam
    return lambda *at: Exemplar(*(explained(opened.data, rows, cam, torch.tensor([a])) for a in at))


@pytest.fixture
def folder(of, tmp_path):
    """A folder with the files of a class."""
    for name, at in PEOPLE.items():
        of(*at).save_as(name, tmp_path / "picks")
    return tmp_path / "picks"


def rows_of(results: dict) -> dict[int, tuple[int, int]]:
    return {each["row"]: (len(each["good"]), len(each["bad"])) for each in results["images"]}


def test_who_picked_what(folder, of):
    results = class_picks(folder)
    assert results["people"] == {
        "Ada.npz": "Ada", "Ben.npz": "Ben", "Cleo.npz": "Cleo", "Zoë-L.npz": "Zoë L."
    }  # fmt: skip
    row = {at: of(at, 0).good.index[0] for at in (1, 2, 3, 4)}
    assert rows_of(results) == {row[1]: (3, 0), row[2]: (0, 3), row[3]: (0, 1), row[4]: (1, 0)}
    assert {rows for rows in list(rows_of(results))[:2]} == {row[1], row[2]}, "most often first"
    first, *others = results["pairs"].values()
    assert first["files"] == ["Ada.npz", "Ben.npz"] and len(others) == 2
    assert results["reference"] == {} and "share" not in results["images"][0]


def naive_kappa(votes: list[dict[int, str]], shown: int) -> float:
    """Observed and expected agreement, counted question by question and two people at a time."""
    questions = [(image, side) for image in range(shown) for side in ("good", "bad")]
    ratings = [[one.get(image) == side for one in votes] for image, side in questions]
    two = list(combinations(range(len(votes)), 2))
    same = [np.mean([each[a] == each[b] for a, b in two]) for each in ratings]
    every = [rating for each in ratings for rating in each]
    chance = sum((every.count(kind) / len(every)) ** 2 for kind in set(every))
    return (np.mean(same) - chance) / (1 - chance)


def as_images(votes: list[dict[int, str]]) -> list[dict]:
    rows = sorted({row for one in votes for row in one})
    sides = ("good", "bad")
    return [{s: [i for i, v in enumerate(votes) if v.get(r) == s] for s in sides} for r in rows]


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ([{1: "good", 2: "bad"}] * 3, 1),
        ([{1: "good", 2: "bad"}, {3: "good", 4: "bad"}], 0),
        ([{1: "good", 2: "bad"}, {1: "good", 3: "bad"}], 0.5),  # one of two in common
        ([{1: "good", 2: "bad"}, {1: "bad", 2: "good"}], 0),  # no agreement: the opposite
        ([{0: "good", 1: "good", 5: "bad"}, {1: "good", 9: "bad"}, {1: "bad", 5: "bad"}], 0.29),
    ],
)
@pytest.mark.parametrize("shown", [40, 300])
def test_kappa_is_what_two_people_have_in_common(votes, expected, shown):
    pytest.importorskip("statsmodels")
    found = picks.agreement(as_images(votes), len(votes), shown)
    assert found["kappa"] == pytest.approx(naive_kappa(votes, shown), abs=1e-4)
    assert found["kappa"] == pytest.approx(expected, abs=0.06)


def test_one_person_is_told_and_is_no_nan(of, tmp_path, capsys):
    of(1, 2).save_as("Ada", tmp_path / "picks")
    found = class_picks(tmp_path / "picks")["agreement"]
    assert found["kappa"] is None and "one person" in found["said"]
    assert main(["picks", str(tmp_path / "picks"), "--out", str(tmp_path / "out")]) == 0
    assert "one person alone: nobody to agree with" in capsys.readouterr().out


def test_without_statsmodels_all_else_is_said(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "statsmodels.stats.inter_rater", None)
    found = class_picks(folder)
    assert found["agreement"]["kappa"] is None and len(found["images"]) == 4
    assert "pip install 'xbl-kit[class]'" in found["agreement"]["said"]


def test_a_bad_file_is_named_and_the_others_are_read(folder):
    (folder / "notes.npz").write_text("hello")
    (folder / "readme.txt").write_text("not looked at")
    with pytest.warns(UserWarning, match=r"notes\.npz: not an exemplar.*left out") as said:
        assert len(class_picks(folder)["people"]) == 4
    assert len(said) == 1


@pytest.mark.parametrize("files", [(), ("readme.txt",)])
def test_a_folder_without_picks_is_an_error(tmp_path, files):
    for name in files:
        (tmp_path / name).write_text("hello")
    with pytest.raises(ValueError, match=r"no exemplar files \(NAME\.npz\)"):
        class_picks(tmp_path)
    with pytest.raises(ValueError, match="absent: no exemplar files"):
        class_picks(tmp_path / "absent")


def test_a_name_that_comes_twice_is_told(folder, of):
    with pytest.warns(UserWarning, match="says something else"):
        of(5, 6).save_as("Ada", folder)
    with pytest.warns(UserWarning, match=r"Ada-1\.npz, Ada\.npz were all picked by Ada"):
        assert len(class_picks(folder)["people"]) == 5


def test_picks_of_other_data_are_told_or_left_out(folder, run, of):
    row = of(1, 0).good.index[0]
    stranger = replace(drawn(row), picked_by="Eve")
    stranger.save_as("Eve", folder)
    with pytest.warns(UserWarning, match=rf"Eve\.npz: row {row} is another image than in Ada"):
        assert len(class_picks(folder)["people"]) == 5
    with pytest.warns(UserWarning, match=r"Eve\.npz: its images are not in .* left out"):
        assert "Eve.npz" not in class_picks(folder, run=run)["people"]
    for file in folder.glob("*.npz"):
        file.unlink()
    stranger.save_as("Eve", folder)
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(ValueError, match="no file was picked from the data of this run"),
    ):
        class_picks(folder, run=run)


def test_it_is_said_where_the_maps_lie(folder, run):
    opened = open_run(run)
    for each in class_picks(folder, run=run)["images"]:
        assert set(each["share"]) == set(opened.data.masks)
        assert 0 <= (each["share"]["lungs"] or 0) <= 1  # None: an empty map


def test_each_pair_refines_once_and_is_taken_over(folder, run, of, tmp_path):
    out = tmp_path / "out"
    results = class_picks(folder, run=run, train=True, out=out, device="cpu")
    assert results == json.loads((out / "results.json").read_text())
    assert set(results["reference"]) == {"Unrefined", "Control", "eXBL, the run's own pair"}
    for each in results["pairs"].values():
        assert set(each["effect"]) == set(picks.MEASURES)
    folders = sorted(out.glob("pair-*"))
    assert len(folders) == 3 and (out / "effect.png").is_file() and (out / "picked.png").is_file()
    weights = {each: (each / "model-exbl.safetensors").stat().st_mtime_ns for each in folders}
    of(1, 2).save_as("Dan", folder)
    of(7, 8).save_as("Eve", folder)
    again = class_picks(folder, run=run, train=True, out=out, resume=True, device="cpu")
    assert len(again["pairs"]) == 4 and len(list(out.glob("pair-*"))) == 4
    assert all((f / "model-exbl.safetensors").stat().st_mtime_ns == weights[f] for f in folders)
    for name, each in results["pairs"].items():
        assert again["pairs"][name]["effect"] == each["effect"]


def test_a_pair_does_the_same_as_in_a_run_of_its_own(folder, run, tmp_path):
    found = class_picks(folder, run=run, train=True, out=tmp_path / "out", device="cpu")
    how = {"plan": SMALL, "models": ["unrefined", "exbl"], "device": "cpu"}
    alone = reproduce("exbl", exemplars=folder / "Cleo.npz", **how)["models"]["exbl"]
    (pair,) = (each for each in found["pairs"].values() if each["files"] == ["Cleo.npz"])
    balanced = alone["splits"]["balanced"]
    assert pair["effect"] == {key: balanced[key] for key in picks.MEASURES}


def test_training_needs_a_run_that_has_what_to_refine(folder, run, tmp_path):
    with pytest.raises(ValueError, match="give --run, such as --run build/start-here"):
        class_picks(folder, train=True, out=tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="absent: no finished run"):
        class_picks(folder, run=tmp_path / "absent")


def test_the_command_says_it_and_keeps_others_files(folder, run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["picks", "picks", "--run", str(run)]) == 0
    said = capsys.readouterr().out
    assert "kappa" in said and "in lungs" in said and "Ada, Ben" in said
    assert main(["picks", "picks", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["agreement"]["people"] == 4
    assert printed == json.loads((tmp_path / "build/picks-picks/results.json").read_text())
    assert main(["picks", "picks", "--out", "picks"]) == 1  # the class's files are no results
    assert "was not written by xbl-kit" in capsys.readouterr().err
    assert main(["picks", "absent"]) == 1
    assert "absent: no exemplar files" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["picks"])
    assert stop.value.code == 2


def test_an_exemplar_of_other_images_is_told_when_it_is_replayed(run, of, tmp_path):
    opened = open_run(run)
    assert is_of(of(1, 2), opened.data) and not is_of(drawn(3), opened.data)
    far = replace(of(1, 2).good, index=(10**6,))
    assert not is_of(Exemplar(far, far), opened.data)
    drawn(3).save(tmp_path / "other.npz")
    of(1, 2).save(tmp_path / "own.npz")
    how = {"plan": SMALL, "models": ["unrefined", "exbl"], "device": "cpu"}
    reproduce("exbl", exemplars=tmp_path / "own.npz", **how)
    with pytest.warns(UserWarning, match="other images than in rows 3, 4 of these data"):
        reproduce("exbl", exemplars=tmp_path / "other.npz", **how)
