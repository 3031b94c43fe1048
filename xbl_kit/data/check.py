"""Every fault of a manifest: of its rows, of its files, of both together."""

from collections.abc import Iterator
from itertools import combinations_with_replacement

import numpy as np
from jaxtyping import Bool, UInt8
from scipy.fft import dctn

from xbl_kit.data.decode import find_files, in_parallel, row_reader
from xbl_kit.data.faults import DataError, Fault
from xbl_kit.data.manifest import Manifest
from xbl_kit.data.rows import faults_in_rows

SMALL, COARSE = 32, 16  # px, and frequencies a side that are kept of as many
ALIKE = 0.05  # of the bits may differ in pictures that look alike
TILE = 2048  # rows compared with as many others at a time


def check(manifest: Manifest) -> list[Fault]:
    """Every fault there is: all that `read_manifest` would refuse, and pictures that look alike."""
    faults, looks = faults_that_matter(manifest)
    return faults + lookalikes(manifest, looks)


def without_faults(manifest: Manifest) -> Manifest:
    """The rows that `read_manifest` would not refuse.

    Raises DataError where a fault is not that of a single row, or where no row is left.
    """
    faults, _ = faults_that_matter(manifest)
    kept = np.ones(len(manifest), dtype=bool)
    for fault in faults:
        if fault.row is None:
            raise DataError(fault)
        kept[fault.row] = False
    if not kept.any():
        raise DataError(*faults)
    return manifest.keep(kept)


def faults_before_decoding(manifest: Manifest) -> tuple[list[Fault], list[bytes]]:
    """The faults that show before a picture is decoded, and a hash of every row's files."""
    faults = faults_in_rows(manifest)
    digests, missing = find_files(manifest)
    return faults + missing + twins(manifest, digests), digests


def faults_that_matter(manifest: Manifest) -> tuple[list[Fault], dict[int, np.ndarray]]:
    """What `read_manifest` would refuse, and the looks, as bits, of the rows that can be read."""
    faults, digests = faults_before_decoding(manifest)
    bad = {fault.row for fault in faults}
    looks = {}
    read = row_reader(manifest, SMALL)

    def look(row: int) -> list[Fault]:
        if not digests[row]:
            return []
        try:
            images = read(row)[:, 0]
        except DataError as error:
            return list(error.faults)
        if row not in bad:
            looks[row] = _look(images)
        return []

    for found in in_parallel(look, len(manifest), "decoding"):
        faults += found
    return faults, looks


def _look(frames: UInt8[np.ndarray, "frames size size"]) -> Bool[np.ndarray, " bits"]:
    """The perceptual hash (Zauner 2010): which coarse frequencies are above their median.

    It outlives coding, scaling and another brightness or contrast.
    """
    coarse = dctn(frames.astype(np.float32), axes=(1, 2))[:, :COARSE, :COARSE]
    coarse = coarse.reshape(len(frames), -1)[:, 1:]  # without the mean brightness
    return (coarse > np.median(coarse, axis=1, keepdims=True)).ravel()


def twins(manifest: Manifest, digests: list[bytes]) -> list[Fault]:
    """The same picture, byte for byte, in two rows; the second is at fault, both in a conflict."""
    first: dict[bytes, int] = {}
    faults = []
    for row, digest in enumerate(digests):
        if not digest:
            continue
        other = first.setdefault(digest[:16], row)
        if other == row:
            continue
        conflict = _conflict(manifest, row, other)
        for one, two in ((row, other), (other, row)) if conflict else ((row, other),):
            what = f"the same picture as {manifest.other(two, beside=one)}{conflict}"
            faults.append(_fault(manifest, one, what))
    return faults


def lookalikes(manifest: Manifest, looks: dict[int, np.ndarray]) -> list[Fault]:
    """Pictures of two patients that look alike under two labels or in two splits.

    `looks` holds the perceptual hash of each row, see `_look`.
    """
    rows = sorted(looks)
    patient = (
        manifest.rows["patient"].tolist() if "patient" in manifest.rows else range(len(manifest))
    )
    faults = []
    for one, two in _alike(np.stack([looks[row] for row in rows]) if rows else np.empty((0, 1))):
        one, two = rows[one], rows[two]
        if patient[one] != patient[two] and (conflict := _conflict(manifest, one, two)):
            what = f"looks like {manifest.other(one, beside=two)}{conflict}"
            faults.append(_fault(manifest, two, what))
    return faults


def _alike(looks: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of rows whose bits (n, d) differ in no more than a share of `ALIKE`."""
    signs = np.where(looks, 1, -1).astype(np.float32)
    least = signs.shape[1] * (1 - 2 * ALIKE)
    starts = range(0, len(signs), TILE)
    for i, j in combinations_with_replacement(starts, 2):
        found = np.argwhere(signs[i : i + TILE] @ signs[j : j + TILE].T >= least).tolist()
        yield from ((i + one, j + two) for one, two in found if i + one < j + two)


def _conflict(manifest: Manifest, row: int, other: int) -> str:
    """In what two rows with one picture contradict each other, "" where they do not."""
    for column in (manifest.target, "split"):
        if column in manifest.rows:
            one, two = manifest.rows[column][[row, other]]
            if one != two:
                return f", yet {column} is {one!r} and {two!r}"
    return ""


def _fault(manifest: Manifest, row: int, what: str) -> Fault:
    where, image = manifest.where[row], manifest.rows["image"][row]
    return Fault(where if image.endswith(where) else f"{where} ({image})", what, row)
