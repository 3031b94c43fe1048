"""What holds for every saved lesson."""

import ast
from collections.abc import Container
from importlib import import_module
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
    assert 1_000 <= words <= 1_950
    assert 30 <= len(lesson.cells) <= 55


def test_no_cell_removes_a_folder(lesson):
    """A user may have put another folder in its place, as lesson 07 asks for."""
    cells = [ast.parse(cell.source) for cell in lesson.cells if cell.cell_type == "code"]
    names = {ast.unparse(node) for cell in cells for node in ast.walk(cell)}
    assert not {name for name in names if name.split(".")[-1] in ("rmtree", "removedirs", "rmdir")}


def by_position(source: str) -> list[str]:
    """The lines that take a run of `open_run` apart by position, at once or through a name."""
    nodes = list(ast.walk(ast.parse(source)))
    given = [(node, node.targets[0]) for node in nodes if isinstance(node, ast.Assign)]
    runs = {to.id for node, to in given if isinstance(to, ast.Name) and opens_run(node.value, ())}
    taken = [node for node, to in given if isinstance(to, (ast.Tuple, ast.List))]
    taken += [node for node in nodes if isinstance(node, ast.Subscript)]
    return [ast.unparse(node) for node in taken if opens_run(node.value, runs)]


def opens_run(node: ast.expr, runs: Container[str]) -> bool:
    if isinstance(node, ast.Call):
        return ast.unparse(node.func).split(".")[-1] == "open_run"
    return isinstance(node, ast.Name) and node.id in runs


def test_a_run_is_read_by_name(lesson):
    """One more field of a run would break what reads it by position."""
    cells = [cell.source for cell in lesson.cells if cell.cell_type == "code"]
    assert by_position("\n".join(cells)) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("_, data, *_ = run.open_run(out)", ["_, data, *_ = run.open_run(out)"]),
        ("data = open_run(out)[1]", ["open_run(out)[1]"]),
        ("one = open_run(out)\ndata, rows = one[1:3]", ["one[1:3]"]),
        ("one = open_run(out)\na, b, c = one", ["a, b, c = one"]),
        ("one = open_run(out)\ndata, rows = one.data, one.rows['iid']", []),
        ("models = open_run(out).models\nmodels['exbl']", []),
    ],
)
def test_reading_by_position_is_seen(source, found):
    assert by_position(source) == found


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_is_small_and_keeps_no_widget(path):
    """A live view without its kernel shows an error in place of the still picture beside it."""
    assert path.stat().st_size < 1_000_000
    assert "vnd.jupyter.widget" not in path.read_text(encoding="utf-8")


def deep_imports(sources: list[str]) -> list[str]:
    """Names that are imported past what a package's `__init__` lists."""
    found = []
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("xbl_kit."):
            module = import_module(node.module)
            public = getattr(module, "__all__", None)
            if public is None:  # a file: one that stands beside the packages is public, too
                public = vars(module) if node.module.count(".") == 1 else ()
            found += [f"{node.module}.{a.name}" for a in node.names if a.name not in public]
    return found


def test_a_lesson_imports_what_the_packages_list(lesson):
    assert not deep_imports([c.source for c in lesson.cells if c.cell_type == "code"])


def test_deep_imports_are_seen():
    sources = ["from xbl_kit.data import open_dataset, biased", "from xbl_kit.train import fit"]
    assert not deep_imports([*sources, "import xbl_kit", "from xbl_kit.run import reproduce"])
    deep = ["from xbl_kit.run.measure import evaluate", "from xbl_kit.methods import Memory"]
    assert deep_imports(deep) == ["xbl_kit.run.measure.evaluate", "xbl_kit.methods.Memory"]
