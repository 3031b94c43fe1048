"""All files of a listing, worked on in parallel: found, hashed, decoded."""

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

from xbl_kit.data.fault import DataError, Fault
from xbl_kit.data.listing import Listing
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


def find_files(listing: Listing) -> tuple[list[bytes], list[Fault]]:
    """For every row a hash of its image's and mask's contents, and what files cannot be had."""
    columns = [(name, listing.rows[name].tolist()) for name in PATHS if name in listing.rows]
    roots = [root.resolve() for root in listing.roots]
    faults: list[Fault] = []

    def digest(row: int) -> bytes:
        found = b""
        for name, paths in columns:
            content = _content(paths[row], roots)
            if isinstance(content, str):
                faults.append(Fault(listing.where[row], f"{name} {content}", row))
            else:
                found += hashlib.blake2b(content, digest_size=16).digest()
        return found

    digests = list(in_parallel(digest, len(listing), "reading files"))
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


def read_row(listing: Listing, row: int, size: int) -> UInt8[np.ndarray, "frames planes size size"]:
    """The images of a row's file, and as a second plane its mask (0 or 1) where there are masks.

    Raises DataError naming the file.
    """
    image = Path(listing.rows["image"][row])
    try:
        planes = [listing.read(image, size)]
        if "mask" in listing.rows:
            mask = read_mask(Path(listing.rows["mask"][row]), size, image)
            planes.append(mask[None].astype(np.uint8))
    except DataError as error:
        raise DataError(*(fault._replace(row=row) for fault in error.faults)) from None
    return np.stack(planes, axis=1)
