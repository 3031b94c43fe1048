"""Lessons leave a user's files alone: a folder of images, and a pair that a person picked."""

import json
from itertools import dropwhile
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image

import xbl_kit.data
from xbl_kit.batch import Prediction
from xbl_kit.exemplar import Exemplar, Explained
from xbl_kit.explain import image_times_cam
from xbl_kit.models import build_classifier
from xbl_kit.run import PRESETS, Run

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
BOX = "(0.0, 0.0, 0.5, 1.0)"  # the left half
SHORT = {"size": 32, "unrefined": {"epochs": 6, "lr": 3e-3}, "refine": {"epochs": 2, "lr": 1e-3}}


def cells(name: str) -> list[str]:
    """The code of a lesson and its headings, without the first cell, which fetches a kit, and the
    exercises: no other cell uses them."""
    found = []
    for cell in nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells:
        if cell.cell_type == "markdown":
            found += [line for line in cell.source.splitlines() if line.startswith("## ")]
        elif not {"exercise", "check", "first-cell"} & set(cell.metadata.get("tags", ())):
            found.append(cell.source)
    return found


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def run(sources: list[str]) -> dict:
    """Run cells in this process, as one kernel would; returns the names they have made."""
    names = {}
    for source in sources:
        exec(compile(source, source, "exec"), names)
    return names


