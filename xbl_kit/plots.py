"""Pictures: arrays in, matplotlib figures out."""

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from itertools import zip_longest

import matplotlib
import numpy as np
import PIL.Image
from jaxtyping import Bool, Float, Int
from pandas import DataFrame
from torch import Tensor

from xbl_kit.colours import colour
from xbl_kit.explain import normalise

# By their names: pyplot and seaborn take a second to load, which who draws nothing saves.
Figure, Axes = "matplotlib.figure.Figure", "matplotlib.axes.Axes"
Map = Float[Tensor, "h w"]
Mask = Bool[Tensor, "h w"]
Maps = Sequence[Tensor | None] | Tensor
# Perceptually even, and readable for the colour-blind: never "jet".
MAP_COLOURS = matplotlib.colormaps["inferno"]
# What is written is text, as `$\bad$` is, and no formula: for all that draws or makes labels.
AS_TEXT = matplotlib.rc_context({"text.parse_math": False})


def show(figure: Figure, alt: str) -> None:
    """Display a figure in a notebook with a text for those who cannot see it."""
    from IPython.display import Image, display  # only where there is a notebook

    display(Image(png(figure), alt=alt))


@AS_TEXT
def png(figure: Figure) -> bytes:
    """A figure as PNG; a palette of 256 colours makes it three times smaller than it would be.

    The palette covers rare colours as well: a mark, or a thin line, keeps that of its model.
    """
    from matplotlib import pyplot as plt

    drawn, small = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png", dpi=90)
    plt.close(figure)
    all_colours, rare_too = PIL.Image.open(drawn).convert("RGB"), PIL.Image.Quantize.MAXCOVERAGE
    all_colours.quantize(256, rare_too).save(small, format="png", optimize=True)
    return small.getvalue()


def panels(
    size: tuple, rows: int, columns: int, *, framed: bool = False, **options
) -> tuple[Figure, np.ndarray]:
    """A figure of (width, height) in inches that no notebook shows by itself, and its axes."""
    from matplotlib import pyplot as plt

    figure = plt.Figure(figsize=size, layout="constrained")
    cells = figure.subplots(rows, columns, squeeze=False, **options)
    for axes in cells.flat:
        axes.spines[["top", "right"]].set_visible(framed)
    return figure, cells


def live_curves() -> Callable[[dict], None]:
    """An `on_epoch` for `train.fit` that draws all losses in the notebook, epoch by epoch."""
    from IPython.display import Image, display  # only where there is a notebook

    history: list[dict] = []
    handle = display(display_id=True)

    def draw(record: dict) -> None:
        history.append(record)
        losses, epochs = list(record["train"]), [past["epoch"] for past in history]
        figure, cells = panels((3.6 * len(losses), 2.6), 1, len(losses), framed=True)
        for axes, loss in zip(cells[0], losses, strict=True):
            for part, style in (("train", ".-"), ("val", ".--")):
                axes.plot(epochs, [past[part][loss] for past in history], style, label=part)
            axes.set(title=f"{loss} loss", xlabel="epoch", ylim=(0, None))
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend(frameon=False)
        ends = ", ".join(f"{loss} {record['val'][loss]:.3f}" for loss in losses)
        alt = f"Losses by epoch, training and validation; validation at epoch {epochs[-1]}: {ends}."
        handle.update(Image(png(figure), alt=alt))

    return draw


def overlay(
    axes: Axes, image: Map, cam: Map | None = None, mask: Mask | None = None, *, title: str = ""
) -> None:
    """Draw an image, a heat map over it (clear where it is zero), and the outline of a mask."""
    axes.imshow(image.numpy(), cmap="gray", vmin=0, vmax=1)
    if cam is not None:
        axes.imshow(heat(normalise(cam[None])[0].numpy()))
    if mask is not None and mask.any():
        axes.contour(mask.numpy(), levels=[0.5], colors="#56b4e9", linewidths=1)
    axes.set_title(title, fontsize=10, parse_math=False)
    axes.set_axis_off()


def heat(strength: np.ndarray) -> np.ndarray:
    """Colours (..., 4) from 0 to 1 of a map that lies in [0, 1]: clear where it is zero."""
    coloured = MAP_COLOURS(strength)
    coloured[..., 3] = 0.55 * np.sqrt(strength)
    return coloured


@AS_TEXT
def gallery(
    images: Maps, cams: Maps = (), masks: Maps = (), *, titles: Sequence[str] = (), columns: int = 4
) -> Figure:
    """Images (h, w) in rows of `columns`, each with its map, the outline of its mask, its title.

    Raises ValueError where there is no image.
    """
    if not len(images):
        raise ValueError("there is no image to draw")
    rows = -(-len(images) // columns)
    figure, axes = panels((2.6 * columns, 2.9 * rows), rows, columns)
    for cell, image, cam, mask, title in zip_longest(axes.flat, images, cams, masks, titles):
        cell.set_axis_off()
        if image is not None:
            overlay(cell, image, cam, mask, title=title or "")
    return figure


@AS_TEXT
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
    rows, columns = len(images), 1 + len(cams)
    figure, axes = panels((2.2 * columns, 2.35 * rows), rows, columns)
    for row, line in enumerate(axes):
        mask = None if masks is None else masks[row]
        overlay(line[0], images[row, 0], mask=mask, title=titles[row] if titles else "")
        for cell, (name, maps) in zip(line[1:], cams.items(), strict=True):
            said = f"\n{notes[name][row]}" if notes else ""
            overlay(cell, images[row, 0], maps[row], mask, title=f"{name}{said}")
    return figure


@AS_TEXT
def split_bars(
    values: Mapping[str, Mapping[str, float | None]], *, ylabel: str, chance: float | None = None
) -> Figure:
    """Bars of {model: {split: value}}, grouped by split, with a line at the chance level."""
    import seaborn as sns

    table = DataFrame(values).astype(float).rename_axis("split").reset_index()
    long = table.melt("split", var_name="model", value_name=ylabel)
    figure, [[axes]] = panels((7, 3.2), 1, 1)
    palette = {model: colour(model) for model in values}
    sns.barplot(long, x="split", y=ylabel, hue="model", palette=palette, saturation=1, ax=axes)
    for bars in axes.containers:
        axes.bar_label(bars, fmt="{:.2f}", fontsize=8)
    if chance is not None:
        axes.axhline(chance, color="black", linestyle=":", linewidth=1, label="chance")
    axes.set(ylim=(0, 1.08), xlabel="")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=6, frameon=False)
    return figure


