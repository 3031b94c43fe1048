"""A data set with several biased factors at once, and the rows of each of its splits."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from xbl_kit.data import Dataset, confound, open_dataset
from xbl_kit.run.folder import Rows

Tables = Mapping[str, np.ndarray]  # P(level | class) of each factor, (classes, levels)

FRACTIONS = {"train": 0.6, "val": 0.1, "test": 0.3}


def make_confounded(
    kind: str,
    root: str | Path | None,
    *,
    preferred: Mapping[str, Sequence[int]],
    per_class: Mapping[str, int],
    strength: float,
    size: int,
    seed: int = 0,
    **drawing,
) -> tuple[Dataset, Rows]:
    """Data that are drawn to measure: each class shows its `preferred` levels at `strength`.

    No more is drawn than is used. The splits are those of `splits_of`, exactly `per_class` each;
    `drawing` goes to `open_dataset`.
    """
    bias = {f: confound.biased(levels, strength=strength) for f, levels in preferred.items()}
    wanted = splits_of(bias)
    per_cell: dict[str, np.ndarray] = {}
    for split, tables in wanted.values():
        counts = confound.cell_counts(per_class[split], tables)
        per_cell[split] = np.maximum(per_cell.get(split, 0), counts)
    crossed = {"per_cell": per_cell, "crossed": tuple(preferred)}
    data = open_dataset(kind, root, **crossed, size=size, seed=seed, **drawing)
    pool = confound.split_patients(data, dict.fromkeys(per_cell, 1 / 3))
    return data, {
        name: confound.sample_rows(data, pool[split], per_class[split], tables, seed=seed)
        for name, (split, tables) in wanted.items()
    }


def find_confounded(
    data: Dataset, factors: Sequence[str], *, strength: float | None, seed: int = 0
) -> Rows:
    """Rows of data that are as they are: biased at `strength`, or by nature with None.

    A class's preferred level of a factor is the one it has more often than the classes have on
    average. Images with an unknown level of one of the `factors` are left out, and no patient is
    in two splits. Each split is as large as its pool allows, but for the oracle's, which is not
    larger than what the others train on.

    Raises ValueError where a pool has no image of a cell that is needed.
    """
    known = np.logical_and.reduce([data.confounders[f].numpy() >= 0 for f in factors])
    pool = {
        name: rows[known[rows.numpy()]]
        for name, rows in confound.split_patients(data, FRACTIONS, seed=seed).items()
    }
    nature = {f: confound.measured(data, pool["train"], f) for f in factors}
    bias = nature
    if strength is not None:
        bias = {
            f: confound.biased(_leaning(table), table.shape[1], strength)
            for f, table in nature.items()
        }
    rows: Rows = {}
    for name, (split, tables) in splits_of(bias).items():
        if strength is None and tables is bias:
            rows[name] = pool[split]
            continue
        most = confound.most_per_class(data, pool[split], tables)
        if name.startswith("oracle"):
            most = min(most, len(rows[split]) // len(data.classes))
        rows[name] = confound.sample_rows(data, pool[split], most, tables, seed=seed)
    return rows


def splits_of(bias: Tables) -> dict[str, tuple[str, Tables]]:
    """The splits of the experiment: from which pool, and with which P(level | class).

    "inverted" has the bias turned round; the oracle trains on "oracle_train".
    """
    even = {f: confound.balanced(*table.shape) for f, table in bias.items()}
    return {
        "train": ("train", bias),
        "val": ("val", bias),
        "oracle_train": ("train", even),
        "oracle_val": ("val", even),
        "iid": ("test", bias),
        "balanced": ("test", even),
        "inverted": ("test", {f: confound.inverted(table) for f, table in bias.items()}),
    }


def _leaning(table: np.ndarray) -> list[int]:
    """Each class's preferred level; taken in turn where all classes have all levels as often."""
    excess = table - table.mean(axis=0)
    if np.allclose(excess, 0):
        return [number % table.shape[1] for number in range(len(table))]
    return excess.argmax(axis=1).tolist()
