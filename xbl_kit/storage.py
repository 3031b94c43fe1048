"""Where files land, each written whole or not at all, and by one process of a machine."""

import os
from collections.abc import Callable
from pathlib import Path


def cache_folder() -> Path:
    """Where downloads and caches land: $XBL_KIT_CACHE or ~/.cache/xbl-kit."""
    return Path(os.environ.get("XBL_KIT_CACHE") or Path.home() / ".cache" / "xbl-kit")


def is_first_process() -> bool:
    """Whether this is the process that writes: under `torchrun` one a machine, else always."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def write_whole(path: str | Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it: no half-written files.

    Of the processes that `torchrun` starts on a machine only the first one writes.
    """
    if not is_first_process():
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
