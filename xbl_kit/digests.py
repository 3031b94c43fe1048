"""What is known by a hash, and found again by it: arrays, files, code; records with a seal."""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
from torch import Tensor

from xbl_kit import __version__
from xbl_kit.storage import load_json, sweep, write_json, write_whole

HASH = partial(hashlib.blake2b, digest_size=16)


def digest(*parts: str | np.ndarray | Tensor) -> str:
    """A hash of texts, arrays and tensors, each with its kind and shape."""
    found = HASH()
    for part in parts:
        content = part.numpy(force=True) if isinstance(part, Tensor) else part
        content = content.encode() if isinstance(content, str) else np.ascontiguousarray(content)
        kind = getattr(content, "dtype", "text"), getattr(content, "shape", len(content))
        found.update(f"{kind}".encode())
        found.update(content)
    return found.hexdigest()


def file_digest(path: str | Path) -> str:
    """A hash of what a file holds; "" where there is none."""
    if not Path(path).is_file():
        return ""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, HASH).hexdigest()


@cache
def code_digest(folder: Path) -> str:
    """A hash of the package's version and of the code in a folder of it."""
    files = sorted(folder.rglob("*.py"))
    return digest(__version__, *(file.read_text(encoding="utf-8") for file in files))


def write_sealed(path: str | Path, content: dict) -> None:
    """Write `content` as JSON, with a hash of it that `load_sealed` asks for."""
    write_json(path, content | {"seal": json_digest(content)})


def load_sealed(path: str | Path) -> dict | None:
    """What `write_sealed` wrote, or None where there is no file; ValueError where it is another."""
    found = load_json(path)
    content = dict(found) if isinstance(found, dict) else {}
    if found is not None and content.pop("seal", None) != json_digest(content):
        raise ValueError(f"{path}: not as xbl-kit wrote it; delete it, and it is made anew")
    return None if found is None else content


def json_digest(content: object) -> str:
    """A hash of what JSON has of a thing, whatever the order of its keys."""
    return digest(json.dumps(json.loads(json.dumps(content)), sort_keys=True))


def kept_array(
    path: Path, shape: tuple, dtype: type, fill: Callable[[BinaryIO], object], *, what: str
) -> np.ndarray:
    """The array in a file, mapped read-only. Where it is not there, or is another, `fill` is given
    a file, of which the header is written. OSError says how much `what` is kept there needs."""
    with suppress(Exception):
        array = np.load(path, mmap_mode="r")
        if array.shape == shape and array.dtype == dtype:
            return array
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))

    def write(partial: Path) -> None:
        with partial.open("rb+") as file:
            header = {"descr": descr, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            fill(file)

    size = prod(shape) * np.dtype(dtype).itemsize
    need = f"{what} need {size / 1e6:,.0f} MB, XBL_KIT_CACHE says where"
    sweep(path.parent)
    write_whole(path, write, size=size, what=need)
    return np.load(path, mmap_mode="r")
