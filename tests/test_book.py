"""Every link leads somewhere, every work is in the bibliography, every example is true."""

import doctest
import json
import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md")) + sorted((ROOT / "notebooks").rglob("*.ipynb"))
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)")
CODE = re.compile(r"^```.*?^```|^~~~.*?^~~~|`[^`\n]*`", re.MULTILINE | re.DOTALL)
CITED = re.compile(r"\b([A-Z][\w-]+)\s+et\s+al\.,?\s+\(?((?:19|20)\d\d)")
EXAMPLES = [path for path in ROOT.glob("xbl_kit/**/*.py") if ">>> " in path.read_text("utf-8")]


def _text(page: Path) -> str:
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return text
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
    return "\n\n".join("".join(cell["source"]) for cell in cells)


def _anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub and the book write them in an address."""
    headings = re.findall(r"^#+ +(.*)$", CODE.sub("", _text(page)), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()).strip() for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


def _lost(page: Path) -> list[str]:
    """Links of a page that lead to no file, or to no heading of it."""
    lost = []
    for link in LINK.findall(CODE.sub("", _text(page))):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if "://" in link or link.startswith("mailto:"):
            continue
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            lost.append(link)
    return lost


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    assert _lost(page) == []


def test_a_lost_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One two\n[a](#one-two) [b](#three) [c](no.md) [d](page.md#x) `[e](code.md)`")
    assert _lost(page) == ["#three", "no.md", "page.md#x"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_work_is_in_the_bibliography(page):
    works = re.split(r"^@", (ROOT / "docs/references.bib").read_text("utf-8"), flags=re.MULTILINE)
    for name, year in CITED.findall(_text(page)):
        assert any(
            f"author = {{{name}," in work and f"year = {{{year}}}" in work for work in works
        ), f"{name} et al. {year}"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_of_docstrings_are_true(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    failed, tried = doctest.testmod(import_module(name))
    assert tried and not failed


def test_the_functions_that_teach_have_examples():
    assert {"draw", "explain", "explanation", "metrics"} <= {path.stem for path in EXAMPLES}
