"""The one door to every data set."""

from collections.abc import Callable
from pathlib import Path

from xbl_kit.data.cohort import open_phantoms
from xbl_kit.data.dataset import Dataset
from xbl_kit.data.morphomnist import open_morphomnist
from xbl_kit.data.table import open_table

KINDS: dict[str, Callable[..., Dataset]] = {
    "phantom": open_phantoms,
    "morphomnist": open_morphomnist,
    "table": open_table,
}


def open_dataset(kind: str, root: str | Path | None = None, **options) -> Dataset:
    """The data set of a `kind`, one of `KINDS`, from the folder `root` where it needs one.

    `options` are those of the kind's own function, such as `open_phantoms`. Every kind gives the
    same `Dataset`, whose rows are `Batch` records.

    Raises ValueError for an unknown kind, or a root that is missing or of no use.
    """
    if kind not in KINDS:
        raise ValueError(f"data {kind!r}: expected one of {', '.join(KINDS)}")
    if kind == "phantom":
        if root is not None:
            raise ValueError(f"root={str(root)!r}: phantoms are drawn, not read; expected no root")
        return open_phantoms(**options)
    if root is None:
        raise ValueError(f"data {kind!r} is read from a folder: no root was given")
    return KINDS[kind](root, **options)
