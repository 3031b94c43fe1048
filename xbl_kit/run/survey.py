"""A data set looked at before anything is trained: its faults, its counts, its biases."""

import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from xbl_kit import __version__, plots
from xbl_kit.data import LISTED, DataError, Fault, list_images, open_dataset
from xbl_kit.data.check import check
from xbl_kit.data.dataset import table_of
from xbl_kit.data.describe import bias_table, counts, leaks, picture_columns, shares
from xbl_kit.storage import write_whole

SHOWN = 6  # columns in the figure
CARD = """# Data card: {name}

| | |
|---|---|
| what | (to be filled in: who made these images, of whom, when, with which devices) |
| licence | (to be filled in) |
| label | `{target}`: {classes} |
| images | {images} |
| described | {date}, xbl-kit {version}, Python {python} |

## Counts

{counts}

## What goes with the label

Cramer's V is 0 where a column tells nothing of the label and 1 where either tells the other; "V by
chance" is what 95 of 100 shuffled labels stay below. "share of label" is how much of the label's
entropy the column gives away. Images marked as a counter-group are left out here. Columns in
brackets were read from the files.

{bias}

{figure}

## Leakage

{leaks}
"""


class Survey(NamedTuple):
    """What `describe_data` found: tables, sentences on leakage, and P(level | label) by column."""

    counts: pd.DataFrame
    bias: pd.DataFrame
    leaks: list[str]
    shares: dict[str, pd.DataFrame]


def check_data(kind: str, root: str | Path | None = None, **options) -> list[Fault]:
    """Every fault of a folder of data; `options` are those of `list_images`.

    Raises ValueError for data that are drawn, or settings that are of no use.
    """
    if kind not in LISTED:
        raise ValueError(f"data {kind!r} are made, not found: expected {', '.join(LISTED)}")
    try:
        return check(list_images(kind, root, **options))
    except DataError as error:
        return list(error.faults)


def describe_data(
    kind: str,
    root: str | Path | None = None,
    *,
    target: str = "label",
    out: str | Path | None = None,
    **options,
) -> Survey:
    """Counts, a bias table and leakage of a data set; no picture is decoded, but for those drawn.

    `options` are those of `open_dataset`. `out` gets bias.png and data-card.md. Raises what
    `open_dataset` raises.
    """
    if kind in LISTED:
        manifest = list_images(kind, root, target=target, **options)
        rows = pd.concat([manifest.rows, picture_columns(manifest)], axis="columns")
    else:
        rows = table_of(open_dataset(kind, root, **options))
        if target not in rows:
            raise ValueError(f"data {kind!r} have no column {target!r}, but {', '.join(rows)}")
    bias = bias_table(rows, target)
    found = Survey(
        counts(rows, target),
        bias,
        leaks(rows, target),
        shares(rows, target, list(bias.index[:SHOWN])),
    )
    if out:
        if found.shares:
            figure = plots.share_maps(found.shares)
            write_whole(Path(out) / "bias.png", lambda path: figure.savefig(path, format="png"))
        card = data_card(found, name=Path(root).name if root else kind, target=target)
        write_whole(
            Path(out) / "data-card.md", lambda path: path.write_text(card, encoding="utf-8")
        )
    return found


def data_card(found: Survey, *, name: str, target: str) -> str:
    """The survey as Markdown, with blanks for what only a person knows."""
    return CARD.format(
        name=name,
        target=target,
        classes=", ".join(found.counts.index),
        images=found.counts["images"].sum(),
        date=datetime.now(UTC).date(),
        version=__version__,
        python=platform.python_version(),
        counts=_markdown(found.counts),
        bias=_markdown(found.bias) if len(found.bias) else "No column can be held against it.",
        figure="![Share of every level among the images of each label](bias.png)"
        if found.shares
        else "",
        leaks="\n".join(f"- {sentence}" for sentence in found.leaks),
    )


def _markdown(table: pd.DataFrame) -> str:
    """A table of few rows; pandas' own needs one more package."""
    text = table.map(lambda value: f"{value:.2f}" if isinstance(value, float) else str(value))
    lines = [["", *text.columns], ["---"] * (1 + len(text.columns)), *text.reset_index().to_numpy()]
    cells = [[str(cell).replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
