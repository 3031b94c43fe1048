"""What a data set tells of itself before training: counts, biases beside chance, what leaks."""

import html
import re
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from platform import python_version
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats.contingency import association
from sklearn.metrics import mutual_info_score

from xbl_kit import __version__, plots
from xbl_kit.data.dataset import table_of
from xbl_kit.data.faults import DataError
from xbl_kit.data.manifest import MOST_LEVELS, RESERVED, Manifest
from xbl_kit.data.open import LISTED, Root, list_images, open_dataset
from xbl_kit.data.picture import picture_size
from xbl_kit.storage import write_beside

PERMUTATIONS = 200
QUARTERS = ("lowest quarter", "second", "third", "highest quarter")
BIAS = ("levels", "unknown", "Cramer's V", "V by chance", "nats", "share of label")
SHOWN = 6  # columns in the figure
CARD = """# Data card: {name}

| | |
|---|---|
| what | (to be filled in: who made these images, of whom, when, with which devices) |
| licence | (to be filled in) |
| label | `{target}`: {classes} |
| images | {images} |
| described | {described} |

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


def describe_data(
    kind: str, root: Root = None, *, target: str = "label", out: str | Path | None = None, **options
) -> Survey:
    """Counts, a bias table and leakage of a data set; no picture is decoded, but for those drawn.

    `options` are those of `list_images`, or of data that are made. `out` gets bias.png and
    data-card.md, beside those that are there and say something else. Raises what `open_dataset`
    raises.
    """
    if kind in LISTED:
        manifest = list_images(kind, root, target=target, **options)
        name, rows = manifest.roots[0].name, with_pictures(manifest)
    else:
        name, rows = kind, table_of(open_dataset(kind, root, **options))
        if target not in rows:
            raise ValueError(f"data {kind!r} have no column {target!r}, but {', '.join(rows)}")
    bias = bias_table(rows, target)
    drawn = shares(rows, target, bias.index[:SHOWN])
    found = Survey(counts(rows, target), bias, leaks(rows, target), drawn)
    if out:
        path = Path(out) / "bias.png"
        figure = write_beside(path, plots.png(plots.share_maps(drawn))).name if drawn else ""
        card = data_card(found, name=name, target=target, figure=figure)
        write_beside(Path(out) / "data-card.md", card.encode())
    return found


def data_card(found: Survey, *, name: str, target: str, figure: str = "") -> str:
    """The survey as Markdown, with blanks for what only a person knows."""
    figure = figure and f"![Share of every level among the images of each label]({figure})"
    return CARD.format(
        name=escaped(name),
        target=escaped(target),
        classes=escaped(", ".join(found.counts.index)),
        images=found.counts["images"].sum(),
        described=f"by xbl-kit {__version__}, Python {python_version()}",
        counts=markdown(found.counts),
        bias=markdown(found.bias) if len(found.bias) else "No column can be held against it.",
        figure=figure,
        leaks="\n".join(f"- {escaped(sentence)}" for sentence in found.leaks),
    )


def markdown(table: pd.DataFrame) -> str:
    """A table of few rows, its cells as text; pandas' own needs one more package."""
    text = table.map(lambda value: f"{value:.2f}" if isinstance(value, float) else str(value))
    lines = [["", *text.columns], ["---"] * (1 + len(text.columns)), *text.reset_index().to_numpy()]
    cells = [[escaped(str(cell)) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def escaped(text: str) -> str:
    """A text that Markdown, and the HTML made from it, shows as it is, in one line."""
    marks = r"[\\`*\[\]<>|$~]|(?<!\w)_|_(?!\w)"
    return re.sub(marks, r"\\\g<0>", html.escape(" ".join(text.split()), quote=False))


def with_pictures(manifest: Manifest) -> pd.DataFrame:
    """The rows, with kind of file and size in pixels of each image: these can tell the label."""

    def pixels(path: Path) -> str:
        try:
            return "{} x {}".format(*picture_size(path))
        except (OSError, DataError):
            return ""

    rows = manifest.rows.reset_index(drop=True)
    paths = rows["image"].map(Path)
    kinds = paths.map(lambda path: path.suffix.lower())
    return rows.assign(**{"(file type)": kinds, "(pixels)": paths.map(pixels)})


def counts(rows: pd.DataFrame, target: str) -> pd.DataFrame:
    """Images and patients of each label, and images of each split where these are given."""
    groups = rows.groupby(target)
    found = pd.DataFrame({"images": groups.size()})
    if "patient" in rows:
        found["patients"] = groups["patient"].nunique()
    for part in rows.columns.intersection(["split", "counter"]):
        found = found.join(pd.crosstab(rows[target], rows[part]).add_prefix(f"{part} "))
    return found


def examined(rows: pd.DataFrame, target: str) -> dict[str, pd.Series]:
    """The columns that can be held against the label, each of the images where both are known.

    Numbers of many values are in quarters. Left out are columns of one value, text of more than
    10, and images marked `counter`, which nothing is trained on.
    """
    rows = rows[(rows[target] != "") & (rows.get("counter", "") != "1")]
    found = {}
    for name in rows.columns.difference([*RESERVED, target], sort=False):
        column = rows[name][rows[name] != ""]
        number = pd.to_numeric(column, errors="coerce")
        if column.nunique() > MOST_LEVELS and number.notna().all():
            column = pd.qcut(number.rank(method="first"), 4, labels=QUARTERS).astype(str)
        if 1 < column.nunique() <= MOST_LEVELS:
            found[name] = column
    return found


def bias_table(rows: pd.DataFrame, target: str, *, seed: int = 0) -> pd.DataFrame:
    """How far each column goes with the label: Cramer's V (0 to 1) and mutual information (nats).

    Both are above 0 by chance alone; "V by chance" is the 95th percentile over permuted labels.
    "share of label" is the mutual information over the label's entropy: 1 gives the label away.
    Columns are those `examined`, the strongest first.
    """
    generator = np.random.default_rng(seed)
    trained = (rows.get("counter", pd.Series("", rows.index)) != "1").sum()
    found = {}
    for name, column in examined(rows, target).items():
        label, level = (pd.factorize(c)[0] for c in (rows[target][column.index], column))
        if not label.any():
            continue
        k, n = label.max() + 1, level.max() + 1
        labels = chain([label], (generator.permutation(label) for _ in range(PERMUTATIONS)))
        cells = (np.bincount(n * each + level, minlength=k * n).reshape(k, n) for each in labels)
        v, *null = map(association, cells)
        nats = mutual_info_score(label, level)
        share = nats / mutual_info_score(label, label)
        found[name] = (n, trained - len(level), v, np.quantile(null, 0.95), nats, share)
    table = pd.DataFrame.from_dict(found, orient="index", columns=BIAS)
    return table.sort_values("Cramer's V", ascending=False)


def shares(rows: pd.DataFrame, target: str, columns: Iterable[str]) -> dict[str, pd.DataFrame]:
    """P(level | label) of each column, a row a label; see `examined`."""
    found = examined(rows, target)
    return {name: pd.crosstab(rows[target], found[name], normalize="index") for name in columns}


def leaks(rows: pd.DataFrame, target: str) -> list[str]:
    """What could let a model be tested on what it has seen, a sentence each."""
    if "patient" not in rows:
        return ["No patients are named: each image counts as its own, and splits may share some."]
    patients = rows.groupby("patient")
    found = [
        f"{len(patients)} patients have {len(rows)} images, {patients.size().max()} at most.",
        f"{(patients[target].nunique() > 1).sum()} patients have images of several labels.",
    ]
    if "split" in rows:
        across = (rows[rows["split"] != ""].groupby("patient")["split"].nunique() > 1).sum()
        found.append(f"{across} patients have images in several splits.")
    return found
