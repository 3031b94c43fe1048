"""The picker's front end alone, with a mock model in the place of anywidget's."""

import re
from base64 import b64encode
from pathlib import Path

import pytest
import torch
from playwright.sync_api import expect

import xbl_kit.widgets

_FRONT_END = Path(xbl_kit.widgets.__file__).with_name("picker.js")

# What anywidget gives a front end: get, set, save_changes, on, off. `sent` counts the messages.
_MOCK = """
async ([state, buffers, script, style]) => {
  for (const [name, text] of Object.entries(buffers))
    state[name] = new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const listeners = new Map();
  window.sent = 0;
  window.model = {
    get: (name) => state[name],
    set: (name, value) => {
      const changed = JSON.stringify(state[name]) !== JSON.stringify(value);
      state[name] = value;
      if (changed) (listeners.get(`change:${name}`) ?? []).forEach((call) => call());
    },
    save_changes: () => { window.sent += 1; },
    send: (content) => { window.sent += 1; window.asked = content; },
    on: (event, call) => listeners.set(event, [...(listeners.get(event) ?? []), call]),
    off: () => {},
  };
  window.leaked = [];
  window.addEventListener("keydown", (event) => window.leaked.push(event.key));
  document.head.innerHTML = "<style></style>";
  document.head.firstChild.textContent = style;
  document.body.innerHTML = "<div id=here></div>";
  const { default: widget } = await import(script);
  const start = performance.now();
  await widget.render({ model: window.model, el: document.getElementById("here") });
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - start;
}
"""


def _picker(n=60, size=32, **options):
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(n) % 3
    share = torch.linspace(0, 1, n)
    share[4:5] = torch.nan
    arrays = dict(
        images=torch.rand(n, 1, size, size, generator=generator),
        cams=torch.rand(n, 4, 4, generator=generator),
        index=10 * torch.arange(n),
        label=label,
        predicted=torch.where(torch.arange(n) % 5 == 0, (label + 1) % 3, label),
        share=share,
        confidence=torch.rand(n, generator=generator),
    )
    return xbl_kit.widgets.ExemplarPicker(**arrays, classes=("A", "B", "C"), **options)


@pytest.fixture
def show(chromium):
    """Draws a picker on an empty page; console errors fail the test."""
    page = chromium.new_page(viewport={"width": 900, "height": 900})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: line.type == "error" and errors.append(line.text))

    def draw(**options):
        picker = _picker(**options)
        state = {name: getattr(picker, name) for name in ("good", "bad", "_rows", "_said")}
        names = ("_sheet", "_maps", "_colours")
        buffers = {name: b64encode(getattr(picker, name)).decode() for name in names}
        script = b64encode(_FRONT_END.read_bytes()).decode()
        style = _FRONT_END.with_suffix(".css").read_text()
        arguments = [state, buffers, f"data:text/javascript;base64,{script}", style]
        page.drawn_ms = page.evaluate(_MOCK, arguments)
        return page

    yield draw
    page.close()
    assert errors == []


def _focused(page):
    return page.evaluate("document.activeElement.item?.row")


def _picks(page):
    return page.evaluate("[model.get('good'), model.get('bad')]")


def _rows(page):
    return page.eval_on_selector_all("[role=option]", "all => all.map((one) => one.item.row)")


def _enter(page):
    page.get_by_label("Outline").focus()
    page.keyboard.press("Tab")


def test_arrows_move_one_tab_stop(show):
    page = show()
    _enter(page)
    assert _focused(page) == 0
    columns = page.evaluate(
        "getComputedStyle(document.querySelector('.xbl-grid')).gridTemplateColumns"
    )
    down = 10 * len(columns.split())
    seen = []
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "ArrowUp", "End", "Home"):
        page.keyboard.press(key)
        seen.append(_focused(page))
    assert seen == [10, 10 + down, down, 0, 0, 590, 0]
    assert page.locator("[role=option][tabindex='0']").count() == 1


def test_pick_toggle_move_and_undo(show):
    page = show()
    _enter(page)
    page.keyboard.press("g")
    assert _picks(page) == [0, None]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("b")
    assert _picks(page) == [0, 10]
    page.keyboard.press("g")  # row 10 moves from bad to good
    assert _picks(page) == [10, None]
    page.keyboard.press("g")  # the same key again takes it back
    assert _picks(page) == [None, None]
    for expected in ([10, None], [0, 10], [0, None], [None, None], [None, None]):
        page.keyboard.press("u")
        assert _picks(page) == expected


