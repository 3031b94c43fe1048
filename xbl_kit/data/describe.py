"""What a data set tells of itself before training: counts, biases beside chance, what leaks."""

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats.contingency import association
from sklearn.metrics import mutual_info_score

from xbl_kit import __version__, plots
from xbl_kit.data.dataset import table_of
from xbl_kit.data.faults import DataError
from xbl_kit.data.manifest import MOST_LEVELS, RESERVED, Manifest
from xbl_kit.data.open import LISTED, list_images, open_dataset
from xbl_kit.data.picture import picture_size
from xbl_kit.storage import write_whole

PERMUTATIONS = 200
QUARTERS = ("lowest quarter", "second", "third", "highest quarter")
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


def picture_columns(manifest: Manifest) -> pd.DataFrame:
    """Kind of file and size in pixels of every image: they can tell the label, too."""
    paths = [Path(path) for path in manifest.rows["image"]]

    def pixels(path: Path) -> str:
        try:
            return "{} x {}".format(*picture_size(path))
        except (OSError, DataError):
            return ""

    return pd.DataFrame(
        {
            "(file type)": [path.suffix.lower() for path in paths],
            "(pixels)": [pixels(path) for path in paths],
        }
    )


def examined(rows: pd.DataFrame, target: str) -> dict[str, pd.Series]:
    """The columns that can be held against the label; numbers of many values in quarters.

    Left out are columns of one value, and text of more than 10.
    """
    found = {}
    for name in rows.columns.difference([*RESERVED, target], sort=False):
        column, levels = rows[name], set(rows[name]) - {""}
        if len(levels) > MOST_LEVELS:
            number = pd.to_numeric(column, errors="coerce")
            if number.isna().sum() > (column == "").sum():
                continue
            ranks = number.rank(method="first", na_option="keep")
            column = pd.qcut(ranks, 4, labels=QUARTERS).astype(object).fillna("")
        if len(levels) > 1:
            found[name] = column
    return found


def counts(rows: pd.DataFrame, target: str) -> pd.DataFrame:
    """Images and patients of each label, and images of each split where these are given."""
    groups = rows.groupby(target)
    found = pd.DataFrame({"images": groups.size()})
    if "patient" in rows:
        found["patients"] = groups["patient"].nunique()
    for part in ("split", "counter"):
        if part in rows:
            found = found.join(pd.crosstab(rows[target], rows[part]).add_prefix(f"{part} "))
    return found


def bias_table(rows: pd.DataFrame, target: str, *, seed: int = 0) -> pd.DataFrame:
    """How far each column goes with the label: Cramer's V (0 to 1) and mutual information (nats).

    Both are above 0 by chance alone; "V by chance" is the 95th percentile over permuted labels.
    "share of label" is the mutual information over the label's entropy: 1 gives the label away.
    Unknown cells are left out, and so are images marked `counter`, which nothing is trained on.
    Sorted, the strongest first.
    """
    generator = np.random.default_rng(seed)
    rows = without_counter(rows)
    found = {}
    for name, column in examined(rows, target).items():
        known = ((column != "") & (rows[target] != "")).to_numpy()
        label, level = (pd.factorize(c[known])[0] for c in (rows[target], column))
        table = _contingency(label, level)
        if min(table.shape) < 2:
            continue
        null = [
            association(_contingency(generator.permutation(label), level))
            for _ in range(PERMUTATIONS)
        ]
        nats = mutual_info_score(None, None, contingency=table)
        found[name] = {
            "levels": table.shape[1],
            "unknown": int((~known).sum()),
            "Cramer's V": association(table),
            "V by chance": np.quantile(null, 0.95),
            "nats": nats,
            "share of label": nats / mutual_info_score(label, label),
        }
    columns = ["levels", "unknown", "Cramer's V", "V by chance", "nats", "share of label"]
    table = pd.DataFrame.from_dict(found, orient="index", columns=columns)
    return table.sort_values("Cramer's V", ascending=False)


def without_counter(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that are not marked as a counter-group."""
    return rows[rows["counter"] != "1"] if "counter" in rows else rows


def _contingency(label: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Counts (classes, levels) of two numbered columns."""
    shape = label.max(initial=-1) + 1, level.max(initial=-1) + 1
    return np.bincount(label * shape[1] + level, minlength=np.prod(shape)).reshape(shape)


def shares(rows: pd.DataFrame, target: str, columns: Sequence[str]) -> dict[str, pd.DataFrame]:
    """P(level | label) of each column, a row a label, without images marked `counter`."""
    rows = without_counter(rows)
    found = examined(rows, target)
    return {
        name: pd.crosstab(rows[target], found[name][found[name] != ""], normalize="index")
        for name in columns
    }


def leaks(rows: pd.DataFrame, target: str) -> list[str]:
    """What could let a model be tested on what it has seen, a sentence each."""
    if "patient" not in rows:
        return ["No patients are named: each image counts as its own, and splits may share some."]
    per_patient = rows.groupby("patient").size()
    several = rows.groupby("patient")[target].nunique() > 1
    found = [
        f"{len(per_patient)} patients have {len(rows)} images, {per_patient.max()} at most.",
        f"{several.sum()} patients have images of several labels.",
    ]
    if "split" in rows:
        across = (rows[rows["split"] != ""].groupby("patient")["split"].nunique() > 1).sum()
        found.append(f"{across} patients have images in several splits.")
    return found