@pytest.fixture
def kit(tmp_path, monkeypatch):
    """A folder of its own to run lessons in, on images and with trainings that are small."""
    opened = xbl_kit.data.open_dataset

    def small(kind, *args, **options):
        return opened(kind, *args, **({"size": 32} if kind == "phantom" else {}) | options)

    monkeypatch.setattr(xbl_kit.data, "open_dataset", small)
    monkeypatch.setitem(PRESETS, "classroom", PRESETS["classroom"] | SHORT)
    monkeypatch.setenv("XBL_KIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "kit" / "notebooks").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "kit" / "notebooks")
    return tmp_path / "kit"


@pytest.fixture
def mine(tmp_path):
    """A user's images, bright on the left or all over, and files named like those of the lesson."""
    folder = tmp_path / "mine"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    lines = ["image,label,ward"]
    for row in range(48):
        picture = np.random.default_rng(row).integers(0, 100, (40, 40), dtype=np.uint8)
        picture[:, : 20 if row % 2 else 40] += 100
        Image.fromarray(picture).save(folder / f"images/{row:05}.png")
        lines.append(f"images/{row:05}.png,{('ill', 'well')[row % 2]},{'AB'[row // 2 % 2]}")
    (folder / "metadata.csv").write_text("\n".join(lines))
    for name in ("images/print.jpg", "images/01000.png", "masks/00013.png", "notes.txt"):
        (folder / name).write_text("mine")
    return folder


def changed(sources: list[str], **values: str) -> list[str]:
    """Cells in which a user has written other values for some names."""
    lines = {name: f"{name} = {value}" for name, value in values.items()}
    return [
        "\n".join(lines.pop(line.split(" = ")[0], line) for line in source.splitlines())
        for source in sources
    ]


def pick(at: int, picked_by: str = "person") -> Exemplar:
    """A good and a bad one, both of noise, in rows `at` and the next."""
    noise = torch.rand(4, 32, 32, generator=torch.Generator().manual_seed(at))
    sides = [
        Explained(noise[i : i + 1, None], noise[i + 2 : i + 3, ::4, ::4], (at + i,), ("ill",))
        for i in range(2)
    ]
    return Exemplar(*sides, picked_by=picked_by)


def test_lesson_07_as_a_whole_leaves_the_users_folder_as_it_was(kit, mine):
    before = contents(mine)
    values = {
        "FOLDER": f"Path({str(mine)!r})",
        "REGION": BOX,
        "SUSPECT": "'ward'",
    }
    try:
        run(changed(cells("07_your_own_data"), **values))
    finally:
        assert contents(mine) == before
    assert (kit / "build/mine-run/results.json").is_file()
    assert sorted(path.name for path in kit.iterdir()) == ["build", "notebooks"]
    assert contents(kit / "notebooks") == {}


def test_lesson_07_from_describe_on_needs_no_more_than_labels_and_keeps_a_pick(kit, mine):
    rows = (mine / "metadata.csv").read_text().splitlines()
    (mine / "metadata.csv").write_text("\n".join(row.rpartition(",")[0] for row in rows))
    (kit / "build").mkdir()
    pick(0).save(kit / "build/mine-picks.npz")
    before, saved = contents(mine), contents(kit / "build")
    whole = cells("07_your_own_data")
    names = next(at for at, source in enumerate(whole) if "\nFOLDER = " in source)
    rest = list(dropwhile(lambda source: not source.startswith("## Describe"), whole))
    values = {"FOLDER": repr(str(mine)), "REGION": BOX, "SUSPECT": "None"}
    with pytest.warns(UserWarning, match="other images than in rows 0, 1 of these data"):  # noise
        run(changed([*whole[: names + 1], *rest], **values))
    assert contents(mine) == before and not (kit / "build/hospital").exists()
    assert saved.items() <= contents(kit / "build").items()
    results = json.loads((kit / "build/mine-picked/results.json").read_text())
    assert results["exemplars"] == pick(0).summary()


@pytest.fixture
def picking(kit, small_cohort, monkeypatch):
    """Runs lesson 02 on few phantoms and maps of noise, and picks these rows by hand, if any."""
    n = len(small_cohort)
    rows = {"train": torch.arange(n)}
    opened = Run({}, small_cohort, rows, {"unrefined": build_classifier("small_cnn", 4)})
    logits = torch.nn.functional.one_hot(small_cohort.label, 4).float()
    maps = torch.rand(n, 8, 8, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(xbl_kit.run, "reproduce", lambda *given, **options: None)
    monkeypatch.setattr(xbl_kit.run, "open_run", lambda out: opened)

    def seen(model, data, at):
        return Prediction(logits[at], maps[at], [], {})

    monkeypatch.setattr(xbl_kit.train, "predict", seen)
    (kit / "build").mkdir()
    sources = cells("02_pick_exemplars")
    shown = next(at for at, source in enumerate(sources) if source.startswith("picker ="))

    def run_lesson(good: int | None = None, bad: int | None = None) -> dict:
        picks = f"picker.good, picker.bad = {good}, {bad}"
        return run([*sources[: shown + 1], picks, *sources[shown + 1 :]])

    return run_lesson


def test_lesson_02_keeps_and_uses_what_a_person_picked(kit, picking, capsys):
    file = kit / "build/exemplar.npz"
    pick(0).save(file)
    before, time = file.read_bytes(), file.stat().st_mtime_ns
    for good, bad in ((None, None), (5, None)):
        names = picking(good, bad)
        assert "A pair that a person picked earlier" in capsys.readouterr().out
        assert file.read_bytes() == before and file.stat().st_mtime_ns == time
        assert names["again"].summary() == pick(0).summary()
        product = image_times_cam(pick(0).good.image, pick(0).good.cam)
        assert names["products"]["good"].equal(product)
        away = torch.linalg.vector_norm((names["product"] - product.flatten(1)), dim=1)
        assert names["distance"]["good"].equal(away)


def test_lesson_02_saves_new_picks_and_keeps_them(kit, picking, capsys):
    pick(0).save(kit / "build/exemplar.npz")
    assert picking(7, 5)["again"].summary()["good"]["index"] == 7
    assert "Your picks." in capsys.readouterr().out
    found = picking()["again"].summary()
    assert found["picked_by"] == "person" and found["bad"]["index"] == 5


@pytest.mark.parametrize("saved", [[], [pick(0, "auto")]], ids=["no file", "a ranking's file"])
def test_lesson_02_ranks_where_nobody_picked(saved, kit, picking, capsys):
    for exemplar in saved:
        exemplar.save(kit / "build/exemplar.npz")
    names = picking()
    assert "Nobody has picked yet: the ranking stands in." in capsys.readouterr().out
    assert names["again"].summary() == names["ranked"].summary() != pick(0, "auto").summary()
