"""Pictures: arrays in, matplotlib figures out."""

from collections.abc import Mapping, Sequence
from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import seaborn as sns
from jaxtyping import Bool, Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

# Perceptually even, and readable for the colour-blind: never "jet".
MAP_COLOURS = "inferno"


def show(figure: Figure, alt: str) -> None:
    """Display a figure in a notebook with a text for those who cannot see it."""
    from IPython.display import Image, display  # only where there is a notebook

    drawn, small = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png", dpi=90)
    plt.close(figure)
    # A palette of 256 colours makes a figure three times smaller, and keeps lessons under 1 MB.
    PIL.Image.open(drawn).convert("RGB").quantize(256).save(small, format="png", optimize=True)
    display(Image(small.getvalue(), alt=alt))


def overlay(
    axes: Axes,
    image: Float[Tensor, "h w"],
    cam: Float[Tensor, "h w"] | None = None,
    mask: Bool[Tensor, "h w"] | None = None,
    *,
    opacity: float = 0.55,
    title: str = "",
) -> None:
    """Draw an image, a heat map over it (clear where it is zero), and the outline of a mask."""
    axes.imshow(image.numpy(), cmap="gray", vmin=0, vmax=1)
    if cam is not None:
        strength = (cam / cam.max().clamp_min(1e-8)).numpy()
        coloured = colormaps[MAP_COLOURS](strength)
        coloured[..., 3] = opacity * np.sqrt(strength)
        axes.imshow(coloured)
    if mask is not None and mask.any():
        axes.contour(mask.numpy(), levels=[0.5], colors="#56b4e9", linewidths=1)
    axes.set_title(title, fontsize=10)
    axes.set_axis_off()


def map_grid(
    images: Float[Tensor, "n 1 h w"],
    cams: Mapping[str, Float[Tensor, "n h w"]],
    masks: Bool[Tensor, "n h w"] | None = None,
    *,
    titles: Sequence[str] = (),
    notes: Mapping[str, Sequence[str]] | None = None,
) -> Figure:
    """A row an image: the image, then its map for each model (Hagos et al. 2023, Fig. 3).

    `titles` name the images, `notes` what each model says of them.
    """
    figure = Figure(figsize=(2.2 * (1 + len(cams)), 2.35 * len(images)), layout="constrained")
    axes = figure.subplots(len(images), 1 + len(cams), squeeze=False)
    for row, line in enumerate(axes):
        mask = None if masks is None else masks[row]
        overlay(line[0], images[row, 0], mask=mask, title=titles[row] if titles else "")
        for cell, (name, maps) in zip(line[1:], cams.items(), strict=True):
            said = f"\n{notes[name][row]}" if notes else ""
            overlay(cell, images[row, 0], maps[row], mask, title=f"{name}{said}")
    return figure


def split_bars(
    values: Mapping[str, Mapping[str, float | None]], *, ylabel: str, chance: float | None = None
) -> Figure:
    """Bars of {model: {split: value}}, grouped by split, with a line at the chance level."""
    rows = [
        {"model": model, "split": split, ylabel: np.nan if value is None else value}
        for model, splits in values.items()
        for split, value in splits.items()
    ]
    columns = {name: [row[name] for row in rows] for name in ("model", "split", ylabel)}
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    sns.barplot(columns, x="split", y=ylabel, hue="model", palette="colorblind", ax=axes)
    for bars in axes.containers:
        axes.bar_label(bars, fmt="{:.2f}", fontsize=8)
    if chance is not None:
        axes.axhline(chance, color="black", linestyle=":", linewidth=1, label="chance")
    axes.set(ylim=(0, 1.08), xlabel="")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=6, frameon=False)
    sns.despine(figure)
    return figure