@AS_TEXT
def dots(points: Sequence[tuple], *, xlabel: str, chance: float | None = None) -> Figure:
    """A row for each model and note of (model, note, series, mean, spread), in the order given.

    A colour is a model's, a mark a series'.
    """
    names = list(dict.fromkeys(f"{model} ({note})" for model, note, *_ in points))
    series = list(dict.fromkeys(one for _, _, one, *_ in points))
    looks = [{"marker": "os^Dv"[n % 5], "mfc": "white" if n else None} for n in range(len(series))]
    figure, [[axes]] = panels((8, 1.1 + 0.27 * len(names)), 1, 1)
    for model, note, one, mean, spread in points:
        number = series.index(one)
        look = {"color": colour(model), "elinewidth": 1, "markersize": 5} | looks[number]
        axes.errorbar(mean, names.index(f"{model} ({note})") + 0.16 * number, xerr=spread, **look)
    for one, look in zip(series, looks, strict=True):
        axes.plot([], [], linestyle="", color="black", **look, label=one)
    if chance is not None:
        axes.axvline(chance, color="black", linestyle=":", linewidth=1, label="chance")
    axes.set(xlim=(-0.02, 1.02), xlabel=xlabel, ylim=(len(names) - 0.4, -0.6))
    axes.set_yticks(range(len(names)), names)
    axes.grid(axis="y", linewidth=0.3)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


@AS_TEXT
def beside(
    rows: Sequence[str], columns: Mapping[str, Sequence], lines: Mapping[str, Mapping[str, float]]
) -> Figure:
    """A panel a column, with a dot for each of the `rows`, and a dotted line at its `lines`."""
    size = (2 + 2.6 * len(columns), 1.6 + 0.3 * len(rows))
    figure, [cells] = panels(size, 1, len(columns), sharey=True)
    for axes, (title, values) in zip(cells, columns.items(), strict=True):
        axes.plot(values, range(len(rows)), "o", color="black")
        for name, value in lines.get(title, {}).items():
            axes.axvline(value, color=colour(name.partition(",")[0]), linestyle="--", label=name)
        top = 1.02 if title in lines else max(values) + 0.5
        axes.set(xlabel=title, xlim=(-0.02 * top, top), ylim=(len(rows) - 0.5, -0.5))
        axes.grid(axis="y", linewidth=0.3)
        axes.xaxis.get_major_locator().set_params(integer=title not in lines)
    cells[0].set_yticks(range(len(rows)), rows)
    figure.legend(*cells[-1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


@AS_TEXT
def share_maps(tables: Mapping[str, DataFrame]) -> Figure:
    """One panel a table of P(level | label), a row a label: rows that differ are a bias."""
    import seaborn as sns

    widths = [table.shape[1] for table in tables.values()]
    size = (2 + 0.9 * sum(widths), 1.2 + 0.45 * max(len(table) for table in tables.values()))
    figure, cells = panels(size, 1, len(tables), sharey=True, width_ratios=widths)
    look = {"vmin": 0, "vmax": 1, "cmap": "cividis", "cbar": False, "linewidths": 1}
    for axes, (name, table) in zip(cells[0], tables.items(), strict=True):
        sns.heatmap(table, annot=True, fmt=".2f", ax=axes, **look)
        axes.set(title=name, xlabel="", ylabel="")
        axes.tick_params(axis="y", rotation=0)
        axes.set_xticks(axes.get_xticks(), table.columns, rotation=30, ha="right")
    return figure


@AS_TEXT
def scatter(
    points: Float[Tensor, "n 2"],
    columns: Mapping[str, tuple[Sequence[str], Int[Tensor, " n"]]],
    *,
    title: str = "",
) -> Figure:
    """One panel a column of the same points (n, 2), coloured by its levels.

    `columns` are {name: (names of the levels, each point's level)}; the axes have no unit.
    """
    import seaborn as sns

    figure, cells = panels((3 * len(columns), 4), 1, len(columns), framed=True)
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "ncols": 2, "frameon": False}
    for axes, (column, (levels, of_point)) in zip(cells[0], columns.items(), strict=True):
        colours = sns.color_palette("colorblind", len(levels))
        for number, level in enumerate(levels):
            xy = points[of_point == number].T
            name = f" {level}" if level.startswith("_") else level  # which legends leave out
            axes.scatter(*xy, s=5, color=colours[number], linewidths=0, label=name)
        axes.set(title=column, xticks=[], yticks=[], box_aspect=1)
        axes.legend(**below, markerscale=3)
    figure.suptitle(title)
    return figure
