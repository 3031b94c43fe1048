"""Every fault of a manifest: of its rows, of its files, of the pictures in them."""

import errno
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import scipy
from jaxtyping import Bool, UInt8

from xbl_kit.data.cache import Planes, conflict, decode, in_parallel, likeness, picture_faults
from xbl_kit.data.faults import Fault, by_name, nearest
from xbl_kit.data.manifest import OLDEST, Manifest
from xbl_kit.data.spelling import SAME, key, missing, plain

ALLOWED = {"split": ("train", "val", "test"), "counter": ("0", "1")}
OF_A_PATIENT = ("split", "sex", "gender")  # columns with one value a patient
LINKS = "--option links="
AGE = r"^[<>]?(\d+\.?\d*)(?:-(\d+\.?\d*)|\+)?$"  # 30, 30.5, 1-5, 80+, <5
SIMILAR = 0.8  # of the letters of a mistyped word are those of the right one
WORD = re.compile(r"[^\W\d_]{4,}")  # long enough to tell a slip from another word
RARE, RARER = 0.005, 5  # a slip is as rare among the rows, and so much rarer than the right word

SMALL, COARSE = 32, 16  # px, and frequencies a side that are kept of as many
ALIKE = 0.05  # of the bits may differ in pictures that look alike
TILE = 2048  # rows compared with as many others at a time


def check(manifest: Manifest) -> list[Fault]:
    """Every fault there is: all that data are refused for, and pictures that look alike."""
    faults, lost = row_faults(manifest), file_faults(manifest)
    looks: dict[int, np.ndarray] = {}

    def take(row: int, images: Planes) -> None:
        looks[row] = _look(images[:, 0])

    found = decode(manifest, SMALL, take, leave={fault.row for fault in lost})
    faults += lost + picture_faults(manifest, **found)
    for fault in faults:
        looks.pop(fault.row, None)
    return faults + lookalikes(manifest, looks)


def file_faults(manifest: Manifest) -> list[Fault]:
    """Files that are not there, not below a root, or that hold nothing; none is opened."""
    files, roots = manifest.files().to_dict("list"), [root.resolve() for root in manifest.roots]
    outside: list[str] = []
    listed = cache(by_name)

    def find(row: int) -> list[Fault]:
        found = {name: _of_no_use(p[row], roots, outside, listed) for name, p in files.items()}
        return [manifest.fault(f"{name} {what}", row) for name, what in found.items() if what]

    faults = [fault for each in in_parallel(find, len(manifest), "finding files") for fault in each]
    folder = re.sub("(annex/objects)/.*", r"\1", os.path.commonpath(outside)) if outside else ""
    return [fault._replace(what=fault.what.replace(LINKS, f"{LINKS}{folder}")) for fault in faults]


def _of_no_use(path: str, roots: list[Path], outside: list[str], listed: Callable) -> str:
    """Why there is no file to be read at `path`, "" where there is one; where it is `outside`."""
    if not path:
        return "is '', expected a path in every row, or no such column"
    try:
        real = Path(os.path.realpath(path, strict=True))
        if not any(real.is_relative_to(root) for root in roots):
            outside.append(str(real.parent))
            return f"{path}: leads out of {roots[0]}; if it may, {LINKS}"
        if not real.is_file():
            return f"{path}: not a file"
        if not os.access(real, os.R_OK):
            return f"{path}: cannot be read ({os.strerror(errno.EACCES)})"
        return "" if real.stat().st_size else f"{path}: empty file"
    except OSError as error:
        if os.path.islink(path) and "annex/objects" in str(Path(path).readlink()):  # noqa: PTH114
            return f"{path}: not fetched yet, only its link is here (`datalad get` fetches it)"
        near = ", folders are separated by /" if "\\" in path else nearest(Path(path), listed)
        known = {errno.ENOENT: f"no such file{near}", errno.ELOOP: "a loop of links"}
        return f"{path}: {known.get(error.errno, f'cannot be read ({error.strerror})')}"


def row_faults(manifest: Manifest) -> list[Fault]:
    """Values that cannot be, and values that contradict each other."""
    finders = (_values, _spellings, _slips, _ages, _patients)
    faults = [manifest.fault(what, row) for find in finders for row, what in find(manifest)]
    return faults + [manifest.fault(what) for what in _lacking(manifest, {f.row for f in faults})]


