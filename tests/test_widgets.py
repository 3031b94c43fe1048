"""The picker's Python side; its front end is tested in `tests/browser`."""

import io
import json
import re
from base64 import b64decode

import ipywidgets
import nbformat
import numpy as np
import pytest
import torch
import traitlets
from nbconvert import HTMLExporter
from PIL import Image

from xbl_kit.exemplar import Exemplar, Explained
from xbl_kit.widgets import ExemplarPicker
from xbl_kit.widgets.picker import _check_columns


def _arrays(n=20, size=16):
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(n) % 2
    return dict(
        images=torch.rand(n, 1, size, size, generator=generator),
        cams=7 * torch.rand(n, 4, 4, generator=generator),
        index=100 + 3 * torch.arange(n),
        label=label,
        predicted=1 - label,
        classes=("COVID", "Normal"),
        share=torch.linspace(0, 1, n),
    )


@pytest.fixture
def picker():
    return ExemplarPicker(**_arrays())


@pytest.fixture
def several():
    return ExemplarPicker(**_arrays(), several=True)


def test_picks_are_traits(picker):
    seen = []
    picker.observe(lambda change: seen.append((change["name"], change["new"])), ["good", "bad"])
    picker.good, picker.bad = 103, np.int64(106)
    assert (picker.good, picker.bad) == (103, 106) and type(picker.bad) is int
    assert seen == [("good", 103), ("bad", 106)]
    twin = ExemplarPicker(**_arrays())
    traitlets.link((picker, "good"), (twin, "good"))
    twin.good = 109
    assert picker.good == 109
    picker.good = None
    assert picker.good is twin.good is None


@pytest.mark.parametrize("value", [7, -1, "103", 103.5, True, [103], torch.tensor(7)])
def test_a_value_that_is_no_row_is_named(picker, value):
    with pytest.raises(traitlets.TraitError, match=re.escape(f"good: {value!r} is no row")):
        picker.good = value
    assert picker.good is None


def test_a_list_needs_several(picker, several):
    with pytest.raises(traitlets.TraitError, match="several=True"):
        picker.good = [103, 106]
    several.good = (103, 106, 103)
    assert several.good == (103, 106)
    several.good = 109
    assert several.good == (109,)
    several.good = None
    assert several.good == ()
    with pytest.raises(traitlets.TraitError, match=r"bad: 5 is no row .* 20 rows \(100, 103"):
        several.bad = [103, 5]


def test_no_row_is_good_and_bad(picker, several):
    picker.good = 103
    picker.bad = 103
    assert (picker.good, picker.bad) == (None, 103)
    several.good = [103, 106]
    several.bad = [106, 109]
    assert (several.good, several.bad) == ((103,), (106, 109))


def test_exemplar_keeps_images_and_raw_maps(picker, tmp_path):
    arrays = _arrays()
    picker.good, picker.bad = 106, 103
    picker.exemplar.save(tmp_path / "pick.npz")
    exemplar = Exemplar.load(tmp_path / "pick.npz")
    assert exemplar.summary() == {
        "picked_by": "person",
        "good": {"index": 106, "label": "COVID"},
        "bad": {"index": 103, "label": "Normal"},
    }
    for side, at in ((exemplar.good, 2), (exemplar.bad, 1)):
        assert torch.equal(side.image, arrays["images"][at : at + 1])
        assert torch.equal(side.cam, arrays["cams"][at : at + 1])


def test_exemplar_of_several(several):
    several.good, several.bad = [109, 103], [100]
    good = several.exemplar.good
    assert good.index == (109, 103) and good.label == ("Normal", "Normal")
    assert torch.equal(good.cam, _arrays()["cams"][[3, 1]])


def test_exemplar_says_what_is_missing(picker, several):
    for either in (picker, several):
        with pytest.raises(ValueError, match=r"no good and no bad explanation picked yet.*press g"):
            _ = either.exemplar
    picker.good = 103
    with pytest.raises(ValueError, match=r"^no bad explanation picked yet"):
        _ = picker.exemplar


def test_picks_from_the_browser(picker):
    """What the front end sends arrives as one state and is held to the same rules."""
    picker.good = 103
    picker.set_state({"good": 106, "bad": 103})
    assert (picker.good, picker.bad) == (106, 103)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": torch.zeros(3, dtype=torch.int64)}, "index 20, label 3, predicted 20"),
        ({"share": torch.zeros(19)}, "share 19"),
        ({"images": torch.zeros(0, 1, 4, 4)}, "images 0"),
        ({name: _arrays()[name][:0] for name in _arrays() if name != "classes"}, "images 0"),
        ({"index": torch.zeros(20, dtype=torch.int64)}, "row number comes twice"),
        ({"predicted": torch.full((20,), 2)}, "predicted: 2 to 2, expected 0 to 1"),
        ({"label": torch.full((20,), -1)}, "label: -1 to -1, expected 0 to 1"),
    ],
)
def test_inputs_must_fit(change, message):
    columns = _arrays() | change
    classes = columns.pop("classes")
    with pytest.raises(ValueError, match=message):  # the tests' type checker would be there first
        _check_columns(columns, len(classes))


def test_an_empty_map_and_an_unknown_share_are_fine():
    arrays = _arrays()
    arrays["cams"][0] = 0
    arrays["share"][0] = torch.nan
    picker = ExemplarPicker(**arrays)
    assert json.dumps(picker._rows, allow_nan=False)
    assert picker._rows["share"][:2] == [None, round(1 / 19, 4)]
    assert max(picker._maps[:16]) == 0 and max(picker._maps[16:32]) == 255


