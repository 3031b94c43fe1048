"""Faults in what the rows of a manifest say, before a file is opened."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from difflib import SequenceMatcher

from xbl_kit.data.faults import Fault
from xbl_kit.data.manifest import Manifest

ALLOWED = {"split": ("train", "val", "test"), "counter": ("0", "1")}
NOT_A_VALUE = ("nan", "null", "n/a", "#n/a", "<na>")
OF_A_PATIENT = ("split", "sex", "gender")  # columns with one value a patient
OLDEST = 120
AGE = re.compile(r"[<>]?(\d+\.?\d*)(?:-(\d+\.?\d*)|\+)?")  # 30, 30.5, 1-5, 80+, <5
SIMILAR = 0.8  # of the letters of a mistyped word are those of the right one
SHORTEST = 4  # letters of a word in which a slip can be told from another word
RARE, RARER = 0.005, 5  # a slip is as rare among the rows, and so much rarer than the right word

Finder = Callable[[Manifest], Iterator[Fault]]


def faults_in_rows(manifest: Manifest) -> list[Fault]:
    """Values that cannot be, and values that contradict each other."""
    faults = [fault for find in OF_ROWS for fault in find(manifest)]
    return faults + list(_classes(manifest, {fault.row for fault in faults}))


def _values(manifest: Manifest) -> Iterator[Fault]:
    """Empty or unknown values, one fault a row and column."""
    for column in (manifest.target, "patient", *ALLOWED):
        allowed = ALLOWED.get(column)
        expected = f"one of {', '.join(allowed)}" if allowed else "a value"
        for row, value in _column(manifest, column):
            if not _known(column, value):
                yield _fault(manifest, row, f"{column} is {value!r}, expected {expected}")
            elif value != value.strip():
                what = f"{column} is {value!r}, expected no spaces around it"
                yield _fault(manifest, row, what)
    for column in manifest.factors:
        for row, value in _column(manifest, column):
            if value and not _known(column, value):
                yield _fault(manifest, row, f"{column} is {value!r}, expected a value or nothing")


def _known(column: str, value: str) -> bool:
    if column in ALLOWED:
        return value in ALLOWED[column]
    return value != "" and value.lower() not in NOT_A_VALUE


def _spellings(manifest: Manifest) -> Iterator[Fault]:
    """One name in two spellings: the rarer one is at fault."""
    for column in (manifest.target, *manifest.factors):
        counts = Counter(value for _, value in _column(manifest, column) if value.strip())
        usual: dict[str, str] = {}
        for value, _ in counts.most_common():
            usual.setdefault(re.sub(r"[\s_]+", "", value).casefold(), value)
        for row, value in _column(manifest, column):
            right = usual.get(re.sub(r"[\s_]+", "", value).casefold(), value)
            if right != value and value == value.strip():
                what = f"{column} is {value!r}, in {counts[right]} other rows {right!r}"
                yield _fault(manifest, row, what)


def _slips(manifest: Manifest) -> Iterator[Fault]:
    """Labels that look like a frequent one mistyped, unless the user has named them."""
    if manifest.labels:
        return
    counts = Counter(value for _, value in _column(manifest, manifest.target))
    most = max(2, RARE * len(manifest))
    meant = {}
    for value, n in counts.items():
        right = [other for other in counts if n <= most and RARER * n <= counts[other]]
        meant.update((value, other) for other in right if _mistyped(value, other))
    for row, value in _column(manifest, manifest.target):
        if value in meant:
            rows = "no other row" if counts[value] == 1 else f"only {counts[value]} rows"
            what = (
                f"{manifest.target} is {value!r}, which {rows} of {len(manifest)} has"
                f"; did you mean {meant[value]!r}? If not, name the labels you want"
            )
            yield _fault(manifest, row, what)


def _mistyped(value: str, right: str) -> bool:
    """Whether one long word of `value` is a slip of that of `right`; numbers and grades are not."""
    ours, theirs = (re.findall(r"[^\W_]+", text.casefold()) for text in (value, right))
    pairs = [pair for pair in zip(ours, theirs, strict=False) if pair[0] != pair[1]]
    if len(ours) != len(theirs) or len(pairs) != 1:
        return False
    one, other = pairs[0]
    words = one.isalpha() and other.isalpha() and min(len(one), len(other)) >= SHORTEST
    # "atypical" is no slip of "typical", nor "abnormal" of "normal".
    near = abs(len(one) - len(other)) <= 1 and not one.endswith(other)
    return words and near and SequenceMatcher(None, one, other).ratio() >= SIMILAR


def _ages(manifest: Manifest) -> Iterator[Fault]:
    """Ages that are no age, where most are numbers of years or ranges such as 1-5."""
    for column in (name for name in manifest.rows if name.strip().casefold() == "age"):
        filled = [(row, value) for row, value in _column(manifest, column) if value]
        found = [AGE.fullmatch(value.strip()) for _, value in filled]
        if 2 * sum(map(bool, found)) <= len(filled):
            continue
        for (row, value), age in zip(filled, found, strict=True):
            if not age or any(float(years) > OLDEST for years in age.groups() if years):
                what = f"{column} is {value!r}, expected years from 0 to {OLDEST} or nothing"
                yield _fault(manifest, row, what)


def _patients(manifest: Manifest) -> Iterator[Fault]:
    """Patients in two splits, or of two sexes; rows that differ from the first are at fault."""
    patients = [patient for _, patient in _column(manifest, "patient")]
    for column in (name for name in manifest.rows if name.casefold() in OF_A_PATIENT):
        first: dict[str, tuple[int, str]] = {}
        for row, value in _column(manifest, column):
            if not (patients and _known("patient", patients[row]) and _known(column, value)):
                continue
            other, known = first.setdefault(patients[row], (row, value))
            if value != known:
                what = (
                    f"patient {patients[row]!r} has {column} {value!r}"
                    f", yet {known!r} in {manifest.other(other, beside=row)}"
                )
                yield _fault(manifest, row, what)


def _classes(manifest: Manifest, bad: set[int | None]) -> Iterator[Fault]:
    """A single class, or a split that lacks one, among the rows that are not `bad`."""
    rows = [row for row in range(len(manifest)) if row not in bad]
    labels = manifest.rows[manifest.target].iloc[rows].tolist()
    classes = sorted(set(labels))
    source = str(manifest.roots[0])
    if len(classes) == 1 and not manifest.labels:
        what = f"{manifest.target} is {classes[0]!r} in every row, expected 2 or more values"
        yield Fault(source, what)
    if "split" not in manifest.rows:
        return
    splits = manifest.rows["split"].iloc[rows].tolist()
    for split in ALLOWED["split"]:
        found = {label for label, own in zip(labels, splits, strict=True) if own == split}
        if found and (lacking := [name for name in classes if name not in found]):
            yield Fault(source, f"split {split!r} has no row with {manifest.target} {lacking[0]!r}")


OF_ROWS: tuple[Finder, ...] = (_values, _spellings, _slips, _ages, _patients)


def _column(manifest: Manifest, column: str) -> Iterator[tuple[int, str]]:
    """Every row and its value in a column, nothing where there is no such column."""
    return enumerate(manifest.rows[column].tolist() if column in manifest.rows else ())


def _fault(manifest: Manifest, row: int, what: str) -> Fault:
    return Fault(manifest.where[row], what, row)
