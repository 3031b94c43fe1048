"""What holds for every saved lesson."""

import ast
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=LESSONS, ids=lambda path: path.stem)
def lesson(request):
    return nbformat.read(request.param, as_version=4)


def test_there_are_lessons():
    assert LESSONS


def test_every_code_cell_was_run_in_order(lesson):
    counts = [cell.execution_count for cell in lesson.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


def test_checked_cells_have_outputs_to_be_checked_against(lesson):
    """Stripped outputs would pass unseen."""
    checked = [c for c in lesson.cells if "nbval-check-output" in c.metadata.get("tags", ())]
    assert checked and all(cell.outputs for cell in checked)


def test_no_cell_failed_and_no_figure_lacks_a_text(lesson):
    for cell in lesson.cells:
        for output in cell.get("outputs", ()):
            assert output.output_type != "error"
            if "image/png" in output.get("data", {}):
                assert output.metadata["image/png"]["alt"]


def test_cells_are_short_and_need_only_what_a_newcomer_has(lesson):
    for cell in lesson.cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 12, cell.source
            assert not cell.source.rstrip().endswith(";")
            ast.parse(cell.source)


def test_a_lesson_is_of_one_length(lesson):
    words = sum(len(c.source.split()) for c in lesson.cells if c.cell_type == "markdown")
    assert 1_000 <= words <= 1_800
    assert 30 <= len(lesson.cells) <= 55


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_is_small_and_keeps_no_widget(path):
    """A live view without its kernel shows an error in place of the still picture beside it."""
    assert path.stat().st_size < 1_000_000
    assert "vnd.jupyter.widget" not in path.read_text(encoding="utf-8")
