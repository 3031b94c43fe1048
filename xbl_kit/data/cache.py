"""The pictures of a manifest, decoded once, then read from a file that is mapped into memory."""

import hashlib
import json
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np
from jaxtyping import UInt8

from xbl_kit.data.decode import Planes, decode, twins
from xbl_kit.data.faults import DataError, Fault
from xbl_kit.data.manifest import Manifest
from xbl_kit.storage import cache_folder, write_whole

FORMAT = 2  # another number makes all caches anew


def decoded(
    manifest: Manifest, size: int, *, skip_faulty: bool = False
) -> tuple[Manifest, UInt8[np.ndarray, "n planes size size"]]:
    """The rows of a manifest and their pictures, mapped read-only: images, then masks of 0 and 1.

    Every file is decoded once, in a pass that also finds the faults and hashes the contents; the
    hashes are kept in a file beside the pictures. A second call opens no file, since files are
    known by path, size and time of change: a change that leaves all three as they were is missed.

    Raises DataError for pictures with a fault. With `skip_faulty` their rows are left out, by
    memory where they have been once: only without it are they tried again.
    """
    pictures = cache_folder() / "images" / f"{_key(manifest, size)}.pixels"
    record = pictures.with_suffix(".json")
    try:
        if skip_faulty and record.exists():
            _refuse(manifest, json.loads(record.read_text(encoding="utf-8")))
        if not pictures.exists():
            _decode(manifest, size, pictures, record)
    except DataError as error:
        if not skip_faulty:
            raise
        return decoded(manifest.without(error.faults), size, skip_faulty=True)
    shape = (-1, 1 + ("mask" in manifest.rows), size, size)
    return manifest, np.memmap(pictures, np.uint8, "r").reshape(shape)


def _key(manifest: Manifest, size: int) -> str:
    """A hash of what the files are known by, and of the way they are read."""
    read = manifest.read if isinstance(manifest.read, partial) else partial(manifest.read)
    key = [FORMAT, size, read.func.__name__, sorted(read.keywords.items())]
    for path in (Path(path).absolute() for paths in manifest.files().values() for path in paths):
        seen = path.stat()
        key += [str(path), seen.st_size, seen.st_mtime_ns]
    return hashlib.sha256(repr(key).encode()).hexdigest()


def _decode(manifest: Manifest, size: int, pictures: Path, record: Path) -> None:
    """Write the pictures, if none has a fault, and in any case the record of what was found."""
    lock = Lock()

    def write(path: Path) -> None:
        with path.open("wb") as file:

            def take(row: int, images: Planes) -> None:
                with lock:
                    file.seek(row * images.nbytes)
                    file.write(images)

            hashes, unreadable = decode(manifest, size, take)
        found = {"hashes": hashes, "unreadable": unreadable}
        write_whole(record, lambda path: path.write_text(json.dumps(found), encoding="utf-8"))
        _refuse(manifest, found)

    try:
        write_whole(pictures, write)
    except OSError as error:
        planes = len(manifest) * manifest.frames * (1 + ("mask" in manifest.rows))
        need = f"decoded images need {planes * size**2 / 1e6:,.0f} MB, XBL_KIT_CACHE says where"
        what = f"{error.strerror}; {need}"
        raise OSError(error.errno, what, str(pictures.parent)) from None


def _refuse(manifest: Manifest, found: dict) -> None:
    """Raise DataError where something is wrong with the pictures; twins by the labels of now."""
    unreadable = [Fault(*fault) for fault in found["unreadable"]]
    if faults := twins(manifest, found["hashes"]) + unreadable:
        raise DataError(*faults)
