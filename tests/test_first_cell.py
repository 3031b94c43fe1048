"""The first cell of a lesson, which installs the kit where there is none; `make run`'s lines."""

import os
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
LESSONS = sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))
EXERCISES = sorted(NOTEBOOKS.glob("exercises/*.ipynb"))


def script(name: str):
    spec = spec_from_file_location(name, NOTEBOOKS / f"{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


first_cell, page = script("first_cell"), script("page")


def tagged(notebook) -> list:
    return [cell for cell in notebook.cells if first_cell.TAG in cell.metadata.get("tags", ())]


@pytest.mark.parametrize("path", [*LESSONS, *EXERCISES], ids=lambda path: str(path)[-28:])
def test_every_lesson_begins_with_it(path):
    notebook = nbformat.read(path, as_version=4)
    deeper = "/exercises" * (path in EXERCISES)
    expected = first_cell.SOURCE.replace("/notebooks", f"/notebooks{deeper}")
    assert tagged(notebook) and tagged(notebook)[-1].source == expected, "run first_cell.py"
    code = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert code.source == expected


@pytest.fixture
def small():
    result = new_output("execute_result", {"text/plain": "1"}, execution_count=1)
    return new_notebook(
        cells=[
            new_markdown_cell("# Small"),
            new_code_cell("1", execution_count=1, outputs=[result]),
            new_code_cell("2", execution_count=2),
        ]
    )


def test_it_is_put_behind_the_title_and_counts_as_run(small):
    first_cell.begin(small, "07_small")
    assert [cell.source for cell in small.cells] == ["# Small", first_cell.SOURCE, "1", "2"]
    assert [cell.execution_count for cell in small.cells[1:]] == [1, 2, 3]
    assert small.cells[2].outputs[0].execution_count == 2
    nbformat.validate(small)


def test_twice_is_as_once(small):
    first_cell.begin(small, "07_small", "owner/xbl-kit")
    once = nbformat.writes(small)
    first_cell.begin(small, "07_small", "owner/xbl-kit")
    assert nbformat.writes(small) == once


def test_with_an_address_there_are_links_to_colab_and_binder(small):
    first_cell.begin(small, "07_small", "owner/xbl-kit")
    links, cell = tagged(small)
    assert "/github/owner/xbl-kit/blob/main/notebooks/07_small.ipynb)" in links.source
    assert "/gh/owner/xbl-kit/main?labpath=notebooks/07_small.ipynb)" in links.source
    assert cell.source == first_cell.SOURCE


def test_where_the_kit_is_it_does_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    exec(first_cell.SOURCE, {})
    assert Path.cwd() == tmp_path and not any(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


def test_without_a_kit_it_installs_fetches_and_goes_there(tmp_path, monkeypatch):
    asked = []

    def command(arguments, check):
        asked.append(arguments[1:])
        Path("xbl-kit-lessons/notebooks").mkdir(parents=True, exist_ok=True)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("subprocess.run", command)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    exec(first_cell.SOURCE, {})
    install = ["-m", "pip", "install", "--quiet", "xbl-kit", "anywidget"]
    assert asked == [install, ["-m", "xbl_kit", "lessons"]]
    assert Path.cwd() == tmp_path / "xbl-kit-lessons" / "notebooks"


# The line of `make run`


def run_page(tmp_path, code: str, source: str = "x = '../build/a', '../build/old'") -> int:
    (tmp_path / "build" / "a").mkdir(parents=True)
    (tmp_path / "build" / "old").mkdir()
    os.utime(tmp_path / "build" / "old", (0, 0))
    os.utime(tmp_path / "build" / "a", (0, 0))
    lesson, made = tmp_path / "notebooks" / "01_small.ipynb", tmp_path / "build" / "01_small.html"
    lesson.parent.mkdir()
    nbformat.write(new_notebook(cells=[new_code_cell(source)]), lesson)
    return page.main(str(lesson), str(made), sys.executable, "-c", code, str(made))


def test_a_lesson_is_one_line_with_its_time_and_what_it_made(tmp_path, capfd):
    code = "import sys, pathlib as p; print('noise'); m = p.Path(sys.argv[1]); m.write_text('x')"
    assert run_page(tmp_path, code + "; (m.parent / 'a' / 'r.json').write_text('x')") == 0
    said, error = capfd.readouterr()
    build = tmp_path / "build"
    assert said.split() == ["01_small", "0", "s", f"{build / '01_small.html'},", f"{build / 'a'}"]
    assert said.count("\n") == 1 and error == ""


def test_of_one_that_fails_all_is_shown(tmp_path, capfd):
    assert run_page(tmp_path, "print('noise'); raise SystemExit(7)") == 7
    said, error = capfd.readouterr()
    assert said == "" and "noise" in error and "01_small" in error and "failed" in error
