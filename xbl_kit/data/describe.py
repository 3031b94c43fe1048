"""What a data set tells of itself before training: counts, biases beside chance, what leaks."""

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from platform import python_version
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats.contingency import association
from sklearn.metrics import mutual_info_score

from xbl_kit import __version__, plots
from xbl_kit.data.check import row_faults
from xbl_kit.data.dataset import table_of
from xbl_kit.data.manifest import MOST_LEVELS, RESERVED, binned
from xbl_kit.data.open import LISTED, Root, list_images, open_dataset
from xbl_kit.data.properties import SIDE, with_properties
from xbl_kit.storage import write_beside

PERMUTATIONS = 200
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
        name, rows, faults = manifest.roots[0].name, with_properties(manifest), row_faults(manifest)
    else:
        name, rows = kind, table_of(open_dataset(kind, root, **options))
        if target not in rows:
            raise ValueError(f"data {kind!r} have no column {target!r}, but {', '.join(rows)}")
    bias = bias_table(rows, target)
    drawn = shares(rows, target, bias.index[:SHOWN])
    said = notes(rows, target, bias)
    if faults:
        said.append(f"{len(faults)} faults in the table, see `data check`; the first: {faults[0]}")
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
        name=name,
        target=target,
        classes=", ".join(found.counts.index),
        images=found.counts["images"].sum(),
        described=f"by xbl-kit {__version__}, Python {python_version()}",
        counts=markdown(found.counts),
        bias=markdown(found.bias) if len(found.bias) else "No column can be held against it.",
        figure=figure,
        notes="\n".join(f"- {sentence}" for sentence in found.notes),
        side=SIDE,
        pictures=markdown(found.pictures) if len(found.pictures.columns) else "Not measured.",
        leaks="\n".join(f"- {sentence}" for sentence in found.leaks),
    )


def markdown(table: pd.DataFrame) -> str:
    """A table of few rows; pandas' own needs one more package."""
    text = table.map(lambda value: f"{value:.2f}" if isinstance(value, float) else str(value))
    lines = [["", *text.columns], ["---"] * (1 + len(text.columns)), *text.reset_index().to_numpy()]
    cells = [[str(cell).replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


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

    "age known" is whether an age is known, where it is for some. Numbers of many values are in
    quarters. Left out are columns of one value, text of more than 10, and images marked `counter`,
    which nothing is trained on.
    """
    found = {}
    for name, column in _free(rows, target).items():
        levels, _ = _levels(column)
        if 1 < levels.nunique() <= MOST_LEVELS:
            found[name] = levels
        if 0 < len(levels) < len(column) and not name.startswith("("):
            found[f"{name} known"] = (column != "").map({True: "yes", False: "no"})
    return found


def notes(rows: pd.DataFrame, target: str, bias: pd.DataFrame) -> list[str]:
    """Which columns are not as they seem or are left out, and what of the pictures tells the label
    by the `bias_table`, a sentence each."""
    said = {name: _levels(column)[1] for name, column in _free(rows, target).items()}
    found = [f"{name}: {what}" for name, what in said.items() if what and not name.startswith("(")]
    beyond = bias.index[bias["Cramer's V"] > bias["V by chance"]]
    for part, what in (("(", "the pictures' "), ("", "whether it is known: ")):
        those = [n for n in beyond if (n[0] == part if part else n.endswith(" known"))]
        if those:
            found.append(f"beyond chance the label goes with {what}{', '.join(those)}")
    return found


def _free(rows: pd.DataFrame, target: str) -> pd.DataFrame:
    """The columns beside the label, of the rows that are trained on."""
    rows = rows[(rows[target] != "") & (rows.get("counter", "") != "1")]
    return rows[rows.columns.difference([*RESERVED, target], sort=False)]


def _levels(column: pd.Series) -> tuple[pd.Series, str]:
    """What is known of a column as levels, many numbers in quarters; and what is to be said of it.

    Many are more than 10, or so many that most stand for one image each.
    """
    known = column[column != ""]
    number = pd.to_numeric(known, errors="coerce")
    texts, different, what = known[number.isna()], number.nunique(), ""
    if different > MOST_LEVELS or (different > 4 and 2 * different > len(known)):
        what = f"{len(texts)} of {len(known)} values are no numbers, such as "
        what = what + f"{texts.iloc[0]!r}, and levels of their own" if len(texts) else ""
        known = binned(number, 4).where(number.notna(), known)
    if (n := known.nunique()) < 2:
        return known, f"left out, {'the same in all rows' if n else 'nothing is known'}"
    return known, f"left out, {n} values, 10 at most make groups" if n > MOST_LEVELS else what


def medians(rows: pd.DataFrame, target: str) -> pd.DataFrame:
    """The median of what is measured of the pictures, by label; no columns for data in memory."""
    measured = [n for n in rows if n[0] == "(" and pd.to_numeric(rows[n], errors="coerce").any()]
    numbers = rows[measured].apply(pd.to_numeric, errors="coerce")
    return numbers.groupby(rows[target]).median().rename(columns=lambda name: name.strip("()"))


def bias_table(rows: pd.DataFrame, target: str, *, seed: int = 0) -> pd.DataFrame:
    """How far each column goes with the label: Cramer's V (0 to 1) and mutual information (nats).

    Both are above 0 by chance alone; "V by chance" is the 95th percentile over `shuffled` labels.
    "share of label" is the mutual information over the label's entropy: 1 gives the label away.
    Columns are those `examined`, the strongest first.
    """
    generator = np.random.default_rng(seed)
    trained = (rows.get("counter", pd.Series("", rows.index)) != "1").sum()
    patients, found = rows.get("patient", pd.Series(rows.index, rows.index)), {}
    for name, column in examined(rows, target).items():
        label, level = (pd.factorize(c)[0] for c in (rows[target][column.index], column))
        if not label.any():
            continue
        k, n = label.max() + 1, level.max() + 1
        labels = chain([label], shuffled(label, patients[column.index], generator))
        cells = (np.bincount(n * each + level, minlength=k * n).reshape(k, n) for each in labels)
        v, *null = (_cramers_v(each) for each in cells)
        nats = mutual_info_score(label, level)
        share = nats / mutual_info_score(label, label)
        found[name] = (n, trained - len(level), v, np.quantile(null, 0.95), nats, share)
    table = pd.DataFrame.from_dict(found, orient="index", columns=BIAS)
    return table.sort_values("Cramer's V", ascending=False)


def _cramers_v(cells: np.ndarray) -> float:
    """Cramer's V of a table of counts; 0 where one class is left by chance."""
    cells = cells[cells.any(axis=1)][:, cells.any(axis=0)]
    return float(association(cells)) if min(cells.shape) > 1 else 0.0


def shuffled(
    label: np.ndarray, patients: pd.Series, generator: np.random.Generator
) -> Iterator[np.ndarray]:
    """Labels by chance, `PERMUTATIONS` times: a patient gets all those of another, in turn."""
    of_row = pd.factorize(patients)[0]
    order, sizes = np.argsort(of_row, kind="stable"), np.bincount(of_row)
    start = sizes.cumsum() - sizes
    place = np.empty_like(order)
    place[order] = np.arange(len(order)) - start.repeat(sizes)  # a row's among its patient's
    for _ in range(PERMUTATIONS):
        other = generator.permutation(len(sizes))[of_row]
        yield label[order[start[other] + place % sizes[other]]]


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
