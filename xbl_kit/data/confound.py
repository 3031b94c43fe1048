"""Which images to draw, train and test on: wanted biases, exact counts, patients kept apart."""

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from xbl_kit.data.dataset import Dataset
from xbl_kit.data.faults import one_of

FOLDS = 10

Rows = Int[Tensor, " _"]
Splits = dict[str, Rows]
Tables = Mapping[str, np.ndarray]  # of each factor, P(level | class)
Levels = Mapping[str, Sequence[str]]
PerCell = Mapping[str, int | np.ndarray]


def biased(preferred: Sequence[int], n_levels: int = 2, strength: float = 1.0) -> np.ndarray:
    """P(level | class), (classes, levels): `strength` on each class's preferred level.

    The rest is shared by the other levels. Strength 1 is full confounding, 1 / n_levels none.

    >>> biased([0, 1], strength=0.75)  # class 0 prefers level 0, class 1 level 1
    array([[0.75, 0.25],
           [0.25, 0.75]])
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength={strength}: expected a probability between 0 and 1")
    table = np.full((len(preferred), n_levels), (1 - strength) / (n_levels - 1))
    table[np.arange(len(preferred)), preferred] = strength
    return table


def balanced(n_classes: int, n_levels: int = 2) -> np.ndarray:
    """P(level | class) with every level equally likely in every class."""
    return np.full((n_classes, n_levels), 1 / n_levels)


def inverted(probability: np.ndarray) -> np.ndarray:
    """P(level | class) with the bias turned round: (1 - p), rows scaled to sum to 1."""
    return (1 - probability) / (probability.shape[1] - 1)


def measured(data: Dataset, rows: Rows, factor: str, *, pseudocount: float = 0.0) -> np.ndarray:
    """P(level | class) as counted in `rows`, (classes, levels), unknown levels left out.

    `pseudocount` images are added to every cell. Raises ValueError for a class without an image.
    """
    counts = _counts(data, rows, (factor,)) + pseudocount
    total = counts.sum(axis=1, keepdims=True)
    if not total.all():
        name = data.classes[int((total == 0).argmax())]
        raise ValueError(f"{name!r} has no image with a known level of {factor!r}")
    return counts / total


def _cells(data: Dataset, rows: Rows, factors: Iterable[str]) -> Int[Tensor, "d _"]:
    """The cell of each row: its class, its level of factor 1, ..., with -1 for one not known."""
    return torch.stack([data.label[rows], *(data.confounders[factor][rows] for factor in factors)])


def _counts(data: Dataset, rows: Rows, factors: Iterable[str]) -> np.ndarray:
    """Rows in every cell, without those of unknown levels."""
    cells = _cells(data, rows, factors)
    counts = np.zeros((len(data.classes), *(len(data.levels[f]) for f in factors)), dtype=int)
    np.add.at(counts, tuple(cells[:, (cells >= 0).all(dim=0)].numpy()), 1)
    return counts


def cell_counts(per_class: int, tables: Tables) -> Int[np.ndarray, "..."]:
    """Images in every cell (class, level of factor 1, level of factor 2, ...), (k, l1, l2, ...).

    The factors, tables (k, l), are independent given the class. Every class gets exactly
    `per_class`; what rounding leaves over goes to the cells with the largest remainder.
    """
    of_classes = zip(*tables.values(), strict=True)
    wanted = per_class * np.array([reduce(np.multiply.outer, each) for each in of_classes])
    counts = np.floor(wanted + 1e-9).astype(int)
    for cells, exact in zip(counts, wanted, strict=True):
        largest = np.argsort((cells - exact).ravel(), kind="stable")
        cells.flat[largest[: per_class - cells.sum()]] += 1
    return counts


def sample_rows(data: Dataset, pool: Rows, per_class: int, bias: Tables, *, seed: int = 0) -> Rows:
    """Rows of `pool`, drawn without repetition, in exactly the wanted cell counts; shuffled.

    Raises ValueError naming the first cell that has too few images.
    """
    generator = torch.Generator().manual_seed(seed)
    cells, drawn = _cells(data, pool, bias), []
    for cell, count in np.ndenumerate(cell_counts(per_class, bias)):
        rows = pool[(cells == torch.tensor(cell)[:, None]).all(dim=0)]
        if len(rows) < count:
            raise ValueError(f"{_name(data, bias, cell)}: {len(rows)} images, {count} are wanted")
        drawn.append(rows[torch.randperm(len(rows), generator=generator)[:count]])
    rows = torch.cat(drawn)
    return rows[torch.randperm(len(rows), generator=generator)]


def most_per_class(data: Dataset, pool: Rows, bias: Tables) -> int:
    """The largest `per_class` that `sample_rows` can draw from `pool`.

    Raises ValueError naming a cell without an image where that is 0.
    """
    have = _counts(data, pool, bias)
    share = cell_counts(10**6, bias) / 10**6
    most = int(((have + 1) / share.clip(1e-9)).min())  # rounding spares a cell one
    for per_class in range(most, 0, -1):
        if (cell_counts(per_class, bias) <= have).all():
            return per_class
    name = _name(data, bias, np.argwhere(cell_counts(1, bias) > have)[0].tolist())
    raise ValueError(f"{name}: no image among {len(pool)}, at least one is wanted")


def _name(data: Dataset, factors: Iterable[str], cell: Sequence[int]) -> str:
    """What a cell is called: class/level of factor 1/..."""
    names = (data.classes, *(data.levels[factor] for factor in factors))
    return "/".join(of_part[i] for of_part, i in zip(names, cell, strict=True))


def lay_out(
    per_cell: PerCell, crossed: Sequence[str], n_classes: int, levels: Levels, *, seed: int = 0
) -> dict[str, np.ndarray]:
    """Columns "label", every factor of `levels`, and "split" of data that are made, not found.

    A row is a patient, a cell a class with a level of every `crossed` factor; `per_cell` is, by
    split, one number for all cells or an array (class, levels, ...). The other factors are drawn
    evenly at random. Raises ValueError for a factor that is not known.
    """
    for factor in crossed:
        one_of("factor", factor, levels)
    shape = (n_classes, *(len(levels[factor]) for factor in crossed))
    cells = np.indices(shape).reshape(len(shape), -1)
    counts = np.array([np.broadcast_to(n, shape).ravel() for n in per_cell.values()], dtype=int)
    table = cells.repeat(counts.sum(axis=0), axis=1)
    generator = np.random.default_rng(seed)
    columns = {f: generator.integers(len(levels[f]), size=table.shape[1]) for f in levels}
    columns |= dict(zip(("label", *crossed), table, strict=True))
    return columns | {"split": np.tile(list(per_cell), cells.shape[1]).repeat(counts.T.ravel())}


def split_patients(data: Dataset, fractions: Mapping[str, float], *, seed: int = 0) -> Splits:
    """Rows by split, no patient in two, each with about the same mix of labels.

    `fractions` are rounded to tenths. Rows marked `counter` are in no split, and neither are
    further images of their patients. Where the data come with a split, that one is taken; where
    that has no "val", it is taken from "train".

    Raises ValueError where a label has fewer patients than there are splits, or where a patient
    stands in two given splits.
    """
    counter = torch.zeros(len(data), dtype=torch.bool) if data.counter is None else data.counter
    rows = (~torch.isin(data.patient, data.patient[counter])).nonzero()[:, 0]
    if data.split is None or not any(data.split):
        return _drawn_splits(data, rows, fractions, seed)
    given = {name: rows[torch.from_numpy(data.split[rows.numpy()] == name)] for name in fractions}
    if "val" in given and not len(given["val"]):
        parts = {name: fractions[name] for name in ("train", "val")}
        share = {name: part / sum(parts.values()) for name, part in parts.items()}
        given |= _drawn_splits(data, given["train"], share, seed)
    return _sound_splits(data, given)


def _drawn_splits(data: Dataset, rows: Rows, fractions: Mapping[str, float], seed: int) -> Splits:
    from sklearn.model_selection import StratifiedGroupKFold  # takes half a second

    for number, name in enumerate(data.classes):
        n = len(data.patient[rows][data.label[rows] == number].unique())
        if n < len(fractions):
            expected = f"at least {len(fractions)}, one for each of {', '.join(fractions)}"
            raise ValueError(f"label {name!r} has {n} patient{'s' * (n != 1)}, expected {expected}")
    folds = np.empty(len(rows), dtype=int)
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    parts = splitter.split(rows, data.label[rows].numpy(), data.patient[rows].numpy())
    for number, (_, held_out) in enumerate(parts):
        folds[held_out] = number
    ends = np.round(np.cumsum(list(fractions.values())) * FOLDS)
    part = np.searchsorted(ends, folds, side="right")
    return {name: rows[torch.from_numpy(part == i)] for i, name in enumerate(fractions)}


def _sound_splits(data: Dataset, splits: Splits) -> Splits:
    """The given splits, but ValueError for a patient in two, or a label that is not in each."""
    for one, other in combinations(splits, 2):
        if len(both := np.intersect1d(data.patient[splits[one]], data.patient[splits[other]])):
            found = f"has images in {one} and in {other} ({len(both)} patients do)"
            raise ValueError(
                f"patient number {both[0]} {found}; expected each patient in one split"
            )
    for name, rows_of in splits.items():
        absent = np.setdiff1d(np.arange(len(data.classes)), data.label[rows_of])
        if len(absent):
            raise ValueError(f"label {data.classes[absent[0]]!r} has no image in split {name!r}")
    return splits
