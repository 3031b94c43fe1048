"""Lesson 02 as its reader meets it, in JupyterLab and Notebook 7: keyboard to kernel and back."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from nbconvert import HTMLExporter
from nbformat.sign import NotebookNotary

pytestmark = pytest.mark.slow

_ROOT = Path(__file__).resolve().parents[2]
_LESSON = _ROOT / "notebooks" / "02_pick_exemplars.ipynb"
_TRAINED = _ROOT / "build" / "start-here"
_PAGES = {"jupyterlab": "lab/tree/notebooks", "notebook": "notebooks/notebooks"}
_SIGNED = "signatures"
_MINUTE, _ROW = 60_000, "one => one.item.row"
_NOTEBOOKS_OWN = "(reading 'schema')"  # Notebook 7.6 logs this one as it loads any notebook

# Cells by words in them: two of the lesson, then those that these tests add.
_PICKER, _TAKE = "picker = ExemplarPicker(", "someone_picked ="
_ASK, _SET, _LAST = "asked: ", "picker.good, picker.bad =", "the last cell"
_ADDED = (
    'f"asked: {picker.good} {picker.bad}"',
    "picker.good, picker.bad = candidates[[7, 8]].tolist()",
    "None  # the last cell",
)

# From the key that runs the cell to a frame with 300 new thumbnails in it.
_WATCH = """() => {
  const old = document.querySelector(".xbl-picker");
  window.drawn = new Promise((done) => addEventListener("keydown", function run({ key }) {
    if (key !== "Enter") return;
    removeEventListener("keydown", run, true);
    const start = performance.now();
    const look = () => {
      const now = document.querySelector(".xbl-picker");
      const all = now && now !== old && now.querySelectorAll("[role=option]").length === 300;
      requestAnimationFrame(all ? () => setTimeout(() => done(performance.now() - start)) : look);
    };
    look();
  }, true));
}"""


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """What lesson 02 reads. Where lesson 00 has not yet trained, the first page here does."""
    folder = tmp_path_factory.mktemp("kit")
    (folder / "notebooks").mkdir()
    (folder / _SIGNED).mkdir()
    if (_TRAINED / "results.json").is_file():
        shutil.copytree(_TRAINED, folder / "build" / "start-here")
    return folder


def _lesson(*more: str) -> nbformat.NotebookNode:
    """The lesson as it is published (without live views), and more cells."""
    notebook = nbformat.read(_LESSON, as_version=4)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    notebook.cells += [nbformat.v4.new_code_cell(source) for source in more]
    return notebook


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(480):
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            assert server.poll() is None, log.read_text()
            time.sleep(0.25)
    pytest.fail(f"the server did not answer within two minutes:\n{log.read_text()}")


@pytest.fixture(scope="module", params=list(_PAGES))
def address(request, kit, tmp_path_factory):
    """Where a server shows the kit's notebooks; nothing of the user's settings is used."""
    app, own, port = request.param, tmp_path_factory.mktemp("jupyter"), _free_port()
    names = "IPYTHONDIR JUPYTER_CONFIG_DIR JUPYTERLAB_SETTINGS_DIR JUPYTERLAB_WORKSPACES_DIR"
    folders = {name: str(own / name) for name in names.split()}
    folders |= {"JUPYTER_DATA_DIR": str(kit / _SIGNED)}
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    flags = f"--no-browser --allow-root --ServerApp.port={port} --IdentityProvider.token=abc"
    command = [sys.executable, "-m", app, *flags.split(), f"--ServerApp.root_dir={kit}"]
    with (own / "log").open("w") as log:
        environment = os.environ | folders | {"PYTHONPATH": path}
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api/status?token=abc", server, own / "log")
        yield f"http://127.0.0.1:{port}/{_PAGES[app]}/{{}}?token=abc"
    finally:
        server.terminate()
        server.wait(timeout=60)


class _Notebook:
    """A copy of the lesson, open in a browser, with all that it said and sent."""

    def __init__(self, chromium, address: str, file: Path):
        self.file, self.errors, self.sent, self.received = file, [], [], []
        self.page = page = chromium.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(2 * _MINUTE)
        page.on("websocket", self._listen)
        page.on("pageerror", lambda error: self.errors.append(f"{error} {error.stack}"))
        page.on("console", lambda line: line.type == "error" and self.errors.append(line.text))
        page.goto(address.format(file.name))
        self.wait_until_idle()

    def _listen(self, socket) -> None:
        for event, messages in (("framesent", self.sent), ("framereceived", self.received)):
            socket.on(event, lambda frame, messages=messages: messages.append(frame))

    def wait_until_idle(self) -> None:
        idle = ".jp-Notebook-ExecutionIndicator[data-status=idle]"
        self.page.locator(idle).wait_for(state="attached")

    def wait_for_kernel(self) -> None:
        """Jupyter drops what is run while it still connects, though it says "idle" by then."""
        prompt = self.cell(_LAST).locator(".jp-InputPrompt")
        for _ in range(60):
            self.run(_LAST)
            self.page.wait_for_timeout(1000)
            if re.search(r"\d", prompt.inner_text()):
                return
        pytest.fail("no kernel within a minute")

    def count(self, frames: list, kind: str) -> int:
        raw = (frame.encode() if isinstance(frame, str) else frame for frame in frames)
        return sum(kind.encode() in frame for frame in raw)

    def choose(self, menu: str, *items: str) -> None:
        self.page.get_by_role("menuitem", name=menu, exact=True).click()
        for item in items:
            self.page.locator(".lm-Menu-itemLabel").get_by_text(item, exact=True).click()

    def run_all(self) -> None:
        self.choose("Run", "Run All Cells")
        prompt = self.cell(_LAST).locator(".jp-InputPrompt", has_text=re.compile(r"\[\d\d\]"))
        prompt.wait_for(timeout=20 * _MINUTE)

    def cell(self, words: str):
        code = self.page.locator(".jp-InputArea", has_text=words)
        return self.page.locator(".jp-CodeCell").filter(has=code)

    def run(self, words: str) -> None:
        self.cell(words).locator(".cm-content").click()
        self.page.keyboard.press("Control+Enter")

    def answer(self, words: str, expected: str | re.Pattern) -> None:
        """Run a cell; fails unless its output comes to hold what is expected."""
        self.run(words)
        self.cell(words).locator(".jp-OutputArea", has_text=expected).wait_for()

    def new_picker(self) -> float:
        """Run the picker's cell again: no picks, all as at first. Milliseconds until drawn."""
        self.page.evaluate(_WATCH)
        self.run(_PICKER)
        return self.page.evaluate("drawn")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def enter_grid(self) -> None:
        self.page.locator("[role=option][tabindex='0']").focus()

    def row(self, place: int) -> int:
        return self.page.locator("[role=option]").nth(place).evaluate(_ROW)

    def reload(self) -> None:
        """Reload until the picker is there again, at most three times.

        ipywidgets 8.1 looks for a model every 100 ms for two seconds. Where the kernel's answer
        comes just then, as on a busy machine, it says "widget model not found".
        """
        for _ in range(3):
            self.page.reload()
            lost = self.page.get_by_text("Error displaying widget: model not found")
            self.page.locator("[role=option]").nth(299).or_(lost).first.wait_for(state="attached")
            if not lost.count():
                return
            self.errors[:] = [one for one in self.errors if "widget model not found" not in one]
        pytest.fail("the picker was not found again after three reloads")

    def saved(self) -> dict:
        """Save by the usual keys, wherever the focus is; returns what was saved."""
        before = self.file.stat().st_mtime_ns
        self.page.keyboard.press("Control+s")
        for _ in range(200):
            self.page.wait_for_timeout(100)
            # Jupyter empties the file before it writes it.
            if self.file.stat().st_mtime_ns != before and self.file.stat().st_size:
                self.page.wait_for_timeout(300)
                return json.loads(self.file.read_text())
        pytest.fail("Ctrl+S did not save the notebook")


