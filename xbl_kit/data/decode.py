"""All files of a manifest, decoded in parallel, and which of them are the same."""

import hashlib
import os
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from tqdm.contrib.concurrent import thread_map

from xbl_kit.data.faults import DataError, Fault
from xbl_kit.data.manifest import Manifest
from xbl_kit.data.picture import read_mask

TASKS = 10_000  # more of them at a time would fill the memory
WORKERS = min(32, (os.cpu_count() or 1) + 4)

Planes = UInt8[np.ndarray, "frames planes size size"]
Taker = Callable[[int, Planes], object]


def in_parallel(work: Callable[[int], object], n: int, title: str) -> list:
    """`work(row)` of n rows, in order, by threads, with a bar; an error ends the rest."""
    step = n // TASKS + 1
    tasks = [range(n)[start : start + step] for start in range(0, n, step)]
    bar = {"desc": title, "unit": "file", "unit_scale": step, "disable": None}
    found = thread_map(lambda rows: [work(r) for r in rows], tasks, max_workers=WORKERS, **bar)
    return [each for of_task in found for each in of_task]


def decode(manifest: Manifest, size: int, take: Taker, *, leave: Collection[int] = ()) -> dict:
    """Give `take(row, images)` of each row the images of its file, and its mask as a second plane.

    Masks are 0 or 1. Rows in `leave` are left alone. `take` is called by several threads.
    Returns "hashes", one of each row's image file, "" where image or mask cannot be read, and as
    "unreadable" the faults of those that cannot.
    """
    files, faults = manifest.files().to_numpy(), []

    def work(row: int) -> str:
        if row in leave:
            return ""
        image, *masks = map(Path, files[row])
        try:
            planes = [manifest.read(image, size)]
            planes += [read_mask(mask, size, image)[None] for mask in masks]
        except DataError as error:
            faults.extend(fault._replace(row=row) for fault in error.faults)
            return ""
        take(row, np.stack(planes, axis=1))
        with image.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    hashes = in_parallel(work, len(manifest), "decoding")
    return {"hashes": hashes, "unreadable": sorted(faults, key=lambda fault: fault.row)}


def picture_faults(manifest: Manifest, *, hashes: list[str], unreadable: list) -> list[Fault]:
    """What is wrong by what `decode` has found, or by a record of it.

    Of the same picture, byte for byte, in two rows the second is at fault, and in a conflict both.
    """
    first: dict[str, int] = {}
    faults = []
    for row, found in enumerate(hashes):
        other = first.setdefault(found, row)
        if found and other != row:
            yet = conflict(manifest, row, other)
            pairs = [(row, other), (other, row)] if yet else [(row, other)]
            faults += [likeness(manifest, *pair, "the same picture as", yet) for pair in pairs]
    return faults + [Fault(*fault) for fault in unreadable]


def conflict(manifest: Manifest, row: int, other: int) -> str:
    """In what two rows with one picture contradict each other, "" where they do not."""
    rows = manifest.rows.iloc[[row, other]].filter([manifest.target, "split"])
    for column, (one, two) in rows.items():
        if one != two:
            return f", yet {column} is {one!r} and {two!r}"
    return ""


def likeness(manifest: Manifest, row: int, other: int, words: str, yet: str) -> Fault:
    """A fault of a row for what its picture is to that of another."""
    where, image = manifest.rows.index[row], manifest.rows["image"].iloc[row]
    where = where if image.endswith(where) else f"{where} ({image})"
    return Fault(where, f"{words} {manifest.other(other, beside=row)}{yet}", row)
