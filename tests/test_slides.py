"""Slides are made of the saved lessons and ask nothing of the network."""

import importlib.util
import re
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("latex2mathml", reason="slides need the extra [slides]")
pytest.importorskip("mistune", reason="slides need the extra [slides]")

ROOT = Path(__file__).resolve().parents[1]
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def deck():
    path = ROOT / "docs" / "teaching" / "slides.py"
    spec = importlib.util.spec_from_file_location("slides", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_gives_slides(path, deck):
    lesson = nbformat.read(path, as_version=4)
    made = deck.slides(lesson)
    shown = re.sub(r'<aside class="notes">.*?</aside>', "", made, flags=re.DOTALL)
    assert 10 <= made.count("<section>") <= 40
    assert "After this lesson you will be able to" in shown and "What you can say now" in shown
    assert shown.count("<strong>Predict") == sum(c.source.count("**Predict") for c in lesson.cells)
    assert all('alt="' in image for image in re.findall(r"<img[^>]*>", made))
    assert not re.search(r"(src|href)=[\"'](?!data:)", made)
    assert "$$" not in shown and "**" not in shown and not re.search(r"<h2></h2>", made)


def test_formulas_are_drawn_and_links_are_words(deck):
    made = deck.html("[Hagos](https://example.org) has $x^2$ and\n\n$$\\sum_i a_i$$")
    assert made.count("<math") == 2 and "href" not in made and "Hagos" in made


def test_what_is_in_bold_and_asked_becomes_a_slide(deck):
    text = "Words.\n\n**Predict.** How many?\n\nMore: **this is worth remembering.** End."
    asked, key = deck.from_text("Title", text)
    assert "<strong>Predict.</strong>" in asked and "This is worth remembering." in key
    assert "Words" not in asked.split("<aside")[0] + key.split("<aside")[0]
