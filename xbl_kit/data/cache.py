"""The pictures of a manifest, decoded once, then read from a file that is mapped into memory."""

import hashlib
from functools import partial
from math import prod
from pathlib import Path
from threading import Lock

import numpy as np

from xbl_kit.data.decode import Planes, decode, picture_faults
from xbl_kit.data.faults import DataError
from xbl_kit.data.manifest import Manifest
from xbl_kit.storage import cache_folder, load_json, write_json, write_whole

FORMAT = 3  # another number makes all caches anew


def decoded(manifest: Manifest, size: int, *, skip_faulty: bool = False) -> tuple[Manifest, Planes]:
    """The rows of a manifest and their pictures, mapped read-only: images, then masks of 0 and 1.

    Every file is decoded once, in a pass that also finds the faults and hashes the contents; the
    hashes are kept in a file beside the pictures. A second call opens no file, since files are
    known by path, size and time of change: a change that leaves all three as they were is missed.

    Raises DataError for pictures with a fault. With `skip_faulty` their rows are left out, by
    memory where they have been once: only without it are they tried again.
    """
    pictures = cache_folder() / "images" / f"{_key(manifest, size)}.pixels"
    record = pictures.with_suffix(".json")
    shape = (len(manifest) * manifest.frames, manifest.files().shape[1], size, size)
    try:
        if skip_faulty and (found := load_json(record)):
            _refuse(manifest, found)
        if not pictures.exists():
            _decode(manifest, shape, pictures, record)
    except DataError as error:
        if not skip_faulty:
            raise
        return decoded(manifest.without(error.faults), size, skip_faulty=True)
    return manifest, np.memmap(pictures, np.uint8, "r", shape=shape)


def _key(manifest: Manifest, size: int) -> str:
    """A hash of what the files are known by, and of the way they are read."""
    read = partial(manifest.read)  # of a partial: its function, with its options
    key = [FORMAT, size, read.func.__name__, sorted(read.keywords.items())]
    for path in (Path(path).absolute() for path in manifest.files().to_numpy().flat):
        seen = path.stat()
        key += [str(path), seen.st_size, seen.st_mtime_ns]
    return hashlib.sha256(repr(key).encode()).hexdigest()


def _decode(manifest: Manifest, shape: tuple[int, ...], pictures: Path, record: Path) -> None:
    """Write the pictures, if none has a fault, and in any case the record of what was found."""
    lock = Lock()

    def write(path: Path) -> None:
        with path.open("wb") as file:

            def take(row: int, images: Planes) -> None:
                with lock:
                    file.seek(row * images.nbytes)
                    file.write(images)

            found = decode(manifest, shape[-1], take)
        write_json(record, found)
        _refuse(manifest, found)

    try:
        write_whole(pictures, write)
    except OSError as error:
        need = f"decoded images need {prod(shape) / 1e6:,.0f} MB, XBL_KIT_CACHE says where"
        raise OSError(error.errno, f"{error.strerror}; {need}", str(pictures.parent)) from None


def _refuse(manifest: Manifest, found: dict) -> None:
    """Raise DataError where something is wrong with the pictures; twins by the labels of now."""
    if faults := picture_faults(manifest, **found):
        raise DataError(*faults)
