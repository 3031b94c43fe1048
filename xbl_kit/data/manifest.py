"""What a source says of its images, before one of them is read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from xbl_kit.data.faults import MEANT, DataError, Fault, refuse, refuse_all, some
from xbl_kit.data.picture import read_frames
from xbl_kit.data.spelling import COMMAS, blanked, key, one_spelling, warn_of_zeros

RESERVED = ("image", "mask", "patient", "split", "counter")
MOST_LEVELS = 10
OLDEST = 120  # years
FEW = 10  # images a level on average: with fewer, more than MOST_LEVELS levels make no groups
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SPLITS |= dict.fromkeys(("val", "valid", "validation", "dev", "development"), "val")
WORDS = {"split": SPLITS, "counter": {"0": "0", "1": "1"}}  # by their `spelling.key`


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
        refuse_all([fault for fault in faults if fault.row is None])
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
    bins: int | None = None,
    links: Sequence[str | Path] = (),
) -> Manifest:
    """The rows whose `target` is one of `labels` (all by default), with these `confounders`.

    Without `confounders` they are those the kind of data names itself or, where it names none, all
    other columns with 2 to 10 values. `mask_region` is what the masks are of, by default what the
    kind of data says. Columns of many numbers become `bins` groups of about as many images. `links`
    are folders besides the root that files may lie in.
    Raises DataError for a column or a value that is not there, or one of too many levels.
    """
    if bins is not None and not 2 <= bins <= MOST_LEVELS:
        raise ValueError(f"bins={bins}: expected 2 to {MOST_LEVELS}")
    if no := [folder for folder in links if not Path(folder).is_dir()]:
        raise ValueError(f"links: {no[0]} is no folder")
    rows, named = _settled(manifest, target, bins), dict.fromkeys(confounders or ())
    free = [column for column in rows if column not in RESERVED]
    kept = rows
    if labels and target in rows:
        kept = rows[rows[target].map(key).isin(map(key, labels))]  # other spellings are a fault
    levels = kept[free].nunique() - (kept[free] == "").any()  # without "", not known
    refuse(manifest.roots[0], _not_there(rows, target, labels, [*named], mask_region))
    for column in named:
        refuse(manifest.roots[0], _no_groups(kept[column], int(levels[column])))
    if confounders is None:
        usual = [column for column in manifest.factors or free if column != target]
        named = [column for column in usual if 2 <= levels[column] <= MOST_LEVELS]
    for column in {"patient", target, *named} & {*kept}:
        warn_of_zeros(kept[column])
    chosen = {"target": target, "labels": tuple(labels), "factors": tuple(named)}
    chosen |= {"roots": (*manifest.roots, *map(Path, links))}
    return replace(manifest, rows=kept, region=mask_region or manifest.region, **chosen)


def _settled(manifest: Manifest, target: str, bins: int | None) -> pd.DataFrame:
    """The rows, each patient, split and counter in one spelling, "" for what is not known."""
    rows = manifest.rows.copy(deep=False)
    for column, words in WORDS.items():
        if column in rows:
            rows[column] = [words.get(key(value), value) for value in rows[column]]
    if "patient" in rows:
        rows["patient"] = one_spelling(rows["patient"])
    free = [column for column in rows if column not in RESERVED]
    rows = blanked(rows, [column for column in free if column != target], manifest.roots[0])
    for column in free if bins else ():
        number = numbers(rows[column])
        fits = number.notna() == (rows[column] != "")
        if column.casefold() == "age":  # else it is a fault, which groups would hide
            fits &= number.isna() | number.between(0, OLDEST)
        if number.nunique() > MOST_LEVELS and fits.all():
            rows[column] = binned(number, bins)
    return rows


def numbers(column: pd.Series) -> pd.Series:
    """The finite numbers of a column of text, by their `key`; NaN for what is none.

    One comma that ends in other than three digits says that all of the column's are decimal.
    """
    if any((found := COMMAS.fullmatch(v.strip())) and found["last"] for v in column.unique()):
        column = column.str.replace(",", ".")
    found = pd.to_numeric(column.map({v: key(v) for v in column.unique()}), errors="coerce")
    return found.where(found.abs() < float("inf"))


def binned(number: pd.Series, bins: int) -> pd.Series:
    """The group of each number, of about as many each, named by its ends: 18 to 43; "" for a NaN.

    Equal numbers are in one group.
    """
    ends = np.unique(number.quantile(np.linspace(0, 1, bins + 1)[1:-1]))
    group = np.searchsorted(ends, number, side="right" if ends[0] == number.max() else "left")
    names = number.groupby(group).transform(lambda own: f"{own.min():g} to {own.max():g}")
    return names.astype(str).where(number.notna(), "")


def _not_there(
    rows: pd.DataFrame, target: str, labels: Sequence[str], named: list[str], region: str | None
) -> str | None:
    """What of a selection is not in a table, if anything is."""
    if rows.empty:
        return "no images"
    if target in named:
        return f"column {target!r} is the label, not a confounder"
    free = [column for column in rows if column not in RESERVED]
    if no := [column for column in (target, *named) if column not in free]:
        advice = "rename it or name it as the target: {near!r}" if no[0] == "label" else MEANT
        return f"no column {no[0]!r}, expected one of {some(free, meant=no[0], advice=advice)}"
    if region and "mask" not in rows:
        return f"mask_region is {region!r}, but there is no column 'mask'"
    if no := [label for label in labels if label not in set(rows[target])]:
        return f"no {target} {no[0]!r}, found {some(sorted(set(rows[target])), meant=no[0])}"
    return None


def _no_groups(column: pd.Series, levels: int) -> str | None:
    """Why a confounder makes no groups, if it does not."""
    has = f"confounder {column.name!r} has {levels}"
    if levels < 2:
        return f"{has} value{'s' * (levels != 1)}, expected 2 or more"
    if levels <= MOST_LEVELS:
        return None
    number = numbers(column[column != ""])
    texts = column[number.index[number.isna()]]
    if texts.empty:
        return f"{has} numbers, expected groups: `--option bins=4` makes four of them"
    if len(column) >= FEW * levels:
        return None
    hint = "put them into groups in a column of their own"
    if 2 * len(texts) < len(number):
        hint = f"{texts.iloc[0]!r} ({texts.index[0]}) is no number; {hint}"
    return f"{has} values in {len(column)} rows, expected at most {MOST_LEVELS}; {hint}"
