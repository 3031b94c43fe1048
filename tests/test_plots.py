"""The figures: what is drawn is what was given."""

from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from matplotlib.colors import to_hex, to_rgb

from xbl_kit import plots
from xbl_kit.colours import COLOURS
from xbl_kit.run import EXPERIMENTS, RECIPES


def test_overlay_is_clear_where_the_map_is_zero():
    cam = torch.zeros(4, 4)
    cam[1, 2] = 3.0
    axes = plt.figure().subplots()
    plots.overlay(axes, torch.rand(4, 4), cam, cam > 1, title="child")
    drawn = axes.images[1].get_array()
    assert drawn[0, 0, 3] == 0 and drawn[1, 2, 3] == pytest.approx(0.55)
    assert axes.get_title() == "child" and axes.collections
    plots.overlay(axes, torch.rand(4, 4), torch.zeros(4, 4))
    assert not axes.images[-1].get_array()[..., 3].any()
    plt.close("all")


def test_gallery_draws_each_image_with_its_own_map_mask_and_title():
    images = [torch.rand(4, 4), torch.rand(6, 6), torch.rand(4, 4)]
    maps = [None, torch.ones(6, 6)]
    figure = plots.gallery(images, maps, [torch.eye(4) > 0], titles=["one", "two"], columns=2)
    assert [len(axes.images) for axes in figure.axes] == [1, 2, 1, 0]
    assert [bool(axes.collections) for axes in figure.axes] == [True, False, False, False]
    assert [axes.get_title() for axes in figure.axes] == ["one", "two", "", ""]
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), images[1])
    with pytest.raises(ValueError, match="no image"):
        plots.gallery([])


@pytest.fixture
def shell(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


def test_live_curves_redraw_one_output_and_say_the_newest_losses(shell):
    with capture_output() as said:
        draw = plots.live_curves()
        for epoch in (1, 2):
            losses = {"class": 1 / epoch, "explanation": 2 / epoch}
            draw({"epoch": epoch, "train": losses, "val": losses})
    drawn = said.outputs[1:]
    assert len(drawn) == 2 and all(output.data["image/png"] for output in drawn)
    assert "epoch 2: class 0.500, explanation 1.000" in drawn[1].metadata["image/png"]["alt"]
    assert {output.transient["display_id"] for output in said.outputs}.__len__() == 1


def test_map_grid_has_a_row_an_image_and_a_column_a_model():
    cams = {"Unrefined": torch.rand(2, 8, 8), "eXBL": torch.rand(2, 8, 8)}
    notes = {name: ["Normal", "COVID"] for name in cams}
    figure = plots.map_grid(torch.rand(2, 1, 8, 8), cams, titles=["one", "two"], notes=notes)
    assert len(figure.axes) == 6
    assert [axes.get_title() for axes in figure.axes[3:]] == [
        "two", "Unrefined\nCOVID", "eXBL\nCOVID"
    ]  # fmt: skip


def test_split_bars_draw_every_value():
    values = {"a": {"iid": 0.9, "inverted": 0.1}, "b": {"iid": 0.8, "inverted": None}}
    axes = plots.split_bars(values, ylabel="accuracy", chance=0.25).axes[0]
    assert [text.get_text() for text in axes.texts[:2]] == ["0.90", "0.10"]
    heights = [[bar.get_height() for bar in bars] for bars in axes.containers]
    np.testing.assert_allclose(heights[0], [0.9, 0.1])
    assert heights[1][0] == 0.8 and (len(heights[1]) == 1 or np.isnan(heights[1][1]))


def test_scatter_draws_every_point_once_a_panel_and_names_the_levels():
    points, level = torch.arange(12.0).view(6, 2), torch.tensor([0, 1, 2, 0, 0, 1])
    columns = {"site": (("A", "B", "C"), level), "sex": (("F", "M"), level.clamp(max=1))}
    panels = plots.scatter(points, columns, title="f_y").axes
    assert [axes.get_title() for axes in panels] == ["site", "sex"]
    assert [len(group.get_offsets()) for group in panels[0].collections] == [3, 2, 1]
    assert panels[0].collections[1].get_offsets().tolist() == [[2, 3], [10, 11]]
    assert [text.get_text() for text in panels[1].get_legend().get_texts()] == ["F", "M"]


def test_dots_have_a_row_for_each_model_and_note_in_its_colour():
    points = [
        ("eXBL", "2 clicks", "whole image", 0.8, 0.1),
        ("DFR", "1 image", "whole image", 0.3, 0.0),
        ("DFR", "1 image", "region-only", 0.2, 0.0),
    ]
    figure = plots.dots(points, xlabel="accuracy", chance=0.25)
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "eXBL (2 clicks)",
        "DFR (1 image)",
    ]
    drawn = [bars.lines[0] for bars in axes.containers]
    assert [line.get_color() for line in drawn] == [plots.colour(m) for m in ("exbl", "dfr", "dfr")]
    assert [line.get_xdata()[0] for line in drawn] == [0.8, 0.3, 0.2]
    assert [round(line.get_ydata()[0]) for line in drawn] == [0, 1, 1]
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said == ["whole image", "region-only", "chance"]
    marks = {line.get_label(): line.get_marker() for line in axes.lines}
    assert drawn[2].get_marker() == marks["region-only"] != marks["whole image"]