def test_what_is_sent_is_small_and_true():
    before = set(ipywidgets.widgets.widget._instances)
    arrays = _arrays(300, 8)
    smooth = torch.nn.functional.interpolate(arrays["images"], size=(128, 128), mode="bicubic")
    grainy = smooth + 0.04 * torch.randn(smooth.shape, generator=torch.Generator().manual_seed(0))
    picker = ExemplarPicker(**arrays | {"images": grainy.clamp(0, 1)})
    models = set(ipywidgets.widgets.widget._instances) - before
    assert len(models) <= 3
    assert len(picker._sheet) < 2_500_000 and len(picker._maps) == 300 * 16
    sheet = np.asarray(Image.open(io.BytesIO(picker._sheet)), dtype=float) / 255
    across = picker._rows["across"]
    y, x = divmod(37, across)
    tile = sheet[y * 128 : (y + 1) * 128, x * 128 : (x + 1) * 128]
    assert abs(tile - picker._images[37, 0].numpy()).mean() < 0.02


def _still(picker) -> tuple[str, bytes]:
    html = picker._repr_mimebundle_()[0]["text/html"]
    return html, b64decode(re.search(r"base64,([^\"]+)", html)[1])


def test_still_picture():
    picker = ExemplarPicker(**_arrays(300, 128) | {"classes": ("<b>", "Normal")})
    html, png = _still(picker)  # noise packs worst
    assert "nothing picked yet" in html and 'alt="12 of 300' in html
    assert len(png) <= 60_000 and Image.open(io.BytesIO(png)).format == "PNG"
    picker.good = 106
    html, again = _still(picker)
    assert html.count("good: row 106, &lt;b&gt;, predicted Normal") == 2 and again != png


def test_a_saved_notebook_shows_the_still_picture(picker):
    bundle, _ = picker._repr_mimebundle_()
    output = nbformat.v4.new_output("display_data", data=bundle)
    cell = nbformat.v4.new_code_cell("picker", outputs=[output])
    page, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    assert "<b>Exemplar picker</b>" in page and "nothing picked yet" in page


@pytest.mark.parametrize("change", ["append", "extend", "remove", "insert", "__setitem__"])
def test_picks_cannot_be_changed_behind_the_browsers_back(several, change):
    several.good = [103, 106]
    assert not hasattr(several.good, change)


@pytest.mark.parametrize("as_row", [int, np.int64, torch.tensor])
def test_picks_are_added_to_by_assignment(several, as_row):
    seen = []
    several.observe(lambda change: seen.append((change["name"], change["new"])), ["good", "bad"])
    several.good, several.bad = [as_row(103)], (as_row(106),)
    several.good += (as_row(106),)  # good now, and so bad no longer
    assert sorted(seen[-2:]) == [("bad", ()), ("good", (103, 106))]
    several.set_state({"bad": [109]})  # as the browser sends it
    assert several.bad == (109,) and several.exemplar.bad.index == (109,)
    with pytest.raises(traitlets.TraitError, match=r"good: .*999.* is no row of this picker"):
        several.good += (as_row(999),)
    assert several.good == (103, 106)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_half_precision_is_shown_and_saved(tmp_path, dtype):
    arrays = _arrays()
    halved = {name: arrays[name].to(dtype) for name in ("images", "cams", "share")}
    picker = ExemplarPicker(**arrays | halved)
    picker.good, picker.bad = 100, 103
    assert "good: row 100" in _still(picker)[0]
    picker.exemplar.save(tmp_path / "x.npz")
    found = Exemplar.load(tmp_path / "x.npz").good
    assert torch.equal(found.cam, halved["cams"][:1].to(found.cam.dtype))
    side = Explained(halved["images"][:1], halved["cams"][:1], (100,), ("COVID",))
    assert {side.image.dtype, side.cam.dtype} <= {torch.float32, torch.float64}
    Exemplar(side, side).save(tmp_path / "y.npz")


def _press_save(picker, name: str) -> str:
    """What the browser sends, and what it is told."""
    data = {"method": "custom", "content": {"name": name}}
    picker._handle_msg({"content": {"data": data}, "buffers": []})
    return picker._said


def test_a_pick_is_saved_from_the_page_under_a_name(tmp_path):
    picker = ExemplarPicker(**_arrays(), folder=tmp_path / "picks")
    assert picker._rows["saves"] is True and picker._said == ""
    said = "Not saved: no good and no bad explanation picked yet: focus a thumbnail and press "
    assert _press_save(picker, "Ada") == said + "g (good) or b (bad)"
    picker.good, picker.bad = 103, 106
    assert _press_save(picker, "").startswith("Not saved: name ''")
    assert not (tmp_path / "picks").exists()
    assert _press_save(picker, "Ada") == f"Saved as {tmp_path / 'picks' / 'Ada.npz'}"
    picker.bad = 109
    said = _press_save(picker, "Ada")
    assert said.endswith("Ada-1.npz; there is another file of that name, which stays")
    files = [Exemplar.load(tmp_path / "picks" / name) for name in ("Ada.npz", "Ada-1.npz")]
    assert [file.bad.index for file in files] == [(106,), (109,)]
    assert {file.picked_by for file in files} == {"Ada"}


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "picks").write_text("a file")
    picker = ExemplarPicker(**_arrays(), folder=tmp_path / "picks")
    picker.good, picker.bad = 103, 106
    assert _press_save(picker, "Ada").startswith("Not saved: ")


def test_without_a_folder_nothing_can_be_saved(picker):
    assert picker._rows["saves"] is False
    picker.good, picker.bad = 103, 106
    assert _press_save(picker, "Ada") == ""