def test_several_picks(show):
    page = show(several=True)
    _enter(page)
    for key in ("g", "ArrowRight", "g", "ArrowRight", "b"):
        page.keyboard.press(key)
    assert _picks(page) == [[0, 10], [20]]
    assert page.locator(".xbl-pick").count() == 3
    page.keyboard.press("g")
    assert _picks(page) == [[0, 10, 20], []]


def test_escape_leaves_and_no_key_leaks(show):
    page = show()
    _enter(page)
    for key in ("b", "ArrowDown", "Escape", "b"):
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement.textContent").startswith("\u2713 Good")
    assert page.evaluate("leaked") == []
    guarded = "document.activeElement.hasAttribute('data-lm-suppress-shortcuts')"
    assert page.evaluate(guarded)
    page.keyboard.down("Control")  # the host's own shortcuts, saving above all, still work
    assert not page.evaluate(guarded)
    page.keyboard.up("Control")
    assert page.evaluate(guarded)


def test_mouse_picks_with_the_buttons(show):
    page = show()
    page.locator("[role=option]").nth(2).click()
    page.get_by_role("button", name="Good").click()
    page.locator("[role=option]").nth(3).click()
    page.get_by_role("button", name="Bad").click()
    assert _picks(page) == [20, 30]


def test_filters_sorting_and_what_they_leave_alone(show):
    page = show()
    _enter(page)
    page.keyboard.press("g")
    page.get_by_label("Class").select_option("B")
    assert _rows(page) == [10 * i for i in range(60) if i % 3 == 1]
    page.get_by_label("Prediction").select_option("wrong")
    assert _rows(page) == [10 * i for i in range(60) if i % 3 == 1 and i % 5 == 0]
    assert page.locator(".xbl-count").inner_text() == "4 of 60"
    assert _picks(page) == [0, None] and page.locator(".xbl-pick").count() == 1
    page.get_by_label("Class").select_option("all")
    page.get_by_label("Prediction").select_option("all")
    page.get_by_label("Sort").select_option("in lungs, high first")
    assert _rows(page)[:2] == [590, 580] and _rows(page)[-1] == 40  # no share: last
    page.get_by_label("Sort").select_option("in lungs, low first")
    assert _rows(page)[:2] == [0, 10] and _rows(page)[-1] == 40
    assert page.locator("[role=option][aria-selected=true]").count() == 1
    assert page.evaluate("sent") == 1  # the pick alone


def test_a_filter_that_leaves_nothing_says_so(show):
    page = show(n=3)
    page.get_by_label("Class").select_option("B")
    page.get_by_label("Prediction").select_option("wrong")
    assert page.get_by_text("No explanation fits the filters").is_visible()
    assert page.locator(".xbl-count").inner_text() == "0 of 3"
    page.get_by_role("button", name="Good").click()
    assert _picks(page) == [None, None]
    assert page.locator("[aria-live]").inner_text() == "The filters leave nothing to pick"
    page.get_by_label("Class").select_option("all")
    page.get_by_label("Prediction").select_option("all")
    assert page.locator("[role=option]:visible").count() == 3


def test_opacity_and_outline_send_nothing(show):
    page = show()
    veil = page.locator(".xbl-veil").first
    page.get_by_label("Map opacity").fill("20")
    assert veil.evaluate("one => getComputedStyle(one).opacity") == "0.2"
    page.get_by_label("Class").select_option("B")
    page.get_by_label("Outline").check()
    assert page.locator(".xbl-outline:visible").count() == 20
    page.get_by_label("Outline").uncheck()
    page.get_by_label("Class").select_option("all")
    page.get_by_label("Outline").check()
    assert page.locator(".xbl-outline:visible").count() == 60
    assert page.evaluate("sent") == 0


def test_picks_from_python_show_and_are_said(show):
    page = show()
    page.evaluate("model.set('good', 30)")
    option = page.get_by_role("option", name=re.compile(r"Row 30, A, predicted right"))
    assert option.get_attribute("aria-selected") == "true"
    assert option.get_attribute("aria-label").endswith("picked as good")
    assert page.locator(".xbl-card.xbl-good canvas").count() == 3
    option.focus()
    page.keyboard.press("b")
    assert page.locator("[aria-live]").inner_text() == "Row 30 picked as bad"


