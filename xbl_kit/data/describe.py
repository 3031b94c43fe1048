"""What a data set tells of itself: counts, what goes with the label, what leaks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats.contingency import association
from sklearn.metrics import mutual_info_score

from xbl_kit.data.faults import DataError
from xbl_kit.data.manifest import MOST_LEVELS, RESERVED, Manifest
from xbl_kit.data.picture import picture_size

PERMUTATIONS = 200
QUARTERS = ("lowest quarter", "second", "third", "highest quarter")


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
