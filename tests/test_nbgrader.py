"""nbgrader itself: an assignment is made of lesson 01, and submissions to it get their points."""

import csv
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
LESSON = "01_spot_the_bias"
FIRST = 'EXPERIMENT = {"data": "phantom", "seed": 0, "out": "../../build/start-here"}'
# The cells around the exercises run as well, on a run that takes seconds.
SCHEDULE = {name: {"epochs": 1, "lr": 1e-3} for name in ("train", "refine", "oracle")}
SMALL = {"size": 32, "per_class": {"train": 40, "val": 10, "test": 20}} | SCHEDULE
FORGOTTEN = "def {}(*given):\n    found = given"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("nbgrader") is None,
        reason="nbgrader is not installed; docs/teaching/nbgrader.md says how to try it",
    ),
]


def nbgrader(course: Path, *arguments: str) -> None:
    """Run a command of nbgrader in the course's folder, with none of the user's settings."""
    own = {name: str(course / "own") for name in ("JUPYTER_CONFIG_DIR", "IPYTHONDIR")}
    own["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    tools = Path(sys.executable).parent  # nbgrader calls alembic by its name
    own["PATH"] = os.pathsep.join([str(tools), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *arguments],
        cwd=course,
        env=os.environ | own,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def solutions() -> dict[str, str]:
    """The solved cells of the lesson by the name of their function."""
    lesson = nbformat.read(ROOT / "notebooks" / f"{LESSON}.ipynb", as_version=4)
    solved = [c.source for c in lesson.cells if "exercise" in c.metadata.get("tags", ())]
    return {source.partition("def ")[2].partition("(")[0]: source for source in solved}


def submit(course: Path, student: str, cells: dict[str, str]) -> None:
    """Hand in the assignment as it was given out, with other sources for some cells."""
    notebook = nbformat.read(course / "release" / "01" / f"{LESSON}.ipynb", as_version=4)
    for cell in notebook.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        cell.source = cells.get(name, cell.source)
    folder = course / "submitted" / student / "01"
    folder.mkdir(parents=True)
    nbformat.write(notebook, folder / f"{LESSON}.ipynb")


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A lecturer's folder in which the assignment was made, as the page tells."""
    course = tmp_path_factory.mktemp("course")
    shutil.copy(ROOT / "docs" / "teaching" / "nbgrader_config.py", course)
    notebook = nbformat.read(ROOT / "notebooks" / "exercises" / f"{LESSON}.ipynb", as_version=4)
    (first,) = (cell for cell in notebook.cells if FIRST in cell.source)
    first.source = first.source.replace(FIRST, f'{FIRST[:-1]}, "plan": {SMALL}}}')
    (course / "source" / "01").mkdir(parents=True)
    nbformat.write(notebook, course / "source" / "01" / f"{LESSON}.ipynb")
    nbgrader(course, "generate_assignment", "01")
    return course


@pytest.fixture(scope="module")
def grades(course):
    """What four submissions get: {student: (points, of how many)}."""
    right = solutions()
    first = next(iter(right))
    submit(course, "right", right)
    submit(course, "half", right | {first: FORGOTTEN.format(first)})
    cheat = {f"check-{name}": "print('right: I say so')" for name in right}
    submit(course, "cheat", {first: "1 / 0"} | cheat)
    submit(course, "untouched", {})
    nbgrader(course, "autograde", "01")
    nbgrader(course, "export")
    with (course / "grades.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {row["student_id"]: (float(row["score"]), float(row["max_score"])) for row in rows}


def test_the_assignment_keeps_stubs_and_checks(course):
    given = nbformat.read(course / "release" / "01" / f"{LESSON}.ipynb", as_version=4)
    made = nbformat.read(ROOT / "notebooks" / "exercises" / f"{LESSON}.ipynb", as_version=4)
    for ours, theirs in zip(made.cells, given.cells, strict=True):
        assert ours.source == theirs.source or FIRST in ours.source
        assert theirs.metadata.get("nbgrader", {}).get("grade") is not True or (
            theirs.metadata.editable is False
        )


def test_points_are_given_for_what_is_right(grades):
    assert grades == {
        "right": (10, 10), "half": (5, 10), "cheat": (0, 10), "untouched": (0, 10)
    }  # fmt: skip


def test_a_student_reads_in_one_line_what_is_wrong(course, grades):
    graded = nbformat.read(course / "autograded" / "half" / "01" / f"{LESSON}.ipynb", as_version=4)
    said = [
        (output.ename, output.evalue)
        for cell in graded.cells
        for output in cell.get("outputs", ())
        if output.output_type == "error"
    ]
    assert ("AssertionError", "nothing is returned: let my_information end with `return ...`") in (
        said
    )
