"""What is known by a hash, and found again by it: arrays, files, code; records with a seal."""

import hashlib
import json
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

import numpy as np
from torch import Tensor

from xbl_kit import __version__
from xbl_kit.storage import load_json, write_json

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
    write_json(path, content | {"seal": _seal(content)})


def load_sealed(path: str | Path) -> dict | None:
    """What `write_sealed` wrote, or None where there is no file; ValueError where it is another."""
    found = load_json(path)
    content = dict(found) if isinstance(found, dict) else {}
    if found is not None and content.pop("seal", None) != _seal(content):
        raise ValueError(f"{path}: not as xbl-kit wrote it; delete it, and it is made anew")
    return None if found is None else content


def _seal(content: dict) -> str:
    return digest(json.dumps(json.loads(json.dumps(content)), sort_keys=True))


def load_array(path: Path, shape: tuple, dtype: type) -> np.ndarray | None:
    """The array in a file, mapped read-only; None where it is not there, or is another."""
    with suppress(Exception):
        array = np.load(path, mmap_mode="r")
        if array.shape == shape and array.dtype == dtype:
            return array
    return None