def test_maps_are_drawn_as_torch_resizes_them(show):
    """The pixels of the compare pane, against `upsample` and the colours in Python."""
    page = show()
    picker = _picker()
    page.evaluate("model.set('good', 70)")
    drawn = page.locator(".xbl-card.xbl-good .xbl-map").evaluate(
        "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
    )
    cam = picker._cams[7:8] / picker._cams[7].max()
    resized = torch.nn.functional.interpolate(cam[None], size=(32, 32), mode="bilinear")[0, 0]
    colours = torch.frombuffer(bytearray(picker._colours), dtype=torch.uint8).view(256, 3)
    expected = colours[(resized * 255).round().long()].int()
    found = torch.tensor(drawn).view(32, 32, 4)[..., :3].int()
    assert (expected - found).abs().max() <= 6  # one step of the 8-bit map


def test_300_thumbnails_are_quick(show, fade_ms):
    page = show(n=300, size=128)
    step = fade_ms(page)
    print(f"drawn in {page.drawn_ms:.0f} ms, opacity step {step:.1f} ms")
    # The aim is 2,500 and 20 ms; a loaded machine gets three times that.
    assert page.drawn_ms < 7500 and step < 60


def test_tab_reaches_all_in_order_and_leaves(show):
    page = show()
    seen = []
    for _ in range(10):
        page.keyboard.press("Tab")
        focused = "(({ labels, innerText }) => labels?.[0]?.innerText ?? innerText)"
        seen.append(page.evaluate(f"{focused}(document.activeElement)").split("\n")[0])
    assert seen[:6] == ["Class", "Prediction", "Sort", "Map opacity", "Outline", "A"]
    assert seen[6:9] == ["\u2713 Goodg", "\u2715 Badb", "Undou"]
    assert seen[9] == "Class"  # nothing else is on this page


_TREE = r"""
- group "View":
  - combobox "Class"
  - combobox "Prediction"
  - combobox "Sort"
  - slider "Map opacity": "55"
  - checkbox "Outline"
- listbox "Explanations":
  - option /Row 0, A, predicted B, 0% of the map in the lungs, .* picked as good/ [selected]
  - option /Row 10, B, predicted right, .*, picked as bad/ [selected]
  - option /Row 20, C, predicted right, 18% of the map in the lungs, [0-9]+% confident$/
- group "Pick":
  - button "GOOD Good"
  - button "BAD Bad"
  - button "Undo"
  - status "shown": 12 of 12
- region "good picks":
  - paragraph: "Row 0: A, predicted B, 0% in lungs"
  - figure:
    - img "image of row 0"
  - figure:
    - img "map of row 0"
- region "bad picks":
  - figure:
    - img "image of row 10"
- status: Row 10 picked as bad
""".replace("GOOD", "\u2713").replace("BAD", "\u2715")


def test_the_accessibility_tree_says_all(show):
    page = show(n=12)
    _enter(page)
    for key in ("g", "ArrowRight", "b"):
        page.keyboard.press(key)
    expect(page.locator(".xbl-picker")).to_match_aria_snapshot(_TREE)


def test_marks_do_not_hang_on_colour(show):
    page = show(n=12)
    page.evaluate("model.set('good', 10), model.set('bad', 20)")
    marks = page.locator("[role=option] .xbl-badge").all_inner_texts()
    assert marks == ["\u2713 good", "\u2715 bad"]
    assert page.locator("[role=option] .xbl-wrong").first.inner_text() == "\u2192 B"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_are_readable_on_a_page_that_is(scheme, show, contrasts):
    page = show(n=12)
    page.emulate_media(color_scheme=scheme)
    page.evaluate("model.set('good', 10)")
    found = contrasts(page)
    assert len(found) >= 12 and min(found.values()) >= 4.5, found


def test_a_name_is_asked_for_and_what_came_of_it_is_said(show, contrasts, tmp_path):
    page = show(folder=tmp_path)
    field = page.get_by_label("Your name")
    field.fill("Ada")
    field.press("g")  # a letter of the name, no pick
    assert _picks(page) == [None, None]
    field.press("Enter")
    assert page.evaluate("asked") == {"name": "Adag"}
    field.fill("Ben")
    page.get_by_role("button", name="Save").click()
    assert page.evaluate("asked") == {"name": "Ben"}
    page.evaluate("model.set('_said', 'Saved as picks/Ben.npz')")
    expect(page.get_by_role("status").filter(has_text="Saved as picks/Ben.npz")).to_be_visible()
    assert min(contrasts(page).values()) >= 4.5


def test_an_empty_name_is_not_sent(show, tmp_path):
    page = show(folder=tmp_path)
    page.get_by_role("button", name="Save").click()
    assert page.evaluate("window.asked") is None and page.evaluate("sent") == 0


def test_without_a_folder_no_name_is_asked_for(show):
    assert show().get_by_label("Your name").count() == 0