def _sees_the_still_picture(page) -> None:
    page.get_by_text("Run the cell to pick.").wait_for()
    picture = page.locator("figure img[alt*='chest X-rays under their heat maps']")
    assert picture.evaluate("one => one.decode().then(() => one.naturalWidth)") > 500
    assert page.get_by_text("model not found").count() == 0


@pytest.fixture(scope="module")
def has_run(chromium, address, kit):
    """The lesson, read and then run; the tests below share it, each with a picker of its own."""
    file = kit / "notebooks" / "lesson.ipynb"
    nbformat.write(_lesson(*_ADDED), file)
    # In a notebook that is not trusted Jupyter shows no widget, so the picture would prove little.
    NotebookNotary(data_dir=str(kit / _SIGNED)).sign(nbformat.read(file, as_version=4))
    notebook = _Notebook(chromium, address, file)
    notebook.wait_for_kernel()
    notebook.page.wait_for_timeout(4000)  # longer than Jupyter waits for a model
    _sees_the_still_picture(notebook.page)
    assert notebook.page.locator(".xbl-picker").count() == 0
    notebook.run_all()
    yield notebook
    notebook.page.close()


@pytest.fixture
def lesson(has_run):
    has_run.new_picker()
    yield has_run
    assert [error for error in has_run.errors if _NOTEBOOKS_OWN not in error] == []


def test_a_still_picture_until_it_is_run_then_the_ranking_picks(has_run):
    assert has_run.page.locator(".xbl-picker").count() == 1
    assert has_run.page.get_by_text("Run the cell to pick.").count() == 0
    assert has_run.page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    taken = has_run.cell(_TAKE).locator(".jp-OutputArea")
    assert "Nobody has picked yet: the ranking stands in." in taken.text_content()


