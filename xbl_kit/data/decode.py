"""All files of a manifest, worked on in parallel: found, hashed, decoded."""

import errno
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from tqdm.auto import tqdm

from xbl_kit.data.faults import DataError, Fault
from xbl_kit.data.manifest import Manifest
from xbl_kit.data.picture import read_mask

CHUNK = 8  # files a task of the pool
WORKERS = min(32, (os.cpu_count() or 1) + 4)
PATHS = ("image", "mask")


def in_parallel(work: Callable[[int], object], n: int, title: str) -> Iterator:
    """`work(row)` of n rows, in order, by threads, with a bar; an error ends the rest."""
    pool = ThreadPoolExecutor(WORKERS)
    chunks = (range(start, min(start + CHUNK, n)) for start in range(0, n, CHUNK))
    tasks = (pool.submit(lambda rows: [work(row) for row in rows], chunk) for chunk in chunks)
    # So many chunks wait for a slow taker of the results, and no more: memory stays flat.
    waiting = deque(islice(tasks, 2 * WORKERS))
    try:
        with tqdm(total=n, desc=title, unit="file", disable=None) as bar:
            while waiting:
                done = waiting.popleft().result()
                waiting.extend(islice(tasks, 1))
                bar.update(len(done))
                yield from done
    finally:
        pool.shutdown(cancel_futures=True)


def find_files(manifest: Manifest) -> tuple[list[bytes], list[Fault]]:
    """A hash of each row's image and mask, b"" where one cannot be had, and why it cannot be."""
    columns = [(name, manifest.rows[name].tolist()) for name in PATHS if name in manifest.rows]
    roots = [root.resolve() for root in manifest.roots]
    faults: list[Fault] = []

    def digest(row: int) -> bytes:
        found = []
        for name, paths in columns:
            content = _content(paths[row], roots)
            if isinstance(content, str):
                faults.append(Fault(manifest.where[row], f"{name} {content}", row))
            else:
                found.append(hashlib.blake2b(content, digest_size=16).digest())
        return b"".join(found) if len(found) == len(columns) else b""

    digests = list(in_parallel(digest, len(manifest), "reading files"))
    return digests, sorted(faults, key=lambda fault: fault.row)


def _content(path: str, roots: list[Path]) -> bytes | str:
    """The bytes of a file below one of the `roots`, or why it cannot be had."""
    if not path:
        return "is '', expected a path"
    try:
        real = Path(path).resolve(strict=True)
        if not any(real.is_relative_to(root) for root in roots):
            return f"{path}: leads out of {roots[0]}"
        if not real.is_file():
            return f"{path}: not a file"
        return real.read_bytes() or f"{path}: empty file"
    except FileNotFoundError:
        slashes = ", folders are separated by /" if "\\" in path else ""
        return f"{path}: no such file{slashes}"
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop, before Python 3.13
        loop = isinstance(error, RuntimeError) or error.errno == errno.ELOOP
        return f"{path}: {'a loop of links' if loop else f'cannot be read ({error.strerror})'}"


def row_reader(
    manifest: Manifest, size: int
) -> Callable[[int], UInt8[np.ndarray, "frames planes size size"]]:
    """A function that gives, of a row, the images of its file, and its mask as a second plane.

    Masks are 0 or 1. The function raises DataError naming the file.
    """
    images = manifest.rows["image"].tolist()
    masks = manifest.rows["mask"].tolist() if "mask" in manifest.rows else None

    def read(row: int) -> np.ndarray:
        image = Path(images[row])
        try:
            planes = [manifest.read(image, size)]
            if masks:
                planes.append(read_mask(Path(masks[row]), size, image)[None].astype(np.uint8))
        except DataError as error:
            raise DataError(*(fault._replace(row=row) for fault in error.faults)) from None
        return np.stack(planes, axis=1)

    return read
