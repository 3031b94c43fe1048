"""What is known by a hash: texts, arrays, files, code."""

import hashlib
from functools import cache, partial
from pathlib import Path

import numpy as np
from torch import Tensor

from xbl_kit import __version__

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
