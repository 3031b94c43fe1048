"""What is kept to be found again, and taken only where it is as it was left: records and arrays."""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np

from xbl_kit.digests import digest
from xbl_kit.storage import load_json, write_json


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


def load_array(path: Path, shape: tuple, dtype: type, *, mapped: bool = False) -> np.ndarray | None:
    """The array in a file, in memory or mapped; None where it is not there, or is another."""
    with suppress(Exception):
        array = np.load(path, mmap_mode="r" if mapped else None)
        if array.shape == shape and array.dtype == dtype:
            return array
    return None
