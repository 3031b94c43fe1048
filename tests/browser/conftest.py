"""A headless Chromium, if there is one; without it these tests skip and say why."""

import shutil

import pytest

_FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
_FLAGS += " --disable-background-networking --disable-component-update"


@pytest.fixture(scope="session")
def chromium():
    """A browser that the machine already has: Playwright's own download is not needed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"no Chromium on the path (looked for {', '.join(names)})")
    with playwright.sync_playwright() as session:
        browser = session.chromium.launch(executable_path=found, args=_FLAGS.split())
        yield browser
        browser.close()
