"""The one door to every data set."""

import warnings
from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from xbl_kit.data.cache import decoded
from xbl_kit.data.check import check, file_faults, row_faults
from xbl_kit.data.dataset import Dataset
from xbl_kit.data.faults import DataError, Fault, one_of
from xbl_kit.data.manifest import Manifest, select
from xbl_kit.data.morphomnist import open_morphomnist
from xbl_kit.data.phantom import make_phantoms, open_phantoms
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
        reading = {name: options.pop(name) for name in ("size", "skip_faulty") if name in options}
        return read_manifest(list_images(kind, root, **options), **reading)
    one_of("data", kind, KINDS)
    if kind == "phantom":
        if root is not None:
            raise ValueError(f"root={str(root)!r}: phantoms are drawn, not read; expected no root")
        _check_options(kind, options, open_phantoms, make_phantoms)
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
    mask_region: str | None = None,
    **options,
) -> Manifest:
    """The files of a `kind` of data that is read from a folder, and what is known of each.

    The label is column `target`, of which only the rows with one of `labels` are taken;
    `confounders` are, by default, all columns with 2 to 10 values. `mask_region` is what the masks
    are of, by default the lungs. `options` are those of the kind's own function, such as
    `list_table`.

    Raises DataError where the source cannot be read, or has no such column or value.
    """
    _check_root(kind, root)
    _check_options(kind, options, LISTED[kind])
    manifest = LISTED[kind](root, **options)
    return select(
        manifest, target=target, labels=labels, confounders=confounders, region=mask_region
    )


def check_data(kind: str, root: Root = None, **options) -> list[Fault]:
    """Every fault of a folder of data; `options` are those of `list_images`.

    Raises ValueError for data that are drawn, or settings that are of no use.
    """
    if kind not in LISTED:
        raise ValueError(f"data {kind!r} are made, not found: expected {', '.join(LISTED)}")
    try:
        return check(list_images(kind, root, **options))
    except DataError as error:
        return list(error.faults)


def read_manifest(manifest: Manifest, *, size: int = 224, skip_faulty: bool = False) -> Dataset:
    """The data set of a manifest, its images memory-mapped; see `cache.decoded`.

    Raises DataError naming the first fault and how many there are; with `skip_faulty` only where
    no row can be used or where the others make no data set.
    """

    def judge(faults: list[Fault]) -> None:
        if faults and not skip_faulty:
            raise DataError(*faults)

    faults = row_faults(manifest) + file_faults(manifest)
    judge(faults)
    kept, planes, unusable = decoded(manifest.without(faults), size, retry=not skip_faulty)
    judge(unusable)
    if left_out := len(manifest) - len(kept):
        what = f"{manifest.roots[0]}: {left_out} of {len(manifest)} rows left out"
        warnings.warn(f"{what}; `xbl-kit data check` lists them", stacklevel=3)
        if faults := row_faults(kept):
            raise DataError(*faults)
    return _dataset(kept, planes)


def _dataset(manifest: Manifest, planes: UInt8[np.ndarray, "n planes size size"]) -> Dataset:
    row = np.arange(len(manifest)).repeat(manifest.frames)
    columns = {name: column.to_numpy(dtype=str)[row] for name, column in manifest.rows.items()}
    classes, label = _numbered(columns[manifest.target])
    factors = {factor: _numbered(columns[factor]) for factor in manifest.factors}
    counter = columns.get("counter")
    return Dataset(
        images=planes[:, 0],
        label=label,
        classes=classes,
        patient=_numbered(columns["patient"])[1] if "patient" in columns else torch.from_numpy(row),
        confounders={factor: level for factor, (_, level) in factors.items()},
        levels={factor: names for factor, (names, _) in factors.items()},
        masks={manifest.region: planes[:, 1].view(bool)} if planes.shape[1] > 1 else {},
        counter=None if counter is None else torch.from_numpy(counter == "1"),
        split=columns.get("split"),
    )


def _numbered(column: np.ndarray) -> tuple[tuple[str, ...], torch.Tensor]:
    """The sorted values of a column and each row's place among them, -1 where it is empty."""
    names = tuple(sorted(set(column.tolist()) - {""}))
    level = {name: i for i, name in enumerate(names)} | {"": -1}
    return names, torch.tensor([level[name] for name in column.tolist()])


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
