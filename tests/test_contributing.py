"""The worked examples of CONTRIBUTING.md and of the how-tos run, each page as one program would."""

import re
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb
from types import ModuleType

import pytest

import xbl_kit.run  # noqa: F401  (so that the tables of all of the package are there)

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "CONTRIBUTING.md"
BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^ *(?:```|~~~)[ \t]*[^\s`]", re.MULTILINE)  # of a block in some language
OTHER = re.compile(r"^ *```(?:sh|text|json|csv)$", re.MULTILINE)


def blocks_of(page: str) -> list[tuple[int, str]]:
    """Each block of Python with the number of its first line.

    Raises ValueError for a page with a block whose fence does not say how it is to be read.
    """
    blocks = list(BLOCK.finditer(page))
    if len(FENCE.findall(page)) != len(blocks) + len(OTHER.findall(page)):
        raise ValueError("a fence is neither ```python, to be run, nor ```sh, text, json or csv")
    return [(page[: one.start(2)].count("\n"), textwrap.dedent(one[2])) for one in blocks]


def run(path: Path, name: str) -> ModuleType:
    """Run a page's blocks in a module of this name; tracebacks show the page's own lines."""
    module = sys.modules[name] = ModuleType(name)
    for line, source in blocks_of(path.read_text(encoding="utf-8")):
        exec(compile("\n" * line + source, str(path), "exec"), vars(module))
    return module


@contextmanager
def tables_kept() -> Iterator[None]:
    """What is added to tables of the package (RECIPES, ...) meanwhile is taken out again."""
    package = [module for name, module in sys.modules.items() if name.startswith("xbl_kit")]
    values = [value for module in package for name, value in vars(module).items() if name.isupper()]
    tables = [(value, dict(value)) for value in values if isinstance(value, dict)]
    try:
        yield
    finally:
        for table, before in tables:
            table.clear()
            table.update(before)


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The name of a module to run in, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    with tables_kept():
        yield "example"
    sys.modules.pop("example", None)


@pytest.mark.parametrize(
    "page", [PAGE, *sorted(ROOT.glob("docs/howto/*.md"))], ids=lambda p: p.stem
)
def test_the_examples_of_a_page_run(example, page):
    run(page, example)


# The test itself, on a small page

SMALL = """# Page

```python
from dataclasses import dataclass
from pathlib import Path

Path("made").write_text("x")
```

- In a list:

  ```python
  @dataclass
  class Two:
      text: "str"

  two = Two(Path("made").read_text())
  ```

```sh
make help
```
"""


def test_blocks_share_names_and_run_elsewhere(example, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(SMALL)
    assert [line for line, _ in blocks_of(SMALL)] == [3, 12]
    assert run(page, example).two.text == "x" and (tmp_path / "made").is_file()
    assert not Path(PAGE.parent / "made").exists()


def test_an_example_that_fails_shows_where(example, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(SMALL.replace('Two(Path("made")', 'Two(Path("lost")'))
    with pytest.raises(FileNotFoundError, match="lost") as failed:
        run(page, example)
    shown = next(entry for entry in extract_tb(failed.tb) if entry.filename == str(page))
    assert shown.lineno == 17 and shown.line == 'two = Two(Path("lost").read_text())'


@pytest.mark.parametrize("fence", ["```py", "``` python", "```python3", "~~~python", "```Python"])
def test_no_block_is_passed_over_for_its_fence(fence):
    with pytest.raises(ValueError, match="neither"):
        blocks_of(SMALL.replace("```python", fence, 1))


def test_what_an_example_registers_is_forgotten(example, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nfrom xbl_kit.models.backbones import CONVOLUTIONS\n"
        "CONVOLUTIONS['mine'] = None\n```\n"
    )
    with tables_kept():
        tables = run(page, example)
        assert "mine" in tables.CONVOLUTIONS
    assert "mine" not in tables.CONVOLUTIONS and "small_cnn" in tables.CONVOLUTIONS
