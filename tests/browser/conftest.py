"""A headless Chromium, and what tests ask of a page. On CI it must be there; else tests skip."""

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

_HERE = Path(__file__).resolve().parent
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
_FLAGS += " --disable-background-networking --disable-component-update"

# Painting its colour over those of all that it stands on gives what is seen of a half-clear one.
_CONTRASTS = """() => {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const luminance = (colours) => {
    for (const colour of colours) {
      context.fillStyle = colour;
      context.fillRect(0, 0, 1, 1);
    }
    const [r, g, b] = Array.from(context.getImageData(0, 0, 1, 1).data.slice(0, 3), (byte) =>
      byte <= 10 ? byte / 255 / 12.92 : ((byte / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const found = {};
  for (const one of document.querySelector(".xbl-picker").querySelectorAll("*")) {
    const words = [...one.childNodes].filter((n) => n.nodeType === 3 && n.data.trim());
    if (!words.length || !one.checkVisibility() || one.closest(".xbl-hidden, option")) continue;
    const papers = [];
    for (let on = one; on; on = on.parentElement)
      papers.unshift(getComputedStyle(on).backgroundColor);
    const [text, paper] = [[...papers, getComputedStyle(one).color], papers].map(luminance);
    const ratio = Math.max(text, paper) / Math.min(text, paper);
    const name = `${one.tagName.toLowerCase()}.${one.className}`;
    found[name] = Math.min(found[name] ?? 99, Math.round(100 * ratio) / 100);
  }
  return found;
}"""
_FADE = """async () => {
  const slider = document.querySelector(".xbl-picker input[type=range]");
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const times = [];
  for (let value = 5; value <= 100; value += 5) {
    await frame();
    const start = performance.now();
    slider.value = value;
    slider.dispatchEvent(new Event("input"));
    document.querySelector(".xbl-picker").getBoundingClientRect(); // style and layout
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b)[10];
}"""


def _no_browser() -> None:
    """On CI a failure: a test that is always skipped tests nothing."""
    reason = (
        f"no Chromium: none of {', '.join(_NAMES)} is on the path. Install it with your system's "
        "packages (apt-get install chromium) or with `.venv/bin/playwright install chromium`"
    )
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


def pytest_collection_modifyitems(items):
    """All here is slow."""
    for item in items:
        if item.path.parent == _HERE:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def chromium():
    """The machine's own browser, or else the one that Playwright has downloaded."""
    with sync_playwright() as session:
        own = Path(session.chromium.executable_path)
        found = next(filter(None, map(shutil.which, _NAMES)), own if own.is_file() else None)
        if found is None:
            _no_browser()
        browser = session.chromium.launch(executable_path=found, args=_FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def contrasts():
    """WCAG contrast of all visible texts of a page's picker, the lowest of each kind."""
    return lambda page: page.evaluate(_CONTRASTS)


@pytest.fixture(scope="session")
def fade_ms():
    """Milliseconds that one step of the opacity takes the page, as a median of twenty."""
    return lambda page: page.evaluate(_FADE)
