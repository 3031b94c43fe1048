"""Every lesson runs twice in one kernel, and writes nothing outside `build/`."""

import shutil
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).resolve().parents[1]
LESSONS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
# What lessons 00 and 04 to 07 train.
RUNS = ("start-here", "one-factor", "mimm-x", "what-works", "hospital-run")
NOT_COPIED = shutil.ignore_patterns("cache", "downloads", ".ipynb_checkpoints", "__pycache__")


def outside_build(kit: Path) -> list[Path]:
    return [kit, *(p for p in kit.rglob("*") if p.relative_to(kit).parts[0] != "build")]


def listing(kit: Path) -> dict[str, tuple]:
    """All that would change if something outside `build/` were written, for root as well."""
    states = {path: path.stat() for path in outside_build(kit)}
    return {
        str(path.relative_to(kit)): (state.st_size, state.st_mtime_ns, state.st_mode)
        for path, state in states.items()
    }


def copied(root: Path, kit: Path) -> None:
    """Copy what lessons read; all is read-only but `build/`, where trainings lie that were made."""
    for folder in ("notebooks", "data", "benchmarks", "docs"):
        if (root / folder).is_dir():
            shutil.copytree(root / folder, kit / folder, ignore=NOT_COPIED)
    for file in root.glob("*.*"):
        if file.is_file():
            shutil.copy(file, kit)
    (kit / "build").mkdir()
    for run in RUNS:
        if (root / "build" / run).is_dir():
            shutil.copytree(root / "build" / run, kit / "build" / run)
    for path in outside_build(kit):
        path.chmod(path.stat().st_mode & 0o555)


@pytest.fixture
def kit(tmp_path, monkeypatch):
    """An empty folder for the copy; what Jupyter and the kit store for a user lands beside it."""
    folder = tmp_path / "kit"
    folder.mkdir()
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("XBL_KIT_CACHE", str(tmp_path / "cache"))
    yield folder
    for path in outside_build(folder):
        path.chmod(path.stat().st_mode | 0o200)


def run_twice(builder, lesson: Path, kit: Path) -> None:
    """Run all cells, then all once more; AssertionError if one fails or writes elsewhere."""
    before = listing(kit)
    notebook = nbformat.read(lesson, as_version=4)
    once = len(notebook.cells)
    notebook.cells += deepcopy(notebook.cells)
    try:
        builder.execute(notebook, lesson.parent)
    except CellExecutionError as error:
        begun = [i for i, cell in enumerate(notebook.cells) if cell.get("execution_count")]
        time, at = divmod(begun[-1], once)
        message = f"{lesson.name}, cell {at}, failed the {('first', 'second')[time]} time\n{error}"
        raise AssertionError(message) from None
    after = listing(kit)
    changed = sorted(name for name in before | after if before.get(name) != after.get(name))
    assert not changed, f"{lesson.name} wrote outside build/: {changed}"


@pytest.mark.slow
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_runs_twice_and_writes_only_to_build(lesson, builder, kit):
    copied(ROOT, kit)
    run_twice(builder, kit / "notebooks" / lesson.name, kit)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["01_spot_the_bias", "02_pick_exemplars"])
def test_an_exercise_runs_to_its_end_with_nothing_solved(name, builder, kit):
    copied(ROOT, kit)
    file = kit / "notebooks" / "exercises" / f"{name}.ipynb"
    notebook = nbformat.read(file, as_version=4)
    builder.execute(notebook, file.parent)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    stopped = [output.ename for output in outputs if output.output_type == "error"]
    checks = [cell for cell in notebook.cells if "check" in cell.metadata.get("tags", ())]
    assert stopped == ["NotImplementedError"] * len(checks)


# The test itself, on small lessons


@pytest.fixture
def small_kit(tmp_path, kit):
    """Makes a kit of one lesson with the given cells; returns that lesson."""

    def make(*cells: str) -> Path:
        for name in ("notebooks", "data/cache", "build/start-here", "build/other"):
            (tmp_path / "root" / name).mkdir(parents=True)
        (tmp_path / "root" / "README.md").write_text("read me")
        (tmp_path / "root" / "build" / "start-here" / "results.json").write_text("{}")
        notebook = new_notebook(cells=[new_code_cell(cell) for cell in ("import pathlib", *cells)])
        nbformat.write(notebook, tmp_path / "root" / "notebooks" / "00_small.ipynb")
        copied(tmp_path / "root", kit)
        return kit / "notebooks" / "00_small.ipynb"

    return make


def test_a_lesson_may_read_everything_and_write_to_build(small_kit, builder, kit):
    lesson = small_kit(
        'pathlib.Path("../README.md").read_text()',
        'pathlib.Path("../build/start-here/results.json").read_text()',
        'pathlib.Path("../build/mine").mkdir(exist_ok=True)',
        'with open("../build/mine/count", "a") as file:\n    file.write("x")',
    )
    assert not any(path.stat().st_mode & 0o222 for path in outside_build(kit))
    run_twice(builder, lesson, kit)
    assert (kit / "build" / "mine" / "count").read_text() == "xx"
    assert sorted(path.name for path in kit.iterdir()) == [
        "README.md",
        "build",
        "data",
        "notebooks",
    ]
    assert not (kit / "data" / "cache").exists() and not (kit / "build" / "other").exists()


@pytest.mark.parametrize(
    ("cell", "place"),
    [
        ('pathlib.Path("made").mkdir(exist_ok=True)', "notebooks/made"),
        ('pathlib.Path("../data/new").write_text("x")', "data/new"),
        ('pathlib.Path("../README.md").write_text("read us")', "README.md"),
        ('path = pathlib.Path("../data/gone"); path.write_text("x"); path.unlink()', "data"),
    ],
)
def test_writing_elsewhere_is_seen(cell, place, small_kit, builder, kit):
    lesson = small_kit(cell)
    with pytest.raises(AssertionError, match=rf"PermissionError|outside build/: .*'{place}'"):
        run_twice(builder, lesson, kit)


def test_a_cell_that_fails_the_second_time_is_shown(small_kit, builder, kit):
    lesson = small_kit("1", 'open("../build/once", "x").close()')
    with pytest.raises(
        AssertionError, match=r"(?s)cell 2, failed the second time.*FileExistsError"
    ):
        run_twice(builder, lesson, kit)
    (kit / "build" / "once").unlink()
    lesson.chmod(0o644)
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), lesson)
    with pytest.raises(AssertionError, match=r"(?s)cell 0, failed the first time.*1 / 0.*ZeroDiv"):
        run_twice(builder, lesson, kit)
