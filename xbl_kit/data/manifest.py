"""What a source says of its images, before one of them is read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from xbl_kit.data.faults import DataError, Fault, some
from xbl_kit.data.picture import read_frames

RESERVED = ("image", "mask", "patient", "split", "counter")
MOST_LEVELS = 10
OLDEST = 120  # years


@dataclass(frozen=True, eq=False)
class Manifest:
    """Files and what is known of each; every kind of data on disk is listed before it is read.

    `rows` holds text, "" where a thing is not known: `image` and, where there are any, `mask`
    (paths of files), patient, split, counter; every other column can be the `target` or one of the
    `factors`. Its index names the line each row comes from. Files must lie inside one of the
    `roots`. `read(path, size)` gives a file's `frames` images; it is a `functools.partial` of a
    function of this package, so that its name and options can tell one cache from another. `labels`
    are those the user has named, () where all that are found are taken. Masks are of one `region`.
    """

    rows: pd.DataFrame
    roots: tuple[Path, ...]
    read: Callable[[Path, int], UInt8[np.ndarray, "frames size size"]] = read_frames
    frames: int = 1
    target: str = "label"
    factors: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    region: str = "lungs"

    def __len__(self) -> int:
        return len(self.rows)

    def files(self) -> pd.DataFrame:
        """The paths of the images and, where there are any, of the masks."""
        return self.rows.filter(["image", "mask"])

    def fault(self, what: str, row: int | None = None) -> Fault:
        """A fault of one row, named by its line, or of the source as a whole."""
        return Fault(str(self.roots[0]) if row is None else self.rows.index[row], what, row)

    def other(self, row: int, beside: int) -> str:
        """Where a row comes from, without the file where that is the file of `beside` as well."""
        where = self.rows.index[row]
        file, _, line = where.rpartition(", line ")
        same = file and self.rows.index[beside].startswith(f"{file}, line ")
        return f"line {line}" if same else where

    def without(self, faults: Sequence[Fault]) -> "Manifest":
        """The rows that none of the `faults` is of.

        Raises DataError where a fault is not that of a single row, or where no row is left.
        """
        if whole := [fault for fault in faults if fault.row is None]:
            raise DataError(*whole)
        rows = self.rows.iloc[np.delete(np.arange(len(self)), [fault.row for fault in faults])]
        if rows.empty:
            raise DataError(*faults)
        return replace(self, rows=rows)


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
    rows, named, what = manifest.rows, dict.fromkeys(confounders or ()), ""
    free = [column for column in rows if column not in RESERVED]
    kept = rows[rows[target].isin(labels)] if labels and target in rows else rows
    levels = kept[free].nunique() - (kept[free] == "").any()  # without "", not known
    if rows.empty:
        what = "no images"
    elif target in named:
        what = f"column {target!r} is the label, not a confounder"
    elif no := [column for column in (target, *named) if column not in free]:
        what = f"no column {no[0]!r}, expected one of {some(free, meant=no[0])}"
    elif mask_region and "mask" not in rows:
        what = f"mask_region is {mask_region!r}, but there is no column 'mask'"
    elif no := [label for label in labels if label not in set(rows[target])]:
        what = f"no {target} {no[0]!r}, found {some(sorted(set(rows[target])), meant=no[0])}"
    elif few := [column for column in named if levels[column] < 2]:
        what = f"confounder {few[0]!r} has {levels[few[0]]} value, expected 2 or more"
    if what:
        raise DataError(manifest.fault(what))
    if confounders is None:
        usual = [column for column in manifest.factors or free if column != target]
        named = [column for column in usual if 2 <= levels[column] <= MOST_LEVELS]
    chosen = {"target": target, "labels": tuple(labels), "factors": tuple(named)}
    return replace(manifest, rows=kept, region=mask_region or manifest.region, **chosen)
