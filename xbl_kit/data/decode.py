"""All files of a manifest, decoded in parallel."""

import hashlib
import os
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from tqdm.contrib.concurrent import thread_map

from xbl_kit.data.faults import DataError, Fault
from xbl_kit.data.manifest import Manifest
from xbl_kit.data.picture import read_mask

TASKS = 10_000  # more of them at a time would fill the memory
WORKERS = min(32, (os.cpu_count() or 1) + 4)
PATHS = ("image", "mask")
BLAKE = partial(hashlib.blake2b, digest_size=16)

Planes = UInt8[np.ndarray, "frames planes size size"]


def in_parallel(work: Callable[[int], object], n: int, title: str) -> list:
    """`work(row)` of n rows, in order, by threads, with a bar; an error ends the rest."""
    step = n // TASKS + 1
    tasks = [range(start, min(start + step, n)) for start in range(0, n, step)]
    bar = {"desc": title, "unit": "file", "unit_scale": step, "disable": None}
    found = thread_map(lambda rows: [work(r) for r in rows], tasks, max_workers=WORKERS, **bar)
    return [each for of_task in found for each in of_task]


def decode(
    manifest: Manifest,
    size: int,
    take: Callable[[int, Planes], object],
    *,
    leave: Collection[int | None] = (),
) -> tuple[list[str], list[Fault]]:
    """Give `take(row, images)` of each row the images of its file, and its mask as a second plane.

    Masks are 0 or 1. Rows in `leave` are left alone. `take` is called by several threads.
    Returns the hashes of each row's image and mask, with a space between them, "" where one cannot
    be read, and why it cannot be.
    """
    columns = [manifest.rows[name].tolist() for name in PATHS if name in manifest.rows]
    faults: list[Fault] = []

    def work(row: int) -> str:
        if row in leave:
            return ""
        image, *masks = (Path(column[row]) for column in columns)
        try:
            planes = [manifest.read(image, size)]
            planes += [read_mask(mask, size, image)[None] for mask in masks]
            digest = " ".join(_digest(path) for path in (image, *masks))
        except DataError as error:
            faults.extend(fault._replace(row=row) for fault in error.faults)
            return ""
        take(row, np.stack(planes, axis=1))
        return digest

    digests = in_parallel(work, len(manifest), "decoding")
    return digests, sorted(faults, key=lambda fault: fault.row)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, BLAKE).hexdigest()
    except OSError as error:
        raise DataError(Fault(str(path), f"cannot be read ({error.strerror})")) from None