def test_picks_from_python_saving_and_a_reloaded_page(lesson):
    page = lesson.page
    lesson.run(_SET)
    page.locator("[role=option].xbl-bad").wait_for(state="attached")
    rows = [page.locator(f".xbl-option.xbl-{one}").evaluate(_ROW) for one in ("good", "bad")]
    lesson.answer(_ASK, f"asked: {rows[0]} {rows[1]}")
    lesson.enter_grid()
    notebook, size = lesson.saved(), lesson.file.stat().st_size
    print(f"saved {size / 1e6:.2f} MB")
    assert size < 1_000_000 and "widgets" not in notebook["metadata"]
    lesson.reload()
    assert page.locator("[role=option]").count() == 300
    again = [page.locator(f".xbl-option.xbl-{one}").evaluate(_ROW) for one in ("good", "bad")]
    assert again == rows


def test_picks_by_keyboard_reach_the_exemplar(lesson):
    good, bad = lesson.row(1), lesson.row(3)
    lesson.page.locator("[role=option]").first.click()
    lesson.press("ArrowRight", "g", "ArrowRight", "ArrowRight", "b")
    lesson.answer(_TAKE, re.compile(rf"Your picks.\s+good: row {good},.*\s+bad: row {bad},"))
    lesson.enter_grid()
    lesson.press("ArrowLeft", "b")
    lesson.answer(_TAKE, re.compile(rf"good: row {good},.*\s+bad: row {lesson.row(2)},"))
    lesson.enter_grid()
    lesson.press("u", "u")
    lesson.answer(_ASK, f"asked: {good} None")
    lesson.answer(_TAKE, "Nobody has picked yet")


def test_what_only_changes_the_view_sends_nothing_and_keeps_the_picks(lesson):
    page, good = lesson.page, lesson.row(0)
    lesson.enter_grid()
    lesson.press("g", "ArrowRight", "b")
    lesson.answer(_ASK, f"asked: {good} {lesson.row(1)}")
    before = lesson.count(lesson.sent, "comm_msg")
    page.get_by_label("Map opacity").focus()
    lesson.press(*["ArrowLeft"] * 5)
    veil = page.locator(".xbl-veil").first.evaluate("one => getComputedStyle(one).opacity")
    assert float(veil) == pytest.approx(0.3)
    page.get_by_label("Outline").check()
    page.get_by_label("Class").select_option("Viral Pneumonia")
    page.get_by_label("Prediction").select_option("right")
    page.get_by_label("Sort").select_option("in lungs, low first")
    assert 20 < page.locator("[role=option]").count() < 150
    assert page.locator(".xbl-outline:visible").count() == page.locator("[role=option]").count()
    assert page.locator(".xbl-pick", has_text=f"Row {good}").count() == 1
    assert lesson.count(lesson.sent, "comm_msg") == before > 0

    lesson.enter_grid()
    lesson.press("Home", "b")  # among those shown; the good one may be hidden
    lesson.answer(_ASK, f"asked: {good} {lesson.row(0)}")
    page.get_by_label("Class").select_option("all")
    assert page.locator("[role=option].xbl-good").count() == 1


def test_jupyter_takes_no_key_meant_for_the_picker(lesson):
    cells = lesson.page.locator(".jp-Notebook .jp-Cell").count()
    lesson.enter_grid()
    lesson.press("b", "Escape", "b", "a", "d", "d", "x")  # all of them shortcuts of Jupyter
    assert lesson.page.locator(".jp-Notebook .jp-Cell").count() == cells
    lesson.answer(_ASK, f"asked: None {lesson.row(0)}")


def test_texts_are_readable_in_either_theme(lesson, contrasts):
    page = lesson.page
    lesson.enter_grid()
    lesson.press("g")
    for theme in ("Dark", "Light"):
        lesson.choose("Settings", "Theme", f"JupyterLab {theme}")
        page.locator(f"[data-jp-theme-name='JupyterLab {theme}']").wait_for(state="attached")
        page.wait_for_timeout(1000)  # the theme's style sheet
        found = contrasts(page)
        print(theme, sorted(found.items(), key=lambda pair: pair[1])[:3])
        assert len(found) >= 12 and min(found.values()) >= 4.5, found


def test_300_thumbnails_are_quick_and_few_models(lesson, fade_ms):
    lesson.wait_until_idle()
    models = lesson.count(lesson.received, "comm_open")
    drawn = sorted(lesson.new_picker() for _ in range(3))[1]
    models = (lesson.count(lesson.received, "comm_open") - models) / 3
    step = fade_ms(lesson.page)
    print(f"run to drawn {drawn:.0f} ms, opacity step {step:.1f} ms, {models:.0f} models")
    # The aim is 2,500 and 20 ms; a loaded machine gets three times that.
    assert drawn < 7500 and step < 60 and 1 <= models <= 3


def test_html_shows_the_still_picture(chromium, tmp_path):
    html, _ = HTMLExporter().from_notebook_node(_lesson())
    (tmp_path / "lesson.html").write_text(html, encoding="utf-8")
    page = chromium.new_page()
    page.route(re.compile("^https:"), lambda route: route.abort())  # MathJax and the like
    page.goto((tmp_path / "lesson.html").as_uri())
    _sees_the_still_picture(page)
    page.close()
