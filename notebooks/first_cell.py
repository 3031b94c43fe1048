"""Write the first cell of every lesson: it installs the kit where there is none, as on Colab.

python notebooks/first_cell.py     and then `python notebooks/build.py`, for the exercises
"""

from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

HERE = Path(__file__).resolve().parent
# What CONTRIBUTING.md says of these two is to be done before the kit is given out.
KIT = "xbl-kit"  # what pip installs, beside anywidget: a name on PyPI, or git+https://...
REPOSITORY = ""  # on GitHub, as "owner/name"; with it each lesson has links to Colab and Binder
TAG = "first-cell"
SOURCE = f"""\
# @title Only where the kit is missing, as on Colab: install it, and fetch the lessons' tables.
import sys
from importlib.util import find_spec
from os import chdir
from pathlib import Path
from subprocess import run as command

if not find_spec("xbl_kit"):
    for module in ("pip install --quiet {KIT} anywidget", "xbl_kit lessons"):
        command([sys.executable, "-m", *module.split()], check=True)
if Path("xbl-kit-lessons/notebooks").is_dir():
    chdir("xbl-kit-lessons/notebooks")"""
# Hidden in the book by its tag, folded by JupyterLab, by Colab shown as its title alone.
METADATA = {"tags": [TAG, "remove-cell"], "jupyter": {"source_hidden": True}, "cellView": "form"}


def first_cells(name: str, repository: str = REPOSITORY) -> list[NotebookNode]:
    """The links to where a lesson can be opened, if that is known, and the cell that installs."""
    cells = [new_code_cell(SOURCE, id=TAG, metadata=METADATA)]
    if repository:
        path = f"notebooks/{name}.ipynb"
        colab = f"https://colab.research.google.com/github/{repository}/blob/main/{path}"
        binder = f"https://mybinder.org/v2/gh/{repository}/main?labpath={path}"
        links = f"[Open in Colab]({colab}) · [Open on Binder]({binder})"
        cells.insert(0, new_markdown_cell(links, id="open", metadata={"tags": METADATA["tags"]}))
    return cells


def begin(lesson: NotebookNode, name: str, repository: str = REPOSITORY) -> None:
    """Put the first cells behind the title, in place of old ones, and number anew what was run."""
    cells = [cell for cell in lesson.cells if TAG not in cell.metadata.get("tags", ())]
    lesson.cells = [cells[0], *first_cells(name, repository), *cells[1:]]
    code = [cell for cell in lesson.cells if cell.cell_type == "code"]
    for count, cell in enumerate(code, start=1):
        cell.execution_count = count
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count


def main(folder: Path = HERE) -> None:
    for path in sorted(folder.glob("[0-9][0-9]_*.ipynb")):
        lesson = nbformat.read(path, as_version=4)
        begin(lesson, path.stem)
        path.write_text(nbformat.writes(lesson) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