def _values(manifest: Manifest) -> Iterator[tuple[int, str]]:
    """Empty or unknown values, one fault a row and column."""
    named = "a value; if it is a class, name it among the labels"
    columns = {manifest.target: named, "patient": "a value; without the column each row is its own"}
    for column, expected in columns.items():
        values = manifest.rows.get(column, pd.Series(dtype=str))
        for row in np.flatnonzero(values.isin(missing(values) - {*manifest.labels})).tolist():
            value = values.iloc[row]
            yield row, f"{column} is {value!r}, expected {expected if value else 'a value'}"
    apart = manifest.rows.get("counter", pd.Series("", manifest.rows.index)) == "1"
    for column, allowed in ALLOWED.items():
        for row, value in enumerate(manifest.rows.get(column, ())):
            if value not in allowed and (value or not apart.iloc[row]):  # in no split
                yield row, f"{column} is {value!r}, expected one of {', '.join(allowed)}"


def _spellings(manifest: Manifest) -> Iterator[tuple[int, str]]:
    """One name in two spellings: the rarer one is at fault."""
    for column in (manifest.target, *manifest.factors):
        values = manifest.rows[column]
        counts = Counter(values[~values.isin(missing(values))])
        rank = {value: (plain(value) == value.casefold(), n) for value, n in counts.items()}
        same = {value: SAME.get(key(value), key(value)) for value in rank}
        usual = {same[value]: value for value in sorted(reversed(rank), key=rank.get)}
        for wrong in [value for value in counts if usual[same[value]] != value]:
            right = usual[same[wrong]]
            unseen = plain(wrong) == plain(right) and wrong.casefold() != right.casefold()
            show = ascii if unseen else repr
            line = manifest.other(int((values == right).argmax()), beside=0)
            where = f"in {counts[right]} other rows {show(right)} (first in {line})"
            what = f"{column} is {show(wrong)}, {where}: write them alike"
            yield from ((row, what) for row in np.flatnonzero(values == wrong).tolist())


def _slips(manifest: Manifest) -> Iterator[tuple[int, str]]:
    """Labels that look like a frequent one mistyped, unless the user has named them."""
    labels = manifest.rows[manifest.target]
    counts = Counter(() if manifest.labels else labels)
    most = max(2, RARE * len(labels))
    for value, n in counts.items():
        frequent = [other for other in counts if n <= most and RARER * n <= counts[other]]
        for meant in [other for other in frequent if _mistyped(value, other)][-1:]:
            rows = "no other row" if n == 1 else f"only {n} rows"
            ask = f"did you mean {meant!r}? If not, name the labels you want"
            what = f"{manifest.target} is {value!r}, which {rows} of {len(labels)} has; {ask}"
            yield from ((row, what) for row in np.flatnonzero(labels == value).tolist())


def _mistyped(value: str, right: str) -> bool:
    """Whether one long word of `value` is a slip of that of `right`; numbers and grades are not."""
    ours, theirs = (re.findall(r"[^\W_]+", text.casefold()) for text in (value, right))
    pairs = [pair for pair in zip(ours, theirs, strict=False) if pair[0] != pair[1]]
    if len(ours) != len(theirs) or len(pairs) != 1 or not all(map(WORD.fullmatch, pairs[0])):
        return False
    one, other = pairs[0]
    # "atypical" is no slip of "typical", nor "abnormal" of "normal".
    near = abs(len(one) - len(other)) <= 1 and not one.endswith(other)
    return near and SequenceMatcher(None, one, other).ratio() >= SIMILAR


def _ages(manifest: Manifest) -> Iterator[tuple[int, str]]:
    """Ages that are no age, where most are numbers of years or ranges such as 1-5."""
    rows = manifest.rows.reset_index(drop=True)
    for column in (name for name in rows if name.strip().casefold() == "age"):
        filled = rows[column][rows[column] != ""]
        years = filled.str.strip().str.extract(AGE).astype(float)
        wrong = filled[years[0].isna() | (years > OLDEST).any(axis=1)]
        for row, value in wrong.items() if 2 * years[0].count() > len(filled) else ():
            yield row, f"{column} is {value!r}, expected years from 0 to {OLDEST} or nothing"


