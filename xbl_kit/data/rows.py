"""Faults in what the rows of a listing say, before a file is opened."""

import numpy as np

from xbl_kit.data.fault import Fault
from xbl_kit.data.listing import Listing

ALLOWED = {"split": ("train", "val", "test"), "counter": ("0", "1")}


def faults_in_rows(listing: Listing) -> list[Fault]:
    """Empty or unknown values, one fault a row and column."""
    return _values(listing)


def _values(listing: Listing) -> list[Fault]:
    faults = []
    for column in (listing.target, "patient", *ALLOWED):
        if column in listing.rows:
            values, allowed = listing.rows[column], ALLOWED.get(column)
            wrong = ~values.isin(allowed) if allowed else values == ""
            expected = f"one of {', '.join(allowed)}" if allowed else "a value"
            for row in np.flatnonzero(wrong):
                what = f"{column} is {values[row]!r}, expected {expected}"
                faults.append(Fault(listing.where[row], what, int(row)))
    return faults
