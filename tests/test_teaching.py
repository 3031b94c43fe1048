"""The teacher's guide speaks of lessons as they are: sections, times, questions, exercises."""

import importlib.util
import json
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "teaching"


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def headings():
    return load("quiz").lessons()


def named(text: str) -> dict[str, list[str]]:
    """By lesson, what is in italics on a page with a heading `## NN ..` for each."""
    parts = re.split(r"^## (\d\d) .*$", text, flags=re.MULTILINE)[1:]
    found = dict(zip(parts[::2], parts[1::2], strict=True))
    plain = {n: re.sub(r"\*\*.*?\*\*", "", body, flags=re.DOTALL) for n, body in found.items()}
    return {n: re.findall(r"\*([A-Z][^*]+)\*", body) for n, body in plain.items()}


def test_every_misconception_names_a_section_of_its_lesson(headings):
    pages = named((FOLDER / "misconceptions.md").read_text(encoding="utf-8"))
    assert set(pages) == set(headings) and min(map(len, pages.values())) >= 4
    for number, sections in pages.items():
        for section in sections:
            flat = " ".join(section.split())
            everywhere = [one for each in headings.values() for one in each]
            assert any(one.startswith(flat) for one in everywhere), (number, flat)


def test_questions_and_exercises_that_the_guide_names_exist():
    text = (FOLDER / "index.md").read_text(encoding="utf-8")
    text += (FOLDER / "plans.md").read_text(encoding="utf-8")
    ids = {question["id"] for question in load("quiz").questions()}
    assert (asked := set(re.findall(r"\b0\d-[a-z]+\b", text))) and asked <= ids, asked - ids
    assert f"{len(ids)} questions" in text
    for number, aims in re.findall(r"\*\*\[(\d\d) .*?\n(.*?)\n\n", text, flags=re.DOTALL):
        lesson = nbformat.read(next((ROOT / "notebooks").glob(f"{number}_*.ipynb")), as_version=4)
        told = [
            int(n)
            for found in re.findall(r"exercises? (\d)(?: and (\d))?", aims)
            for n in found
            if n
        ]
        there = sum("exercise" in cell.metadata.get("tags", ()) for cell in lesson.cells)
        assert max(told, default=0) == there, number


def test_links_between_the_pages_lead_somewhere():
    pages = [*FOLDER.glob("*.md"), ROOT / "docs" / "peers.md"]
    built_elsewhere = {"teaching/nbgrader.md"}
    for page in pages:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert link in built_elsewhere or (page.parent / link).exists(), (page.name, link)


def test_the_timings_are_of_these_lessons(headings):
    """Headings as they are, and minutes that a change of the text has not made wrong."""
    timings = load("timings")
    measured = json.loads((FOLDER / "timings.json").read_text(encoding="utf-8"))
    sections = timings.rows(measured)
    for number, found in measured["sections"].items():
        assert found.keys() <= {heading for heading, *_ in sections[number]}, number
    page = (FOLDER / "timings.md").read_text(encoding="utf-8")
    said = [int(n) for n in re.findall(r"\| \*\*all\*\* .* (\d+) \|", page)]
    now = [sum(sum(minutes) for _, *minutes in one) for one in sections.values()]
    assert len(said) == len(now) == len(headings)
    assert all(abs(a - b) < 2 for a, b in zip(said, now, strict=True)), (
        "run docs/teaching/timings.py"
    )
    for found in sections.values():
        for heading, *_ in found[1:]:
            assert f"\n| {heading} |" in page, heading


def test_a_lesson_takes_about_as_long_as_it_says():
    timings = load("timings")
    measured = json.loads((FOLDER / "timings.json").read_text(encoding="utf-8"))
    for number, sections in timings.rows(measured).items():
        said = int(re.search(r"\*\*Time:\*\* (\d+) minutes", timings.lessons()[number][0][1])[1])
        worked_out = sum(sum(minutes) for _, *minutes in sections)
        assert -6 <= said - worked_out <= 15, (number, said, worked_out)
