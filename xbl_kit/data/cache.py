"""The pictures of a manifest, decoded once, then read from a file that is mapped into memory."""

import os
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt8
from tqdm.contrib.concurrent import thread_map

from xbl_kit.data.faults import DataError, Fault, refuse_all
from xbl_kit.data.manifest import Manifest
from xbl_kit.data.picture import read_mask
from xbl_kit.digests import code_digest, digest, file_digest, kept_array, load_sealed, write_sealed
from xbl_kit.storage import cache_folder

TASKS = 1000  # of several files each where there are more: a task costs as much as finding three
WORKERS = min(32, (os.cpu_count() or 1) + 4)

Planes = UInt8[np.ndarray, "frames planes size size"]


def decoded(manifest: Manifest, size: int, *, skip_faulty: bool = False) -> tuple[Manifest, Planes]:
    """The rows of a manifest and their pictures, mapped read-only: images, then masks of 0 and 1.

    Every file is decoded once, in a pass that also finds the faults and hashes the contents; the
    hashes are kept in a file beside the pictures. A second call opens no file, since files are
    known by path, size and time of change: a change that leaves all three as they were is missed.

    Raises DataError for pictures with a fault. With `skip_faulty` their rows are left out, by
    memory where they have been once: only without it are they tried again.
    """
    path = _path(manifest, size)
    record = path.with_suffix(".json")
    shape = (len(manifest) * manifest.frames, manifest.files().shape[1], size, size)
    found = None
    try:
        with suppress(ValueError):
            found = skip_faulty and load_sealed(record)
        if found:
            refuse_all(picture_faults(manifest, **found))
        fill = partial(_decode, manifest, size, record)
        return manifest, kept_array(path, shape, np.uint8, fill, what="decoded images")
    except DataError as error:
        if not skip_faulty:
            raise
        return decoded(manifest.without(error.faults), size, skip_faulty=True)


def content_of(manifest: Manifest, size: int, *, skip_faulty: bool = False) -> str:
    """A hash of the pictures as they are `decoded`, wherever they lie and whenever written."""
    kept, _ = decoded(manifest, size, skip_faulty=skip_faulty)
    return load_sealed(_path(kept, size).with_suffix(".json"))["content"]


def _path(manifest: Manifest, size: int) -> Path:
    return cache_folder() / "images" / f"{cache_key(manifest, size)}.npy"


def cache_key(manifest: Manifest, size: int) -> str:
    """A hash of what the files are known by, which are masks of which, and how they are read."""
    read, files = partial(manifest.read), manifest.files()  # of a partial: function, with options
    how = read.func.__module__, read.func.__qualname__, sorted(read.keywords.items())
    key = [code_digest(Path(__file__).parent), size, how, manifest.frames, list(files), files.shape]
    for path in (Path(path).absolute() for path in files.to_numpy().flat):
        key.append(str(path))
        with suppress(OSError):  # of one that is not there more is said when it is opened
            seen = path.stat()
            key.append((seen.st_size, seen.st_mtime_ns))
    return digest(repr(key))


def _decode(manifest: Manifest, size: int, record: Path, file: BinaryIO) -> None:
    """Write the pictures, if none has a fault, and in any case the record of what was found.

    Raises ValueError where a file has changed meanwhile: which of its contents was decoded?
    """
    lock, start, content = Lock(), file.tell(), [""] * len(manifest)

    def take(row: int, images: Planes) -> None:
        content[row] = digest(images)
        with lock:
            file.seek(start + row * images.nbytes)
            file.write(images)

    found = decode(manifest, size, take)
    if cache_key(manifest, size) != record.stem:
        what = "a file has changed while it was read; open the data again"
        raise ValueError(f"{manifest.roots[0]}: {what}")
    write_sealed(record, found | {"content": digest(*content)})
    refuse_all(picture_faults(manifest, **found))


def in_parallel(work: Callable[[int], object], n: int, title: str) -> list:
    """`work(row)` of n rows, in order, by threads, with a bar; an error ends the rest."""
    step = n // TASKS + 1
    tasks = [range(n)[start : start + step] for start in range(0, n, step)]
    bar = {"desc": title, "unit": "file", "unit_scale": step, "disable": None}
    found = thread_map(lambda rows: [work(r) for r in rows], tasks, max_workers=WORKERS, **bar)
    return [each for of_task in found for each in of_task]


def decode(manifest: Manifest, size: int, take: Callable, *, leave: Collection[int] = ()) -> dict:
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
        return file_digest(image)

    hashes = in_parallel(work, len(manifest), "decoding")
    return {"hashes": hashes, "unreadable": sorted(faults, key=lambda fault: fault.row)}


def picture_faults(
    manifest: Manifest, *, hashes: list[str], unreadable: list, content: str = ""
) -> list[Fault]:
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
