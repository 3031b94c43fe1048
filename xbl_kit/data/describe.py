"""What a data set tells of itself before training: counts, biases beside chance, what leaks."""

import html
import json
import re
from pathlib import Path
from platform import python_version
from typing import NamedTuple

import pandas as pd

from xbl_kit import __version__, plots
from xbl_kit.data.bias import as_levels, bias_table, shares, trained_on
from xbl_kit.data.check import file_faults, row_faults
from xbl_kit.data.dataset import table_of
from xbl_kit.data.open import LISTED, Root, list_images, open_dataset
from xbl_kit.data.properties import SIDE, with_properties
from xbl_kit.storage import write_beside

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
entropy the column gives away. Images marked as a counter-group are left out here, and patients
are shuffled whole. Columns in brackets were read from the files; "age known" is whether an age is.

{bias}

{figure}

{notes}

## Pictures

Medians by label, of pictures made {side} px square: what differs here can tell a model the label.

{pictures}

## Leakage

{leaks}
"""


class Survey(NamedTuple):
    """What `describe_data` found: tables, sentences on leakage and on columns, and P(level | label)
    by column."""

    counts: pd.DataFrame
    bias: pd.DataFrame
    pictures: pd.DataFrame
    leaks: list[str]
    notes: list[str]
    shares: dict[str, pd.DataFrame]

    @property
    def record(self) -> dict:
        """All but the shares as JSON has them."""
        found, tables = self._asdict(), ("counts", "bias", "pictures")
        told = {name: found[name] for name in ("leaks", "notes")}
        return {name: json.loads(found[name].to_json(orient="index")) for name in tables} | told


def describe_data(
    kind: str, root: Root = None, *, target: str = "label", out: str | Path | None = None, **options
) -> Survey:
    """Counts, a bias table, leakage and what pictures and files tell of a data set.

    `options` are those of `list_images`, or of data that are made. `out` gets bias.png and
    data-card.md, beside those that are there and say something else. Raises what `open_dataset`
    raises.
    """
    faults = []
    if kind in LISTED:
        manifest = list_images(kind, root, target=target, **options)
        name, rows = manifest.roots[0].name, with_properties(manifest)
        faults = row_faults(manifest) + file_faults(manifest)
    else:
        name, rows = kind, table_of(open_dataset(kind, root, **options))
        if target not in rows:
            raise ValueError(f"data {kind!r} have no column {target!r}, but {', '.join(rows)}")
    bias = bias_table(rows, target)
    drawn = shares(rows, target, bias.index[:SHOWN])
    said = notes(rows, target, bias)
    if faults:
        said.append(f"{len(faults)} faults, see `data check`; the first: {faults[0]}")
    tables = counts(rows, target), bias, medians(rows, target)
    found = Survey(*tables, leaks(rows, target), said, drawn)
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
        notes="\n".join(f"- {escaped(sentence)}" for sentence in found.notes),
        side=SIDE,
        pictures=markdown(found.pictures) if len(found.pictures.columns) else "Not measured.",
        leaks="\n".join(f"- {escaped(sentence)}" for sentence in found.leaks),
    )


def markdown(table: pd.DataFrame) -> str:
    """A table of few rows, its cells as text; pandas' own needs one more package."""
    text = table.rename_axis(None).map(lambda v: f"{v:.2f}" if isinstance(v, float) else str(v))
    lines = [["", *text.columns], ["---"] * (1 + len(text.columns)), *text.reset_index().to_numpy()]
    cells = [[escaped(str(cell)) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def escaped(text: str) -> str:
    """A text that Markdown, and the HTML made from it, shows as it is, in one line."""
    marks = r"[\\`*\[\]<>|$~]|(?<!\w)_|_(?!\w)"
    return re.sub(marks, r"\\\g<0>", html.escape(" ".join(text.split()), quote=False))


def counts(rows: pd.DataFrame, target: str) -> pd.DataFrame:
    """Images and patients of each label, and images of each split where these are given."""
    groups = rows.groupby(target)
    found = pd.DataFrame({"images": groups.size()})
    if "patient" in rows:
        found["patients"] = groups["patient"].nunique()
    for part in rows.columns.intersection(["split", "counter"]):
        found = found.join(pd.crosstab(rows[target], rows[part]).add_prefix(f"{part} "))
    return found


def notes(rows: pd.DataFrame, target: str, bias: pd.DataFrame) -> list[str]:
    """Which columns are not as they seem or are left out, and what of the pictures tells the label
    by the `bias_table`, a sentence each."""
    said = {name: as_levels(column)[1] for name, column in trained_on(rows, target).items()}
    found = [f"{name}: {what}" for name, what in said.items() if what and not name.startswith("(")]
    beyond = bias.index[bias["Cramer's V"] > bias["V by chance"]]
    if whole := beyond[bias.loc[beyond, "share of label"] > 0.999].tolist():  # but for rounding
        found.append(f"these alone give the label away: {', '.join(whole)}")
    for part, what in (("(", "the pictures' "), ("", "whether it is known: ")):
        those = [n for n in beyond if (n[0] == part if part else n.endswith(" known"))]
        if those:
            found.append(f"beyond chance the label goes with {what}{', '.join(those)}")
    return found


def medians(rows: pd.DataFrame, target: str) -> pd.DataFrame:
    """The median of what is measured of the pictures, by label; no columns for data in memory."""
    measured = [n for n in rows if n[0] == "(" and pd.to_numeric(rows[n], errors="coerce").any()]
    numbers = rows[measured].apply(pd.to_numeric, errors="coerce")
    return numbers.groupby(rows[target]).median().rename(columns=lambda name: name.strip("()"))


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
