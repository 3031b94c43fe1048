"""The pictures of a manifest, decoded once, then read from a file that is mapped into memory."""

import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

import numpy as np
from jaxtyping import UInt8

from xbl_kit.data.alike import twins
from xbl_kit.data.decode import BLAKE, PATHS, Planes, decode
from xbl_kit.data.faults import Fault
from xbl_kit.data.manifest import Manifest
from xbl_kit.storage import cache_folder, is_first_process, write_whole

FORMAT = 2  # another number makes all caches anew


def decoded(
    manifest: Manifest, size: int, *, retry: bool = True
) -> tuple[Manifest, UInt8[np.ndarray, "n planes size size"], list[Fault]]:
    """The rows that can be used, their pictures, mapped read-only, and the faults of the others.

    Images are the first plane, masks (0 or 1) the second. The first call decodes every file, in one
    pass that finds the faults and hashes the contents. What it has found is kept, so that a second
    call opens no file; only with `retry` are files read anew if some could not be read. Files are
    known by path, size and time of change: a change that leaves all three as they were is missed.

    Raises DataError where no row is left, OSError where the cache cannot be written.
    """
    files = _files(manifest)  # as they are before they are read
    record = _place(manifest, size, files, ".json")
    if not record.exists() or (retry and _found(record)["unreadable"]):
        _decode(manifest, size, files)
    found = _found(record)
    faults = twins(manifest, found["digests"]) + [Fault(*each) for each in found["unreadable"]]
    kept = manifest.without(faults)
    files = [files[row] for row in _rows_without(faults, len(manifest))]
    pictures = _place(manifest, size, files, ".pixels")
    if not pictures.exists():  # labels have changed, and with them which of two twins are kept
        _decode(kept, size, files)
    shape = (-1, 1 + ("mask" in manifest.rows), size, size)
    return kept, np.memmap(pictures, np.uint8, "r").reshape(shape), faults


def _found(record: Path) -> dict:
    return json.loads(record.read_text(encoding="utf-8"))


def _files(manifest: Manifest) -> list[str]:
    """What each row's files are known by."""
    columns = [manifest.rows[name] for name in PATHS if name in manifest.rows]
    files = []
    for row in zip(*columns, strict=True):
        seen = [(path.absolute(), path.stat()) for path in map(Path, row)]
        files.append(repr([(str(path), by.st_size, by.st_mtime_ns) for path, by in seen]))
    return files


def _place(manifest: Manifest, size: int, files: Sequence[str], suffix: str) -> Path:
    """Where that is kept which comes of `files`, read as the manifest says."""
    read = manifest.read if isinstance(manifest.read, partial) else partial(manifest.read)
    how = f"{FORMAT} {size} {read.func.__name__} {sorted(read.keywords.items())}"
    key = BLAKE("\n".join([how, *files]).encode()).hexdigest()
    return cache_folder() / "images" / f"{key}{suffix}"


def _rows_without(faults: Iterable[Fault], n: int) -> list[int]:
    return sorted(set(range(n)) - {fault.row for fault in faults})


def _decode(manifest: Manifest, size: int, files: Sequence[str]) -> None:
    """Keep the pictures of the rows that can be used, and then the record of all."""
    if not is_first_process():
        return
    record = _place(manifest, size, files, ".json")
    room = (1 + ("mask" in manifest.rows)) * manifest.frames * size**2
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=record.parent) as scratch:
            pictures = Path(scratch) / "pixels"
            found, rows = _write(manifest, size, pictures, room)
            pictures.replace(_place(manifest, size, [files[row] for row in rows], ".pixels"))
        write_whole(record, lambda path: path.write_text(json.dumps(found), encoding="utf-8"))
    except OSError as error:
        need = f"decoded images need {len(manifest) * room / 1e6:,.0f} MB"
        what = f"{error.strerror}; {need}, XBL_KIT_CACHE says where"
        raise OSError(error.errno, what, str(record.parent)) from None


def _write(manifest: Manifest, size: int, path: Path, room: int) -> tuple[dict, list[int]]:
    """Decode into a file, `room` bytes a row; what is found, and the rows that are left in it."""
    lock = Lock()
    with path.open("w+b") as file:

        def take(row: int, images: Planes) -> None:
            with lock:
                file.seek(row * room)
                file.write(images)

        digests, unreadable = decode(manifest, size, take)
        rows = _rows_without(twins(manifest, digests) + unreadable, len(manifest))
        for to, row in enumerate(rows):
            if to < row:  # closes the gaps that others leave
                file.seek(row * room)
                images = file.read(room)
                file.seek(to * room)
                file.write(images)
        file.truncate(len(rows) * room)
    return {"digests": digests, "unreadable": unreadable}, rows
