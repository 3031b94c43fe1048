"""What a source says of its images, before one of them is read."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, UInt8

from xbl_kit.data.faults import DataError, Fault, some, suggest
from xbl_kit.data.picture import read_frames

RESERVED = ("image", "mask", "patient", "split", "counter")
MOST_LEVELS = 10
OLDEST = 120  # years

Reader = Callable[[Path, int], UInt8[np.ndarray, "frames size size"]]


@dataclass(frozen=True, eq=False)
class Manifest:
    """Files and what is known of each; every kind of data on disk is listed before it is read.

    `rows` holds text, "" where a thing is not known: `image` and, where there are any, `mask`
    (paths of files), patient, split, counter; every other column can be the `target` or one of the
    `factors`. `where` names the line each row comes from. Files must lie inside one of the `roots`.
    `read(path, size)` gives a file's `frames` images; it is a `functools.partial` of a function of
    this package, so that its name and options can tell one cache from another. `labels` are those
    the user has named, () where all that are found are taken. Masks are of one `region`.
    """

    rows: pd.DataFrame
    where: Sequence[str]
    roots: tuple[Path, ...]
    read: Reader = read_frames
    frames: int = 1
    target: str = "label"
    factors: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    region: str = "lungs"

    def __len__(self) -> int:
        return len(self.rows)

    def files(self) -> dict[str, list[str]]:
        """The paths of the images and, where there are any, of the masks."""
        return {name: self.rows[name].tolist() for name in ("image", "mask") if name in self.rows}

    def fault(self, what: str, row: int | None = None) -> Fault:
        """A fault of one row, named by its line, or of the source as a whole."""
        return Fault(str(self.roots[0]) if row is None else self.where[row], what, row)

    def other(self, row: int, beside: int) -> str:
        """Where a row comes from, without the file where that is the file of `beside` as well."""
        file, _, line = self.where[row].rpartition(", line ")
        same = file and self.where[beside].startswith(f"{file}, line ")
        return f"line {line}" if same else self.where[row]

    def keep(self, kept: Bool[np.ndarray, " n"]) -> "Manifest":
        """The manifest of the rows that are marked in `kept`."""
        where = tuple(w for w, wanted in zip(self.where, kept, strict=True) if wanted)
        return dataclasses.replace(self, rows=self.rows[kept].reset_index(drop=True), where=where)

    def without(self, faults: Iterable[Fault]) -> "Manifest":
        """The rows that none of the `faults` is of.

        Raises DataError where a fault is not that of a single row, or where no row is left.
        """
        kept = np.ones(len(self), dtype=bool)
        for fault in faults:
            if fault.row is None:
                raise DataError(fault)
            kept[fault.row] = False
        if not kept.any():
            raise DataError(*faults)
        return self.keep(kept)


def select(
    manifest: Manifest,
    *,
    target: str = "label",
    labels: Sequence[str] = (),
    confounders: Sequence[str] | None = None,
    mask_region: str | None = None,
) -> Manifest:
    """The rows whose `target` is one of `labels` (all by default), with these `confounders`.

    Without `confounders` they are those the kind of data names itself or, where it names none, all
    other columns with 2 to 10 values. `mask_region` is what the masks are of, by default what the
    kind of data says.
    Raises DataError for a column or a value that is not there.
    """
    if what := _not_there(manifest, (target, *(confounders or ())), labels, mask_region):
        raise DataError(manifest.fault(what))
    if labels:
        manifest = manifest.keep(manifest.rows[target].isin(labels).to_numpy())
        manifest = dataclasses.replace(manifest, labels=tuple(labels))
    if mask_region:
        manifest = dataclasses.replace(manifest, region=mask_region)
    free = [c for c in manifest.factors or manifest.rows if c not in (*RESERVED, target)]
    columns = free if confounders is None else confounders
    levels = {column: len(set(manifest.rows[column]) - {""}) for column in columns}
    if confounders is None:
        levels = {column: n for column, n in levels.items() if 2 <= n <= MOST_LEVELS}
    for column, n in levels.items():
        if n < 2:
            what = f"confounder {column!r} has {n} value, expected 2 or more"
            raise DataError(manifest.fault(what))
    return dataclasses.replace(manifest, target=target, factors=tuple(levels))


def _not_there(
    manifest: Manifest, columns: Sequence[str], labels: Sequence[str], mask_region: str | None
) -> str:
    """What there is not of what is selected, the first of the `columns` being the label's."""
    rows, target = manifest.rows, columns[0]
    free = [column for column in rows if column not in RESERVED]
    if not len(rows):
        return "no images"
    if target in columns[1:]:
        return f"column {target!r} is the label, not a confounder"
    for column in columns:
        if column not in free:
            return f"no column {column!r}, expected one of {some(free)}{suggest(column, free)}"
    if mask_region and "mask" not in rows:
        return f"mask_region is {mask_region!r}, but there is no column 'mask'"
    found = sorted(set(rows[target]))
    for name in labels:
        if name not in found:
            return f"no {target} {name!r}, found {some(found)}{suggest(name, found)}"
    return ""
