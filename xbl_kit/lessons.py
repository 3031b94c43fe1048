"""The lessons and the tables that they read, copied into a folder of one's own."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
FIRST = "notebooks/00_start_here.ipynb"
# What is copied, as it lies in the repository; `setup.py` puts the same into the package.
SHIPPED = ("notebooks/*.ipynb", "notebooks/exercises/*.ipynb", "benchmarks/*.json")
SHIPPED += ("data/README.md", "docs/log.md")


def shipped(root: Path) -> dict[str, Path]:
    """The files that lessons need, by their place below `root`."""
    paths = [path for pattern in SHIPPED for path in sorted(root.glob(pattern))]
    return {path.relative_to(root).as_posix(): path for path in paths}


def copy_lessons(folder: str | Path) -> tuple[list[str], list[str]]:
    """Copy the lessons, their exercises and tables into `folder`, next to a `build/` to come.

    A file that is there already stays as it is. Returns the names of the files that are new, and
    of those that say something else than what would have been copied.
    Raises ValueError where `folder` is a file, or where no lessons came with the kit.
    """
    from xbl_kit.storage import write_whole  # torch, which takes seconds

    folder, packed = Path(folder), HERE / "shipped"
    found = shipped(packed if packed.is_dir() else HERE.parent)
    if FIRST not in found:
        what = "no lessons came with this installation"
        raise ValueError(f'{HERE}: {what}; `pip install --force-reinstall "xbl-kit[lab]"`')
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: not a folder; choose another")
    new, other = [], []
    for name, path in found.items():
        content, to = path.read_bytes(), folder / name
        if not os.path.lexists(to):
            write_whole(to, content)
            new.append(name)
        elif not (to.is_file() and to.read_bytes() == content):
            other.append(name)
    return new, other


def hand_out(folder: Path, *, begin: bool = False) -> int:
    """Copy the lessons, say what was done and how to begin; with `begin` start JupyterLab.

    Returns the exit code. Raises ValueError where JupyterLab is to start and is not installed.
    """
    if begin and not find_spec("jupyterlab"):
        raise ValueError('JupyterLab is not installed: `pip install "xbl-kit[lab]"`')
    new, other = copy_lessons(folder)
    print(f"{folder}: {len(new)} files copied")
    for name in other:
        print(f"{folder / name}: was there, says something else, and stays as it is")
    if begin:
        return subprocess.call([sys.executable, "-m", "jupyter", "lab", str(folder / FIRST)])
    print(f'to begin: jupyter lab "{folder / FIRST}"')
    return 0
