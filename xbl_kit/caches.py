"""Arrays that took long to make, kept in a file."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from xbl_kit.storage import sweep, write_whole

Arrays = dict[str, np.ndarray]


def cached_arrays(path: Path, make: Callable[[], Arrays], shapes: dict[str, tuple]) -> Arrays:
    """The arrays of bytes that `make()` gives, from the file `path` where they were written before.

    A file that is damaged, or holds other `shapes`, is made anew. Where none can be written nothing
    is lost but time.
    """
    with suppress(Exception), np.load(path, allow_pickle=False) as there:
        found = dict(there)
        if {name: (x.dtype, x.shape) for name, x in found.items()} == {
            name: (np.uint8, shape) for name, shape in shapes.items()
        }:
            return found
    arrays = make()

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            np.savez(file, **arrays)

    with suppress(OSError):
        sweep(path.parent)
        write_whole(path, write)
    return arrays
