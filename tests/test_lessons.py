"""The lessons go into a folder of one's own, from a wheel and from a copy of the repository."""

import json
import re
import subprocess
import sys
import zipfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from xbl_kit import lessons
from xbl_kit.cli import main
from xbl_kit.lessons import copy_lessons, shipped

ROOT = Path(__file__).resolve().parents[1]
TABLE = "benchmarks/step.json"


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_lessons_exercises_and_tables_are_copied_as_they_are(tmp_path):
    new, other = copy_lessons(tmp_path / "mine")
    assert contents(tmp_path / "mine") == {name: (ROOT / name).read_bytes() for name in new}
    assert not other and {"notebooks/00_start_here.ipynb", TABLE} < set(new)
    assert "notebooks/exercises/01_spot_the_bias.ipynb" in new


def test_all_that_a_lesson_reads_is_copied():
    """Whatever a lesson names outside of `build/` and `picks/`, which it writes."""
    files = shipped(ROOT)
    cells = [
        "".join(cell["source"])
        for path in (ROOT / "notebooks").glob("*.ipynb")
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "code"
    ]
    named = {
        name for cell in cells for name in re.findall(r"\.\./(?!build|picks|\.\.)([\w./-]+)", cell)
    }
    assert named and named <= set(files)


def test_what_is_there_already_stays(tmp_path, capsys):
    first = "notebooks/00_start_here.ipynb"
    copy_lessons(tmp_path)
    (tmp_path / first).write_text("my notes")
    (tmp_path / TABLE).unlink()
    (tmp_path / TABLE).symlink_to(tmp_path / "nowhere")
    before = contents(tmp_path)
    assert main(["lessons", str(tmp_path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{tmp_path}: 0 files copied"
    kept = {str(tmp_path / name) for name in (first, TABLE)}
    assert {line.split(":")[0] for line in said[1:-1]} == kept
    assert all("stays as it is" in line for line in said[1:-1])
    assert contents(tmp_path) == before and not (tmp_path / "nowhere").exists()


def test_the_command_says_how_to_begin_and_takes_a_folder_of_its_own(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["lessons"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"xbl-kit-lessons: [1-9]\d files copied", said[0])
    assert said[1:] == [f'to begin: jupyter lab "{Path("xbl-kit-lessons", lessons.FIRST)}"']


@pytest.mark.parametrize(
    ("arguments", "words"), [(["file"], "file: not a folder"), (["new", "--open"], "xbl-kit[lab]")]
)
def test_what_cannot_be_done_is_one_line_and_nothing_is_written(
    arguments, words, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lessons, "find_spec", lambda name: None)
    Path("file").write_text("mine")
    assert main(["lessons", *arguments]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert contents(tmp_path) == {"file": b"mine"}


def test_an_installation_without_lessons_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(lessons, "HERE", tmp_path / "site-packages" / "xbl_kit")
    with pytest.raises(ValueError, match=r"xbl_kit: no lessons came with this installation; `pip"):
        copy_lessons(tmp_path / "mine")


def test_open_starts_jupyterlab_on_the_first_lesson(tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(lessons.subprocess, "call", lambda command: begun.append(command) or 3)
    assert main(["lessons", str(tmp_path), "--open"]) == 3
    assert begun == [[sys.executable, "-m", "jupyter", "lab", str(tmp_path / lessons.FIRST)]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built as `make bundle` builds it, with the setuptools that are here."""
    spec = spec_from_file_location("bundle", ROOT / "hosting" / "bundle.py")
    bundle = module_from_spec(spec)
    spec.loader.exec_module(bundle)
    return bundle.build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.mark.slow
def test_a_wheel_has_them(tmp_path, wheel):
    """Unpacked where nothing else is, as an installation is."""
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "site-packages")
    command = "import xbl_kit.lessons as it; print(it.__file__); it.copy_lessons('mine')"
    done = subprocess.run(
        [sys.executable, "-c", command],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site-packages")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(str(tmp_path))
    mine = contents(tmp_path / "mine")
    assert mine == {name: path.read_bytes() for name, path in shipped(ROOT).items()}
