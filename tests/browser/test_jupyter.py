"""The picker in a real JupyterLab and Notebook 7: keyboard to kernel and back."""

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

import xbl_kit

_BUILD = """
import torch
from xbl_kit.widgets import ExemplarPicker
n = 300
label = torch.arange(n) % 2
maps, images = torch.rand(n, 7, 7), torch.rand(n, 1, 4, 4)
images = torch.nn.functional.interpolate(images, size=(128, 128), mode="bicubic").clamp(0, 1)
picker = ExemplarPicker(images, maps, index=torch.arange(n), label=label, predicted=label,
                        classes=["A", "B"], share=torch.rand(n), confidence=torch.rand(n))
picker
"""
_ASK = """
try:
    print("picked", picker.exemplar.good.index, picker.exemplar.bad.index)
except ValueError as error:
    print(error)
"""
_PAGES = {"jupyterlab": "lab/tree/picker.ipynb", "notebook": "notebooks/picker.ipynb"}


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(240):
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            assert server.poll() is None, log.read_text()
            time.sleep(0.25)
    pytest.fail(f"the server did not answer within a minute:\n{log.read_text()}")


@pytest.fixture(params=list(_PAGES))
def opened(request, chromium, tmp_path):
    """A notebook with a picker, open in a browser; nothing of the user's settings is used."""
    app = request.param
    if importlib.util.find_spec(app) is None:
        pytest.skip(f"{app} is not installed")
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in (_BUILD, _ASK)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(
        nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "picker.ipynb"
    )
    port, log = _free_port(), tmp_path / "server.log"
    folders = {f"JUPYTER_{kind}_DIR": str(tmp_path / kind) for kind in ("CONFIG", "DATA")}
    folders |= {"JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings")}
    folders |= {"JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "spaces")}
    path = os.pathsep.join([str(Path(xbl_kit.__file__).parents[1]), *filter(None, sys.path)])
    flags = f"--no-browser --allow-root --ServerApp.port={port} --IdentityProvider.token=abc"
    command = [sys.executable, "-m", app, *flags.split(), f"--ServerApp.root_dir={tmp_path}"]
    with log.open("w") as handle:
        environment = os.environ | folders | {"PYTHONPATH": path}
        server = subprocess.Popen(command, stdout=handle, stderr=handle, env=environment)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api/status?token=abc", server, log)
        page = chromium.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(60_000)
        page.folder, page.sent, page.errors = tmp_path, [], []
        page.on("websocket", lambda ws: ws.on("framesent", lambda data: page.sent.append(data)))
        page.on("pageerror", lambda error: page.errors.append(f"{error} {error.stack}"))
        said = {"error": lambda line: page.errors.append(f"{line.text} {line.location}")}
        page.on("console", lambda line: said.get(line.type, str)(line))
        page.goto(f"http://127.0.0.1:{port}/{_PAGES[app]}?token=abc")
        yield page
        page.close()
    finally:
        server.terminate()
        server.wait(timeout=30)


def _run(page, cell: int) -> None:
    page.locator(".jp-CodeCell .cm-content").nth(cell).click()
    page.keyboard.press("Control+Enter")  # runs it without adding a cell below


def _open_picker(page) -> None:
    page.locator(".jp-CodeCell").nth(1).wait_for()
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(state="attached")
    for _ in range(30):  # a page that is still loading may swallow the first keys
        _run(page, 0)
        page.wait_for_timeout(1000)
        if page.locator(".jp-InputPrompt").first.inner_text() != "[ ]:":
            break
    page.locator("[role=option]").nth(299).wait_for(state="attached")


def _ask(page, expected: str) -> None:
    """Run the second cell again until the kernel answers as expected."""
    _run(page, 1)
    page.locator(".jp-CodeCell").nth(1).get_by_text(expected).wait_for()


def _messages(page) -> int:
    """How many widget messages the page has sent to the kernel."""
    raw = (data.encode() if isinstance(data, str) else data for data in page.sent)
    return sum(b"comm_msg" in data for data in raw)


def _our_errors(page) -> list[str]:
    """Jupyter reports missing files and settings of its own; the picker is loaded from a blob."""
    return [error for error in page.errors if re.search("blob:|widget", error)]


def _press(page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def _saved(page) -> dict:
    """Save by the usual keys, with the focus still in the picker; returns the saved notebook."""
    file = page.folder / "picker.ipynb"
    before = file.stat().st_mtime_ns
    page.keyboard.press("Control+s")
    for _ in range(100):
        page.wait_for_timeout(100)
        # Jupyter empties the file before it writes it.
        if file.stat().st_mtime_ns != before and file.stat().st_size:
            page.wait_for_timeout(200)
            return json.loads(file.read_text())
    pytest.fail("Ctrl+S in the picker did not save the notebook")


def test_pick_by_keyboard_and_ask_the_kernel(opened):
    page = opened
    _open_picker(page)
    _ask(page, "no good and no bad explanation picked yet")

    page.locator("[role=option]").first.click()
    _press(page, "ArrowRight", "g", "ArrowRight", "ArrowRight", "b")
    _ask(page, "picked (1,) (3,)")

    before = _messages(page)
    page.get_by_label("Map opacity").focus()
    _press(page, *["ArrowLeft"] * 5)
    page.get_by_label("Outline").check()
    page.get_by_label("Class").select_option("B")
    page.get_by_label("Sort").select_option("in lungs, high first")
    assert page.locator(".xbl-count").inner_text() == "150 of 300"
    veil = page.locator(".xbl-veil").first.evaluate("one => getComputedStyle(one).opacity")
    assert float(veil) == pytest.approx(0.3)
    assert _messages(page) == before > 0

    page.locator("[role=option][tabindex='0']").focus()
    _press(page, "u")
    _ask(page, "no bad explanation picked yet")
    page.locator("[role=option][tabindex='0']").focus()
    _press(page, "b", "Escape", "b", "a", "d", "d", "x")  # all of them shortcuts of Jupyter
    assert page.locator(".jp-Notebook .jp-Cell").count() == 2
    page.locator("[role=option][tabindex='0']").focus()
    notebook = _saved(page)
    assert "widgets" not in notebook["metadata"]
    assert (page.folder / "picker.ipynb").stat().st_size < 1_000_000
    assert "<figure" in "".join(notebook["cells"][0]["outputs"][0]["data"]["text/html"])
    assert _our_errors(page) == []


def test_picks_from_python_and_a_reloaded_page(opened):
    page = opened
    _open_picker(page)
    page.locator(".jp-CodeCell .cm-content").nth(1).click()
    _press(page, "Control+Home")
    page.keyboard.type("picker.good, picker.bad = 7, 8\n")
    _ask(page, "picked (7,) (8,)")
    page.locator("[role=option].xbl-good[aria-label^='Row 7,']").wait_for()
    _saved(page)
    page.reload()
    page.locator("[role=option].xbl-bad[aria-label^='Row 8,']").wait_for(state="attached")
    assert page.locator("[role=option]").count() == 300
    assert _our_errors(page) == []
