"""Write the exercises from the solved lessons; on request, run the lessons and save them first.

python notebooks/build.py                     write the exercises of every lesson that has some
python notebooks/build.py --execute           the same after running all lessons
python notebooks/build.py --execute 01 03     the same after running these

A cell tagged `exercise` holds one function. What stands there between the lines
`### BEGIN SOLUTION` and `### END SOLUTION` (nbgrader's markers) becomes a NotImplementedError;
words after `### BEGIN SOLUTION:` are its message. The next cell, tagged `check`, tests the answer;
here it first says so where there is none, or nothing is returned. Both cells have the metadata that
nbgrader needs to grade the answer (docs/teaching/nbgrader.md).
"""

import json
import re
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from copy import deepcopy
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
REGION = re.compile(rf"^([ \t]*){BEGIN}:?[ \t]*(.*)\n(?:.*\n)*?[ \t]*{END}[ \t]*$", re.MULTILINE)
GUARD = """\
from xbl_kit.answers import answer

{name} = answer("{name}", globals())

"""
POINTS = 5  # of an exercise; a lecturer may give others
WIDGET = "application/vnd.jupyter.widget-view+json"
HEADER = """\
> **Exercises**, generated from [{name}](../{name}.ipynb), where the solutions stand. Fill in the
> cells that raise `NotImplementedError`, in {functions}; the cell below each says whether you are
> right, or what is likely wrong. Later cells need none of your answers: they import the package's
> own functions. Work in a copy, so that a newer version of the kit does not overwrite it."""


def stub(source: str) -> tuple[str, str]:
    """An exercise's function name, and its cell with each solution replaced by an error."""
    functions = re.findall(r"^def (\w+)", source, re.MULTILINE)
    regions = len(REGION.findall(source))
    if len(functions) != 1 or {source.count(BEGIN), source.count(END)} != {regions or None}:
        expected = f"expected one function and pairs of lines {BEGIN!r}, {END!r}"
        raise ValueError(f"{expected}; got functions {functions} in\n{source}")

    def replaced(region: re.Match) -> str:
        words = json.dumps(f"your turn: {region[2] or functions[0]}", ensure_ascii=False)
        return f"{region[1]}# your code here\n{region[1]}raise NotImplementedError({words})"

    return functions[0], REGION.sub(replaced, source)


def graded(name: str, *, points: int | None = None) -> dict:
    """Metadata of a cell for nbgrader: of an answer, or of the check that gives its points."""
    checks = points is not None
    cell = {"schema_version": 3, "grade_id": f"check-{name}" if checks else name, "task": False}
    cell |= {"grade": checks, "solution": not checks, "locked": checks}
    return cell | ({"points": points} if checks else {})


def one_deeper(source: str, *, markdown: bool) -> str:
    """The cell with its relative paths, and in markdown its links, written for one folder below."""
    source = re.sub(r"""(?<![\w./])\.\./|(?<=")\.\.(?=")|(?<=')\.\.(?=')""", r"../\g<0>", source)
    beside = r"\]\((?![a-zA-Z][\w+.-]*:|[#/]|\.\./)(?:\./)?"  # links to the lesson's neighbours
    return re.sub(beside, "](../", source) if markdown else source


def exercises(lesson: nbformat.NotebookNode, name: str) -> nbformat.NotebookNode | None:
    """The lesson `name` with stubs for solutions and no outputs; None if it has no exercise."""
    notebook, functions = deepcopy(lesson), []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "exercise" in tags:
            function, cell.source = stub(cell.source)
            functions.append(f"`{function}`")
            cell.metadata.nbgrader = graded(function)
        elif BEGIN in cell.source or END in cell.source:
            raise ValueError(f"{name}: a solution in a cell without tag 'exercise':\n{cell.source}")
        if "first-cell" in tags:  # it goes to the folder of the notebook
            cell.source = cell.source.replace("/notebooks", "/notebooks/exercises")
        if "check" in tags:  # "run all" goes on behind a check whose exercise is not yet solved
            cell.metadata.tags = [*tags, "raises-exception"]
            cell.metadata.nbgrader = graded(function, points=POINTS)
            cell.source = GUARD.format(name=function) + cell.source
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        cell.source = one_deeper(cell.source, markdown=cell.cell_type == "markdown")
    header = HEADER.format(name=name, functions=", ".join(functions))
    notebook.cells.insert(0, nbformat.v4.new_markdown_cell(header))
    tidy(notebook, name)
    return notebook if functions else None


def tidy(notebook: nbformat.NotebookNode, name: str) -> None:
    """Drop what varies from run to run, and live widgets: only their still text/html stays."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    notebook.nbformat_minor = 5  # the first with cell ids
    for position, cell in enumerate(notebook.cells):
        cell.id = f"{name.split('_')[1]}-{position:02}"
        for volatile in ("execution", "ExecuteTime", "collapsed", "scrolled", "trusted"):
            cell.metadata.pop(volatile, None)
        for output in list(cell.get("outputs", ())):
            if output.get("data", {}).pop(WIDGET, None) and "text/html" not in output.data:
                cell.outputs.remove(output)


def execute(lesson: nbformat.NotebookNode, folder: Path) -> None:
    """Run a lesson in `folder`; the first cell that fails raises CellExecutionError."""
    client = NotebookClient(lesson, timeout=900, kernel_name="python3", coalesce_streams=True)
    client.execute(cwd=str(folder))


def save(notebook: nbformat.NotebookNode, path: Path) -> None:
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8", newline="\n")


def main(arguments: list[str] | None = None, folder: Path = HERE) -> None:
    lessons = {path.name[:2]: path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    numbers = {"metavar": "NN", "choices": lessons, "type": lambda text: Path(text).name[:2]}
    parser.add_argument("--execute", nargs="*", **numbers)
    wanted = parser.parse_args(arguments).execute
    for number, path in lessons.items():
        lesson = nbformat.read(path, as_version=4)
        if wanted == [] or number in (wanted or ()):
            print(f"running {path.name}", flush=True)
            execute(lesson, folder)
            tidy(lesson, path.stem)
            save(lesson, path)
        if notebook := exercises(lesson, path.stem):
            (folder / "exercises").mkdir(exist_ok=True)
            save(notebook, folder / "exercises" / path.name)
            print(f"wrote exercises/{path.name}")


if __name__ == "__main__":
    main()
