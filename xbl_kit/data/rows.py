"""Faults in what the rows of a listing say, before a file is opened."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from difflib import SequenceMatcher

from xbl_kit.data.fault import Fault
from xbl_kit.data.listing import Listing

ALLOWED = {"split": ("train", "val", "test"), "counter": ("0", "1")}
NOT_A_VALUE = ("nan", "null", "n/a", "#n/a", "<na>")
OF_A_PATIENT = ("split", "sex", "gender")  # columns with one value a patient
OLDEST = 120
AGE = re.compile(r"[<>]?(\d+\.?\d*)(?:-(\d+\.?\d*)|\+)?")  # 30, 30.5, 1-5, 80+, <5
SIMILAR = 0.8  # of the letters of a mistyped word are those of the right one
SHORTEST = 4  # letters of a word in which a slip can be told from another word
RARE, RARER = 0.005, 5  # a slip is as rare among the rows, and so much rarer than the right word

Finder = Callable[[Listing], Iterator[Fault]]


def faults_in_rows(listing: Listing) -> list[Fault]:
    """Values that cannot be, and values that contradict each other."""
    faults = [fault for find in OF_ROWS for fault in find(listing)]
    return faults + list(_classes(listing, {fault.row for fault in faults}))


def _values(listing: Listing) -> Iterator[Fault]:
    """Empty or unknown values, one fault a row and column."""
    for column in (listing.target, "patient", *ALLOWED):
        allowed = ALLOWED.get(column)
        expected = f"one of {', '.join(allowed)}" if allowed else "a value"
        for row, value in _column(listing, column):
            if not _known(column, value):
                yield _fault(listing, row, f"{column} is {value!r}, expected {expected}")
            elif value != value.strip():
                what = f"{column} is {value!r}, expected no spaces around it"
                yield _fault(listing, row, what)
    for column in listing.factors:
        for row, value in _column(listing, column):
            if value and not _known(column, value):
                yield _fault(listing, row, f"{column} is {value!r}, expected a value or nothing")


def _known(column: str, value: str) -> bool:
    if column in ALLOWED:
        return value in ALLOWED[column]
    return value != "" and value.lower() not in NOT_A_VALUE


def _spellings(listing: Listing) -> Iterator[Fault]:
    """One name in two spellings: the rarer one is at fault."""
    for column in (listing.target, *listing.factors):
        counts = Counter(value for _, value in _column(listing, column) if value.strip())
        usual: dict[str, str] = {}
        for value, _ in counts.most_common():
            usual.setdefault(re.sub(r"[\s_]+", "", value).casefold(), value)
        for row, value in _column(listing, column):
            right = usual.get(re.sub(r"[\s_]+", "", value).casefold(), value)
            if right != value and value == value.strip():
                what = f"{column} is {value!r}, in {counts[right]} other rows {right!r}"
                yield _fault(listing, row, what)


def _slips(listing: Listing) -> Iterator[Fault]:
    """Labels that look like a frequent one mistyped, unless the user has named them."""
    if listing.labels:
        return
    counts = Counter(value for _, value in _column(listing, listing.target))
    most = max(2, RARE * len(listing))
    meant = {}
    for value, n in counts.items():
        right = [other for other in counts if n <= most and RARER * n <= counts[other]]
        meant.update((value, other) for other in right if _mistyped(value, other))
    for row, value in _column(listing, listing.target):
        if value in meant:
            rows = "no other row" if counts[value] == 1 else f"only {counts[value]} rows"
            what = (
                f"{listing.target} is {value!r}, which {rows} of {len(listing)} has"
                f"; did you mean {meant[value]!r}? If not, name the labels you want"
            )
            yield _fault(listing, row, what)


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


def _ages(listing: Listing) -> Iterator[Fault]:
    """Ages that are no age, where most are numbers of years or ranges such as 1-5."""
    for column in (name for name in listing.rows if name.strip().casefold() == "age"):
        filled = [(row, value) for row, value in _column(listing, column) if value]
        found = [AGE.fullmatch(value.strip()) for _, value in filled]
        if 2 * sum(map(bool, found)) <= len(filled):
            continue
        for (row, value), age in zip(filled, found, strict=True):
            if not age or any(float(years) > OLDEST for years in age.groups() if years):
                what = f"{column} is {value!r}, expected years from 0 to {OLDEST} or nothing"
                yield _fault(listing, row, what)


def _patients(listing: Listing) -> Iterator[Fault]:
    """Patients in two splits, or of two sexes; rows that differ from the first are at fault."""
    patients = [patient for _, patient in _column(listing, "patient")]
    for column in (name for name in listing.rows if name.casefold() in OF_A_PATIENT):
        first: dict[str, tuple[int, str]] = {}
        for row, value in _column(listing, column):
            if not (patients and _known("patient", patients[row]) and _known(column, value)):
                continue
            other, known = first.setdefault(patients[row], (row, value))
            if value != known:
                what = (
                    f"patient {patients[row]!r} has {column} {value!r}"
                    f", yet {known!r} in {listing.other(other, beside=row)}"
                )
                yield _fault(listing, row, what)


def _classes(listing: Listing, bad: set[int | None]) -> Iterator[Fault]:
    """A single class, or a split that lacks one, among the rows that are not `bad`."""
    rows = [row for row in range(len(listing)) if row not in bad]
    labels = listing.rows[listing.target].iloc[rows].tolist()
    classes = sorted(set(labels))
    source = str(listing.roots[0])
    if len(classes) == 1 and not listing.labels:
        what = f"{listing.target} is {classes[0]!r} in every row, expected 2 or more values"
        yield Fault(source, what)
    if "split" not in listing.rows:
        return
    splits = listing.rows["split"].iloc[rows].tolist()
    for split in ALLOWED["split"]:
        found = {label for label, own in zip(labels, splits, strict=True) if own == split}
        if found and (lacking := [name for name in classes if name not in found]):
            yield Fault(source, f"split {split!r} has no row with {listing.target} {lacking[0]!r}")


OF_ROWS: tuple[Finder, ...] = (_values, _spellings, _slips, _ages, _patients)


def _column(listing: Listing, column: str) -> Iterator[tuple[int, str]]:
    """Every row and its value in a column, nothing where there is no such column."""
    return enumerate(listing.rows[column].tolist() if column in listing.rows else ())


def _fault(listing: Listing, row: int, what: str) -> Fault:
    return Fault(listing.where[row], what, row)
