"""How far each column goes with the label, beside what chance alone would give."""

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
import pandas as pd
import scipy

from xbl_kit.data.manifest import MOST_LEVELS, RESERVED, binned, numbers

PERMUTATIONS = 200
BIAS = ("levels", "unknown", "Cramer's V", "V by chance", "nats", "share of label")


def examined(rows: pd.DataFrame, target: str) -> dict[str, pd.Series]:
    """The columns that can be held against the label, each of the images where both are known.

    "age known" is whether an age is known, where it is for some. Numbers of many values are in
    quarters. Left out are columns of one value, text of more than 10, and images marked `counter`,
    which nothing is trained on.
    """
    found = {}
    for name, column in trained_on(rows, target).items():
        levels, _ = as_levels(column)
        if 1 < levels.nunique() <= MOST_LEVELS:
            found[name] = levels
        if 0 < len(levels) < len(column) and not name.startswith("("):
            found[f"{name} known"] = (column != "").map({True: "yes", False: "no"})
    return found


def trained_on(rows: pd.DataFrame, target: str) -> pd.DataFrame:
    """The columns beside the label, of the rows that are trained on."""
    rows = rows[(rows[target] != "") & (rows.get("counter", "") != "1")]
    return rows[rows.columns.difference([*RESERVED, target], sort=False)]


def as_levels(column: pd.Series) -> tuple[pd.Series, str]:
    """What is known of a column as levels, many numbers in quarters; and what is to be said of it.

    Many are more than 10, or so many that most stand for one image each.
    """
    known = column[column != ""]
    number = numbers(known)
    texts, different, what = known[number.isna()], number.nunique(), ""
    if different > MOST_LEVELS or (different > 4 and 2 * different > len(known)):
        what = f"{len(texts)} of {len(known)} values are no numbers, such as "
        what = what + f"{texts.iloc[0]!r}, and levels of their own" if len(texts) else ""
        known = binned(number, 4).where(number.notna(), known)
    if (n := known.nunique()) < 2:
        return known, f"left out, {'the same in all rows' if n else 'nothing is known'}"
    return known, f"left out, {n} values, 10 at most make groups" if n > MOST_LEVELS else what


def bias_table(rows: pd.DataFrame, target: str, *, seed: int = 0) -> pd.DataFrame:
    """How far each column goes with the label: Cramer's V (0 to 1) and mutual information (nats).

    Both are above 0 by chance alone; "V by chance" is the 95th percentile over `shuffled` labels.
    "share of label" is the mutual information over the label's entropy: 1 gives the label away.
    Columns are those `examined`, the strongest first.
    """
    from sklearn.metrics import mutual_info_score

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
        nats, most = (mutual_info_score(label, column) for column in (level, label))
        found[name] = (n, trained - len(level), v, np.quantile(null, 0.95), nats, nats / most)
    table = pd.DataFrame.from_dict(found, orient="index", columns=BIAS)
    return table.sort_values("Cramer's V", ascending=False)


def _cramers_v(cells: np.ndarray) -> float:
    """Cramer's V of a table of counts; 0 where one class is left by chance."""
    cells = cells[cells.any(axis=1)][:, cells.any(axis=0)]
    return float(scipy.stats.contingency.association(cells)) if min(cells.shape) > 1 else 0.0


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
