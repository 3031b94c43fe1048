"""The figures: what is drawn is what was given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from xbl_kit import plots


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