def _patients(manifest: Manifest) -> Iterator[tuple[int, str]]:
    """Patients in two splits, or of two sexes; rows that differ from the first are at fault."""
    rows = manifest.rows
    for column in (name for name in rows if name.casefold() in OF_A_PATIENT and "patient" in rows):
        sound = ~rows["patient"].isin(missing(rows["patient"])) & (rows[column] != "")
        sound &= rows[column].isin(ALLOWED.get(column, rows[column]))
        first: dict[str, tuple[int, str]] = {}
        both = rows.loc[sound.to_numpy(), ["patient", column]].to_numpy()
        for row, (patient, value) in zip(np.flatnonzero(sound).tolist(), both, strict=True):
            other, known = first.setdefault(patient, (row, value))
            if value != known and key(value) != key(known):
                what = f"patient {patient!r} has {column} {value!r}, yet {known!r} in "
                yield row, what + manifest.other(other, beside=row)


def _lacking(manifest: Manifest, bad: set[int | None]) -> Iterator[str]:
    """A single class, or a split that lacks one, among the rows that are not `bad`."""
    rows = manifest.rows.iloc[np.delete(np.arange(len(manifest)), list(bad))]
    classes = sorted(set(rows[manifest.target]))
    if len(classes) == 1 and not manifest.labels:
        yield f"{manifest.target} is {classes[0]!r} in every row, expected 2 or more values"
    found = rows.groupby("split")[manifest.target].agg(set) if "split" in rows else {}
    for split in ALLOWED["split"]:
        if split in found and (lacking := sorted({*classes} - found[split])):
            yield f"split {split!r} has no row with {manifest.target} {lacking[0]!r}"
    there = {*manifest.rows.get("split", ())}
    absent = [split for split in ALLOWED["split"] if there and split not in there]
    if absent == ["val"]:
        what = "no row of split 'val'; experiments take it from train, by patient"
        warnings.warn(f"{manifest.roots[0]}: {what}", stacklevel=4)
    elif absent:
        what = "without a column 'split' the kit draws its own, by patient"
        yield f"no row of split {absent[-1]!r}, expected train, test and perhaps val; {what}"


def _look(frames: UInt8[np.ndarray, "frames size size"]) -> Bool[np.ndarray, " bits"]:
    """The perceptual hash (Zauner 2010): which coarse frequencies are above their median.

    It outlives coding, scaling and another brightness or contrast.
    """
    coarse = scipy.fft.dctn(frames.astype(np.float32), axes=(1, 2))[:, :COARSE, :COARSE]
    coarse = coarse.reshape(len(frames), -1)[:, 1:]  # without the mean brightness
    return (coarse > np.median(coarse, axis=1, keepdims=True)).ravel()


def lookalikes(manifest: Manifest, looks: Mapping[int, Bool[np.ndarray, " bits"]]) -> list[Fault]:
    """Pictures of two patients that look alike under two labels or in two splits.

    `looks` holds what `_look` gives of each row that is compared.
    """
    rows = sorted(looks)
    patient = manifest.rows.get("patient", manifest.rows.index).to_numpy()
    faults = []
    for pair in _alike(np.array([looks[row] for row in rows])) if rows else ():
        one, two = (rows[i] for i in pair)
        if patient[one] != patient[two] and (yet := conflict(manifest, one, two)):
            faults.append(likeness(manifest, two, one, "looks like", yet))
    return faults


def _alike(looks: Bool[np.ndarray, "n bits"]) -> Iterator[tuple[int, int]]:
    """Pairs of rows whose bits differ in no more than a share of `ALIKE`."""
    signs = np.where(looks, 1, -1).astype(np.float32)
    least = signs.shape[1] * (1 - 2 * ALIKE)
    for i in range(0, len(signs), TILE):
        for j in range(i, len(signs), TILE):
            found = np.argwhere(signs[i : i + TILE] @ signs[j : j + TILE].T >= least).tolist()
            yield from ((i + one, j + two) for one, two in found if i + one < j + two)
