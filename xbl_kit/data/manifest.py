"""What a source says of its images, before one of them is read."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from xbl_kit.data.faults import DataError, Fault, some, suggest
from xbl_kit.data.picture import read_frames

RESERVED = ("image", "mask", "patient", "split", "counter")
MOST_LEVELS = 10

Reader = Callable[[Path, int], UInt8[np.ndarray, "frames size size"]]


@dataclass(frozen=True, eq=False)
class Manifest:
    """Files and what is known of each; every kind of data on disk is listed before it is read.

    `rows` holds text, "" where a thing is not known: `image` and, where there are any, `mask`
    (paths of files), patient, split, counter; every other column can be the `target` or one of the
    `factors`. `where` names the line each row comes from. Files must lie inside one of the `roots`.
    `read(path, size)` gives a file's `frames` images; it is a `functools.partial` of a function of
    this package, so that its name and options can tell one cache from another. `labels` are those
    the user has named, () where all that are found are taken.
    """

    rows: pd.DataFrame
    where: Sequence[str]
    roots: tuple[Path, ...]
    read: Reader = read_frames
    frames: int = 1
    target: str = "label"
    factors: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def other(self, row: int, beside: int) -> str:
        """Where a row comes from, without the file where that is the file of `beside` as well."""
        file, _, line = self.where[row].rpartition(", line ")
        same = file and self.where[beside].startswith(f"{file}, line ")
        return f"line {line}" if same else self.where[row]

    def keep(self, kept: np.ndarray) -> "Manifest":
        """The manifest of the rows that are marked in `kept` (n,), bool."""
        where = tuple(w for w, wanted in zip(self.where, kept, strict=True) if wanted)
        return dataclasses.replace(self, rows=self.rows[kept].reset_index(drop=True), where=where)


def select(
    manifest: Manifest,
    *,
    target: str = "label",
    labels: Sequence[str] = (),
    confounders: Sequence[str] | None = None,
) -> Manifest:
    """The rows whose `target` is one of `labels` (all by default), with these `confounders`.

    Without `confounders` they are those the kind of data names itself or, where it names none, all
    other columns with 2 to 10 values.
    Raises DataError for a column or a value that is not there.
    """
    rows, source = manifest.rows, str(manifest.roots[0])
    if not len(rows):
        raise DataError(Fault(source, "no images"))
    if target in (confounders or ()):
        raise DataError(Fault(source, f"column {target!r} is the label, not a confounder"))
    for column in (target, *(confounders or ())):
        if column not in rows or column in RESERVED:
            free = [c for c in rows if c not in RESERVED]
            what = f"no column {column!r}, expected one of {some(free)}{suggest(column, free)}"
            raise DataError(Fault(source, what))
    for name in labels:
        if name not in set(rows[target]):
            found = sorted(set(rows[target]))
            what = f"no {target} {name!r}, found {some(found)}{suggest(name, found)}"
            raise DataError(Fault(source, what))
    if labels:
        manifest = manifest.keep(rows[target].isin(labels).to_numpy())
    free = [c for c in manifest.factors or manifest.rows if c not in (*RESERVED, target)]
    columns = free if confounders is None else confounders
    levels = {column: set(manifest.rows[column]) - {""} for column in columns}
    for column, names in levels.items():
        if confounders is not None and len(names) < 2:
            what = f"confounder {column!r} has {len(names)} value, expected 2 or more"
            raise DataError(Fault(source, what))
    most = MOST_LEVELS if confounders is None else len(manifest)
    factors = tuple(c for c, names in levels.items() if 2 <= len(names) <= most)
    return dataclasses.replace(manifest, target=target, factors=factors, labels=tuple(labels))
