"""The book as a reader without a network sees it, on a phone and on a desk, by day and by night.

`make book` writes it; `make test-all` does so first.
"""

import os
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from axe_playwright_python.sync_playwright import Axe

_ROOT = Path(__file__).resolve().parents[2]
_BOOK = _ROOT / "build" / "book"
_PAGES = {
    "index": "docs/index",
    "lesson": "notebooks/01_spot_the_bias",
    "picker": "notebooks/02_pick_exemplars",
    "how-to": "docs/howto/own-network",
    "reference": "docs/reference/losses",
    "results": "docs/results",
    "glossary": "docs/glossary",
    "bibliography": "docs/bibliography",
    "data": "data/README",
    "search": "search",
}
_LOADED = re.compile(r"""<(?:script|img|link|iframe|source)\b[^>]*?\b(?:src|href)=["']([^"']*)""")


@pytest.fixture(scope="module", params=[390, 1280], ids=["phone", "desk"])
def width(request):
    return request.param


@pytest.fixture(scope="module")
def page(chromium, width):
    """An empty page; what it asks of a network, and what fails in it, is kept."""
    if not (_BOOK / "index.html").is_file():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            "no build/book: `make book` makes it"
        )
    page = chromium.new_page(viewport={"width": width, "height": 844})
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("request", lambda one: one.url.startswith("http") and page.wrong.append(one.url))
    yield page
    page.close()


@pytest.mark.parametrize("name", _PAGES)
def test_a_page_fits_and_is_accessible(page, width, name):
    page.wrong.clear()
    page.emulate_media(color_scheme="light")
    page.goto((_BOOK / f"{_PAGES[name]}.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(page).response["violations"]
    page.emulate_media(color_scheme="dark")
    found += Axe().run(page, options={"runOnly": ["color-contrast"]}).response["violations"]
    grave = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in grave] == []
    assert page.wrong == []


def test_the_picker_is_a_picture_with_a_text_and_maths_are_drawn(page):
    page.goto((_BOOK / "notebooks/02_pick_exemplars.html").as_uri())
    images = page.locator(".cell_output img")
    texts = [image.get_attribute("alt") for image in images.all()]
    assert len(texts) >= 5 and all(texts)
    page.goto((_BOOK / "notebooks/01_spot_the_bias.html").as_uri())
    assert page.locator("math").count() >= 3
    assert "$$" not in page.locator("article").inner_text()


def test_search_finds_a_word_without_a_network(page):
    page.goto((_BOOK / "search.html").as_uri() + "?q=epiphysis")
    page.locator("#search-results li").first.wait_for()
    assert "01" in page.locator("#search-results").inner_text()


def test_no_page_loads_anything_from_a_network():
    pages = list(_BOOK.rglob("*.html"))
    assert len(pages) > 30 or not os.environ.get("CI")
    for path in pages:
        for address in _LOADED.findall(path.read_text(encoding="utf-8")):
            file = unquote(address.partition("?")[0].partition("#")[0])
            there = address.startswith("data:") or not file or (path.parent / file).exists()
            assert there and not re.match(r"(?:https?:)?//", address), f"{path}: {address}"
    for path in [*_BOOK.rglob("*.css"), *_BOOK.rglob("*.js")]:
        assert not re.search(r"(?:url\(|import\s)['\"]?https?://", path.read_text("utf-8")), path
