"""The one door to every data set."""

import warnings
from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path

from xbl_kit.data.cache import read_manifest
from xbl_kit.data.check import without_faults
from xbl_kit.data.dataset import Dataset
from xbl_kit.data.manifest import Manifest, select
from xbl_kit.data.morphomnist import open_morphomnist
from xbl_kit.data.phantom import Drawing, open_phantoms
from xbl_kit.data.readers import list_chexpert, list_mri, list_radiography, list_table

# Kinds that are made to order, and kinds that are listed from a folder and then read.
MADE: dict[str, Callable[..., Dataset]] = {
    "phantom": open_phantoms,
    "morphomnist": open_morphomnist,
}
LISTED: dict[str, Callable[..., Manifest]] = {
    "table": list_table,
    "radiography": list_radiography,
    "chexpert": list_chexpert,
    "mri": list_mri,
}
KINDS = (*MADE, *LISTED)

Root = str | Path | Sequence[str | Path] | None  # some kinds can be spread over several folders


def open_dataset(kind: str, root: Root = None, **options) -> Dataset:
    """The data set of a `kind`, one of `KINDS`, from the folder `root` where it needs one.

    For kinds that are made (`MADE`) `options` are those of their own function. Kinds that are
    read from a folder (`LISTED`) all have `size` (pixels, default 224), those of `list_images`, and
    `skip_faulty`. Every kind gives the same `Dataset`, whose rows are `Batch` records.

    Raises ValueError for an unknown kind, or a root that is missing or of no use; DataError, which
    is one, names the first fault of data that are read. With `skip_faulty` rows with a fault are
    left out instead, with a warning that counts them.
    """
    if kind in LISTED:
        size, skip = options.pop("size", 224), options.pop("skip_faulty", False)
        manifest = list_images(kind, root, **options)
        if skip:
            whole, manifest = len(manifest), without_faults(manifest)
            if left_out := whole - len(manifest):
                warnings.warn(f"{root}: {left_out} of {whole} rows left out", stacklevel=2)
        return read_manifest(manifest, size=size)
    if kind not in MADE:
        raise ValueError(f"data {kind!r}: expected one of {', '.join(KINDS)}")
    if kind == "phantom":
        if root is not None:
            raise ValueError(f"root={str(root)!r}: phantoms are drawn, not read; expected no root")
        _check_options(kind, options, open_phantoms, Drawing)
        return open_phantoms(**options)
    _check_root(kind, root)
    _check_options(kind, options, MADE[kind])
    return MADE[kind](root, **options)


def list_images(
    kind: str,
    root: Root,
    *,
    target: str = "label",
    labels: Sequence[str] = (),
    confounders: Sequence[str] | None = None,
    **options,
) -> Manifest:
    """The files of a `kind` of data that is read from a folder, and what is known of each.

    The label is column `target`, of which only the rows with one of `labels` are taken;
    `confounders` are, by default, all columns with 2 to 10 values. `options` are those of the
    kind's own function, such as `list_table`.

    Raises DataError where the source cannot be read, or has no such column or value.
    """
    _check_root(kind, root)
    _check_options(kind, options, LISTED[kind])
    manifest = LISTED[kind](root, **options)
    return select(manifest, target=target, labels=labels, confounders=confounders)


def _check_root(kind: str, root: Root) -> None:
    if root is None:
        raise ValueError(f"data {kind!r} is read from a folder: no root was given")


def _check_options(kind: str, options: dict, *takers: Callable) -> None:
    """Raise ValueError for an option that none of the functions `takers` has."""
    known = [
        parameter.name
        for taker in takers
        for parameter in signature(taker).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    for name in set(options) - set(known):
        expected = ", ".join(known) or "none of its own"
        raise ValueError(f"data {kind!r} has no option {name!r}, expected {expected}")
