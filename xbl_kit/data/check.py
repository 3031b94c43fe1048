"""Every fault of a listing: of its rows, of its files, of both together."""

import numpy as np

from xbl_kit.data.fault import DataError, Fault
from xbl_kit.data.files import find_files, in_parallel, read_row
from xbl_kit.data.listing import Listing
from xbl_kit.data.rows import faults_in_rows

SMALL = 17  # px; neighbours are compared, which leaves 16 x 16 bits
ALIKE = 0.04  # of the bits may differ in pictures that look alike
CHUNK = 256  # rows compared with all others at a time


def check(listing: Listing) -> list[Fault]:
    """Every fault there is: all that `read_listing` would refuse, and pictures that look alike."""
    faults, looks = faults_that_matter(listing)
    return faults + lookalikes(listing, looks)


def without_faults(listing: Listing) -> Listing:
    """The rows that `read_listing` would not refuse.

    Raises DataError where a fault is not that of a single row, or where no row is left.
    """
    faults, _ = faults_that_matter(listing)
    kept = np.ones(len(listing), dtype=bool)
    for fault in faults:
        if fault.row is None:
            raise DataError(fault)
        kept[fault.row] = False
    if not kept.any():
        raise DataError(*faults)
    return listing.keep(kept)


def faults_before_decoding(listing: Listing) -> tuple[list[Fault], list[bytes]]:
    """The faults that show before a picture is decoded, and a hash of every row's files."""
    faults = faults_in_rows(listing)
    digests, missing = find_files(listing)
    return faults + missing + twins(listing, digests), digests


def faults_that_matter(listing: Listing) -> tuple[list[Fault], dict[int, np.ndarray]]:
    """What `read_listing` would refuse, and the looks, as bits, of the rows that can be read."""
    faults, _ = faults_before_decoding(listing)
    bad = {fault.row for fault in faults}
    looks = {}

    def look(row: int) -> list[Fault]:
        if row in bad:
            return []
        try:
            small = read_row(listing, row, SMALL)[:, 0]
        except DataError as error:
            return list(error.faults)
        looks[row] = (small[:, :-1, 1:] > small[:, :-1, :-1]).ravel()
        return []

    for found in in_parallel(look, len(listing), "decoding"):
        faults += found
    return faults, looks


def twins(listing: Listing, digests: list[bytes]) -> list[Fault]:
    """The same picture, byte for byte, in two rows; the second is at fault, both in a conflict."""
    first: dict[bytes, int] = {}
    faults = []
    for row, digest in enumerate(digests):
        if not digest:
            continue
        other = first.setdefault(digest[:16], row)
        if other == row:
            continue
        conflict = _conflict(listing, row, other)
        for one, two in ((row, other), (other, row)) if conflict else ((row, other),):
            what = f"the same picture as {_name(listing, two)}{conflict}"
            faults.append(Fault(_name(listing, one), what, one))
    return faults


def lookalikes(listing: Listing, looks: dict[int, np.ndarray]) -> list[Fault]:
    """Pictures of two patients that look alike under two labels or in two splits.

    `looks` holds the difference hash (Krawetz 2013) of each row.
    """
    if not looks:
        return []
    rows = np.array(sorted(looks))
    bits = np.where(np.stack([looks[row] for row in rows]), 1, -1).astype(np.float32)
    least = bits.shape[1] * (1 - 2 * ALIKE)
    patient = listing.rows["patient"] if "patient" in listing.rows else range(len(listing))
    faults = []
    for start in range(0, len(rows), CHUNK):
        alike = np.argwhere(bits[start : start + CHUNK] @ bits.T >= least)
        for one, two in zip(
            rows[alike[:, 0] + start].tolist(), rows[alike[:, 1]].tolist(), strict=True
        ):
            conflict = one < two and patient[one] != patient[two] and _conflict(listing, one, two)
            if conflict:
                what = f"looks like {_name(listing, one)}{conflict}"
                faults.append(Fault(_name(listing, two), what, two))
    return faults


def _conflict(listing: Listing, row: int, other: int) -> str:
    """In what two rows with one picture contradict each other, "" where they do not."""
    for column in (listing.target, "split"):
        if column in listing.rows:
            one, two = listing.rows[column][[row, other]]
            if one != two:
                return f", yet {column} is {one!r} and {two!r}"
    return ""


def _name(listing: Listing, row: int) -> str:
    return f"{listing.where[row]} ({listing.rows['image'][row]})"
