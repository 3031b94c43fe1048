"""A manifest as a data set: decoded once, then read from a file that is mapped into memory."""

import hashlib
import math
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from xbl_kit.data.check import faults_before_decoding
from xbl_kit.data.dataset import Dataset
from xbl_kit.data.decode import in_parallel, row_reader
from xbl_kit.data.faults import DataError
from xbl_kit.data.manifest import Manifest
from xbl_kit.storage import cache_folder, write_whole

FORMAT = 1  # another number makes all caches anew


def read_manifest(manifest: Manifest, *, size: int) -> Dataset:
    """The data set of a manifest, its images memory-mapped.

    Files are decoded in parallel, once: the cache is named by a hash of their contents, of `size`
    and of the way of reading, so that a changed file makes another cache.

    Raises DataError naming the first fault and how many there are.
    """
    faults, digests = faults_before_decoding(manifest)
    if faults:
        raise DataError(*faults)
    planes = _decoded(manifest, size, digests)
    row = np.arange(len(manifest)).repeat(manifest.frames)
    columns = {name: column.to_numpy(dtype=str)[row] for name, column in manifest.rows.items()}
    classes, label = number(columns[manifest.target])
    factors = {factor: number(columns[factor]) for factor in manifest.factors}
    counter = columns.get("counter")
    return Dataset(
        images=planes[:, 0],
        label=label,
        classes=classes,
        patient=number(columns["patient"])[1] if "patient" in columns else torch.from_numpy(row),
        confounders={factor: level for factor, (_, level) in factors.items()},
        levels={factor: names for factor, (names, _) in factors.items()},
        masks={"lungs": planes[:, 1].view(bool)} if planes.shape[1] > 1 else {},
        counter=None if counter is None else torch.from_numpy(counter == "1"),
        split=columns.get("split"),
    )


def number(column: np.ndarray) -> tuple[tuple[str, ...], torch.Tensor]:
    """The sorted values of a column and each row's place among them, -1 where it is empty."""
    names = tuple(sorted(set(column.tolist()) - {""}))
    level = {name: i for i, name in enumerate(names)} | {"": -1}
    return names, torch.tensor([level[name] for name in column.tolist()])


def _decoded(
    manifest: Manifest, size: int, digests: list[bytes]
) -> UInt8[np.ndarray, "n planes size size"]:
    """What a `row_reader` gives of every row, one below the other, mapped read-only."""
    read = manifest.read if isinstance(manifest.read, partial) else partial(manifest.read)
    how = f"{FORMAT} {size} {read.func.__name__} {sorted(read.keywords.items())}"
    key = hashlib.blake2b(how.encode() + b"".join(digests), digest_size=16).hexdigest()
    path = cache_folder() / "images" / f"{key}.npy"

    shape = (len(manifest) * manifest.frames, 1 + ("mask" in manifest.rows), size, size)

    def write(partial_path: Path) -> None:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        with partial_path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            rows = in_parallel(row_reader(manifest, size), len(manifest), "decoding")
            for found in rows:
                file.write(found.tobytes())

    if not path.exists():
        try:
            write_whole(path, write)
        except OSError as error:
            room = math.prod(shape) / 1e6
            what = f"{error.strerror}; decoded images need {room:,.0f} MB, XBL_KIT_CACHE says where"
            raise OSError(error.errno, what, str(path.parent)) from None
    return np.load(path, mmap_mode="r")
