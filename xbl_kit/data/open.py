"""The one door to every data set."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from xbl_kit.data.cache import Planes, content_of, decoded
from xbl_kit.data.check import check, file_faults, row_faults
from xbl_kit.data.dataset import Dataset
from xbl_kit.data.faults import DataError, Fault, one_of, refuse_all
from xbl_kit.data.manifest import RESERVED, Manifest, select
from xbl_kit.data.morphomnist import mnist, open_morphomnist
from xbl_kit.data.options import fitted, keywords
from xbl_kit.data.phantom import Drawing, open_phantoms
from xbl_kit.data.readers import list_chexpert, list_mri, list_radiography, list_table
from xbl_kit.digests import digest

# Kinds that are made to order, and kinds that are listed from a folder and then read.
MADE = dict(phantom=open_phantoms, morphomnist=open_morphomnist)
LISTED = dict(table=list_table, radiography=list_radiography, chexpert=list_chexpert, mri=list_mri)
KINDS = (*MADE, *LISTED)

Root = str | Path | Sequence[str | Path] | None  # some kinds can be spread over several folders


def open_dataset(kind: str, root: Root = None, **options) -> Dataset:
    """The data set of a `kind`, one of `KINDS`, from the folder `root` where it needs one.

    For kinds that are made (`MADE`) `options` are those of their own function. Kinds that are
    read from a folder (`LISTED`) have those of `list_images` and of `read_manifest`: `size` and
    `skip_faulty`. Every kind gives the same `Dataset`, whose rows are `Batch` records.

    Raises ValueError for an unknown kind, or a root that is missing or of no use; DataError, which
    is one, names the first fault of data that are read.
    """
    if kind in LISTED:
        reading = _take(options, read_manifest)
        return read_manifest(list_images(kind, root, **options), **reading)
    one_of("data", kind, KINDS)
    takers = (open_phantoms, Drawing) if kind == "phantom" else (MADE[kind],)
    _refuse(kind, root, options, *takers)
    for taker in takers:
        options |= fitted(options, taker)
    return MADE[kind](*[root] * (kind != "phantom"), **options)


def list_images(kind: str, root: Root, **options) -> Manifest:
    """The files of a `kind` of data that is read from a folder, and what is known of each.

    `options` are those of the kind's own function, such as `list_table`, and of
    `manifest.select`: `target`, `labels`, `confounders` and `mask_region`.

    Raises DataError where the source cannot be read, or has no such column or value.
    """
    selection = _take(options, select)
    _refuse(kind, root, options, LISTED[kind])
    return select(LISTED[kind](root, **fitted(options, LISTED[kind])), **selection)


def fitted_to(kind: str, options: Mapping[str, object]) -> dict:
    """Options of a kind of data on disk as they are wanted, wherever they come from."""
    takers = read_manifest, select, LISTED[kind]
    return dict(options) | {k: v for taker in takers for k, v in fitted(options, taker).items()}


def data_digest(kind: str, root: Root, **options) -> str:
    """A hash of what `open_dataset` gives for data on disk; what is cached stays closed. Of MNIST
    it is that of all digits."""
    if kind == "morphomnist":
        return digest(*(each for part in mnist(root) for each in (part.data, part.targets)))
    reading = {"size": 224} | _take(options, read_manifest)
    manifest = list_images(kind, root, **options)
    if reading.get("skip_faulty"):
        manifest = manifest.without(row_faults(manifest) + file_faults(manifest))
    rows = manifest.rows.filter([*RESERVED, manifest.target, *manifest.factors])
    rows = rows.drop(columns=["image", "mask"], errors="ignore")  # which may lie elsewhere now
    how = f"{manifest.region} {reading}"
    return digest(content_of(manifest, **reading), rows.to_csv(index=False), how)


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
    """The data set of a manifest, its images size x size, memory-mapped; see `cache.decoded`.

    With `skip_faulty` rows with a fault are left out, and a warning counts them.
    Raises DataError naming the first fault and how many there are.
    """
    if size < 1:
        raise ValueError(f"size={size}: expected 1 or more")
    faults = row_faults(manifest) + file_faults(manifest)
    refuse_all([] if skip_faulty else faults)
    kept, planes = decoded(manifest.without(faults), size, skip_faulty=skip_faulty)
    if left_out := len(manifest) - len(kept):
        what = f"{manifest.roots[0]}: {left_out} of {len(manifest)} rows left out"
        warnings.warn(f"{what}; `xbl-kit data check` lists them", stacklevel=3)
        refuse_all(row_faults(kept))
    return _dataset(kept, planes)


def _dataset(manifest: Manifest, planes: Planes) -> Dataset:
    row = np.arange(len(manifest)).repeat(manifest.frames)
    rows = manifest.rows.iloc[row]
    classes, label = _numbered(rows[manifest.target])
    factors = {factor: _numbered(rows[factor]) for factor in manifest.factors}
    return Dataset(
        images=planes[:, 0],
        label=label,
        classes=classes,
        patient=_numbered(rows["patient"])[1] if "patient" in rows else torch.from_numpy(row),
        confounders={factor: level for factor, (_, level) in factors.items()},
        levels={factor: names for factor, (names, _) in factors.items()},
        masks={manifest.region: planes[:, 1].view(bool)} if planes.shape[1] > 1 else {},
        counter=torch.tensor(list(rows["counter"] == "1")) if "counter" in rows else None,
        split=rows["split"].to_numpy(dtype=str) if "split" in rows else None,
    )


def _numbered(column: pd.Series) -> tuple[tuple[str, ...], torch.Tensor]:
    """The sorted values of a column and each row's place among them, -1 where it is empty."""
    level, names = pd.factorize(column.where(column != ""), sort=True)
    return tuple(names), torch.from_numpy(level)


def _refuse(kind: str, root: Root, options: dict, *takers: Callable) -> None:
    """Raise ValueError for a root of no use, and for an option that none of the `takers` has."""
    if root is not None and kind == "phantom":
        raise ValueError(f"root={str(root)!r}: phantoms are drawn, not read; expected no root")
    if root is None and kind != "phantom":
        raise ValueError(f"data {kind!r} is read from a folder: no root was given")
    known = [name for taker in takers for name in keywords(taker)]
    for name in [name for name in options if name not in known]:
        expected = ", ".join(known) or "none of its own"
        raise ValueError(f"data {kind!r} has no option {name!r}, expected {expected}")


def _take(options: dict, function: Callable) -> dict:
    """Those of the `options` that are a function's own, taken out of them, as it wants them."""
    own = fitted(options, function)
    for name in own:
        del options[name]
    return own