def test_bars_have_the_colours_of_their_models():
    axes = plots.split_bars({"Balanced dCor": {"iid": 1.0}, "ERM": {"iid": 0.9}}, ylabel="y").axes[
        0
    ]
    drawn = [to_hex(bars[0].get_facecolor()) for bars in axes.containers]
    assert drawn == [plots.colour("balanced-dcor"), plots.colour("erm")]


def test_a_small_png_keeps_the_colour_of_every_mark():
    points = [(m, "10 images", "all", 0.03 * i, 0.002 * i) for i, m in enumerate(RECIPES)]
    figure, whole = plots.dots(points, xlabel="accuracy", chance=0.25), BytesIO()
    figure.savefig(whole, dpi=90)
    drawn, small = (
        np.array(PIL.Image.open(file).convert("RGB")).astype(int)
        for file in (whole, BytesIO(plots.png(figure)))
    )
    for name in RECIPES:
        marks = (drawn == np.rint(255 * np.array(to_rgb(plots.colour(name))))).all(axis=2)
        assert marks.sum() > 9 and abs(small[marks] - drawn[marks]).max() < 9, name


def test_a_model_has_one_colour_by_name_and_title_and_no_two_share_one():
    for name, recipe in RECIPES.items():
        assert plots.colour(name) == plots.colour(recipe.title) == COLOURS[name]
    assert {plots.colour("erm"), plots.colour("Unrefined")} == {"#777777"}, "both train plainly"
    assert len(set(COLOURS.values())) == len(RECIPES) - 1
    assert plots.colour("Focal loss") == plots.colour("focal-loss") in {f"C{n}" for n in range(10)}


# What the blind to red, green and blue see of light (Machado et al. 2009), and OKLab of it.
SEEN = [
    np.eye(3),
    [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
]
CONES = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]
OKLAB = [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]


def light(models) -> np.ndarray:
    """Red, green and blue (n, 3), as linear light."""
    given = np.array([to_rgb(plots.colour(model)) for model in models])
    return np.where(given <= 0.04045, given / 12.92, ((given + 0.055) / 1.055) ** 2.4)


def test_colours_are_legible_on_a_white_and_on_a_black_page():
    luminance = light(RECIPES) @ [0.2126, 0.7152, 0.0722]
    assert (1.05 / (luminance + 0.05)).min() > 3, "on white"
    assert ((luminance + 0.05) / (0.006 + 0.05)).min() > 2.1, "on #121212"


@pytest.mark.parametrize("experiment", ["exbl", "mimm-x"])
def test_the_colour_blind_tell_the_models_of_an_experiment_apart(experiment):
    for seen in SEEN:
        shown = (light(EXPERIMENTS[experiment]) @ np.transpose(seen)).clip(0, 1)
        lab = np.cbrt(shown @ np.transpose(CONES)) @ np.transpose(OKLAB)
        apart = np.linalg.norm(lab[:, None] - lab, axis=-1)
        assert apart[np.triu_indices(len(lab), 1)].min() > 0.1
