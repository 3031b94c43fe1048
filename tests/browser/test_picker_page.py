"""The picker as a page of its own, as `make picker` serves it: no notebook, and no network."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import expect

from xbl_kit.exemplar import Exemplar
from xbl_kit.run import reproduce

_ROOT = Path(__file__).resolve().parents[2]
_APP = _ROOT / "notebooks" / "apps" / "picker.ipynb"
_SMALL = {"size": 32, "per_class": {"train": 20, "val": 4, "test": 8}}
_SMALL |= {name: {"epochs": 1, "lr": 1e-3} for name in ("train", "refine", "oracle")}
_MINUTE = 60_000

needs_voila = pytest.mark.skipif(
    find_spec("voila") is None, reason="Voila is not installed; the extra `picker` brings it"
)


def _wait_for(port: int, server: subprocess.Popen, log: Path) -> None:
    for _ in range(480):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/voila/static/voila.js").close()
            return
        except OSError:
            assert server.poll() is None, log.read_text()
            time.sleep(0.25)
    pytest.fail(f"the server did not answer within two minutes:\n{log.read_text()}")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run that takes seconds, in which picks are saved."""
    folder = tmp_path_factory.mktemp("picker")
    reproduce("exbl", plan=_SMALL, models=["unrefined"], out=folder / "run", device="cpu")
    return folder


@pytest.fixture(scope="module")
def address(place):
    """Where Voila shows the page, with none of the user's settings."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    own = {name: str(place / name) for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR")}
    own |= {"XBL_KIT_RUN": str(place / "run"), "XBL_KIT_PICKS": str(place / "picks")}
    own["JUPYTER_PATH"] = str(_APP.parent)
    own["PYTHONPATH"] = os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")])
    flags = f"--template=picker --no-browser --port={port} --Voila.ip=127.0.0.1"
    command = [sys.executable, "-m", "voila", str(_APP), *flags.split()]
    with (place / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | own)
    try:
        _wait_for(port, server, place / "log")
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.terminate()
        server.wait(timeout=60)


@pytest.fixture
def opened(chromium, address):
    """Opens the page in a theme; what it asks of any other machine is refused, and noted."""
    pages = []

    def show(theme: str = "light"):
        page = chromium.new_page(viewport={"width": 1100, "height": 1200})
        pages.append(page)
        page.set_default_timeout(2 * _MINUTE)
        page.outside = []

        def route(one):
            if one.request.url.startswith((address, "data:", "blob:")):
                return one.continue_()
            page.outside.append(one.request.url)
            one.abort()

        page.route("**/*", route)
        page.goto(f"{address}?theme={theme}")
        page.locator("[role=option]").nth(59).wait_for(state="attached")
        return page

    yield show
    for page in pages:
        page.close()


@needs_voila
def test_a_person_picks_and_saves_without_a_notebook_or_network(opened, place):
    page = opened()
    assert page.get_by_role("heading", level=1).inner_text().startswith("Which explanation")
    assert page.get_by_text("ExemplarPicker(").count() == 0, "no code is shown"
    page.get_by_label("Your name").fill("Zoë L.")
    page.get_by_role("button", name="Save").click()
    saved = page.locator(".xbl-saved")
    expect(saved).to_contain_text("Not saved: no good and no bad explanation picked yet")
    page.locator("[role=option]").first.click()
    for key in ("g", "ArrowRight", "b"):
        page.keyboard.press(key)
    page.get_by_label("Your name").press("Enter")
    expect(saved).to_contain_text("Zoë-L.npz")
    exemplar = Exemplar.load(place / "picks" / "Zoë-L.npz")
    rows = page.eval_on_selector_all("[role=option]", "all => all.map((one) => one.item.row)")
    assert exemplar.picked_by == "Zoë L."
    assert (exemplar.good.index, exemplar.bad.index) == ((rows[0],), (rows[1],))
    assert page.outside == []


@needs_voila
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_are_readable(opened, contrasts, theme):
    page = opened(theme)
    paper = page.evaluate("getComputedStyle(document.querySelector('.xbl-picker')).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (theme == "light")
    found = contrasts(page)
    assert len(found) >= 10 and min(found.values()) >= 4.5, found


def test_the_page_is_no_lesson_and_saved_without_outputs():
    """The lessons are `notebooks/*.ipynb`."""
    app = nbformat.read(_APP, as_version=4)
    nbformat.validate(app)
    code = [cell for cell in app.cells if cell.cell_type == "code"]
    assert code and not any(cell.outputs or cell.execution_count for cell in code)
    assert _APP not in list((_ROOT / "notebooks").glob("*.ipynb"))
