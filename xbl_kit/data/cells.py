"""How many patients of each kind a data set that is made, not found, shall have."""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np


def lay_out(
    per_cell: Mapping[str, int | np.ndarray],
    crossed: Sequence[str],
    n_classes: int,
    levels: Mapping[str, Sequence[str]],
    *,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Columns "label", every factor of `levels`, and "split", with a row a patient.

    A cell is a class with a level of every `crossed` factor; `per_cell` is, by split, one number
    for all cells or an array (class, levels, ...). The other factors are drawn evenly at random.
    Raises ValueError for a factor that is not known.
    """
    for factor in crossed:
        if factor not in levels:
            raise ValueError(f"factor {factor!r}: expected one of {', '.join(levels)}")
    shape = (n_classes, *(len(levels[factor]) for factor in crossed))
    cells = np.array(list(product(*map(range, shape))), dtype=np.int64)
    counts = np.array(
        [np.broadcast_to(n, shape).ravel() for n in per_cell.values()], dtype=np.int64
    )
    table = cells.repeat(counts.sum(axis=0), axis=0)
    generator = np.random.default_rng(seed)
    columns = {f: generator.integers(len(levels[f]), size=len(table)) for f in levels}
    columns |= dict(zip(("label", *crossed), table.T.copy(), strict=True))
    return columns | {"split": np.tile(list(per_cell), len(cells)).repeat(counts.T.ravel())}
