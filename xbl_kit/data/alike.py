"""One picture in two rows: the same byte for byte, or one that looks like the other."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations_with_replacement

import numpy as np
from jaxtyping import Bool, UInt8
from scipy.fft import dctn

from xbl_kit.data.faults import Fault
from xbl_kit.data.manifest import Manifest

SMALL, COARSE = 32, 16  # px, and frequencies a side that are kept of as many
ALIKE = 0.05  # of the bits may differ in pictures that look alike
TILE = 2048  # rows compared with as many others at a time


def twins(manifest: Manifest, digests: Sequence[str]) -> list[Fault]:
    """The same picture, byte for byte, in two rows; the second is at fault, both in a conflict.

    `digests` are those of `decode`.
    """
    first: dict[str, int] = {}
    faults = []
    for row, digest in enumerate(digests):
        other = first.setdefault(digest.partition(" ")[0], row)
        if other == row or not digest:
            continue
        conflict = _conflict(manifest, row, other)
        for one, two in ((row, other), (other, row)) if conflict else ((row, other),):
            what = f"the same picture as {manifest.other(two, beside=one)}{conflict}"
            faults.append(_fault(manifest, one, what))
    return faults


def lookalikes(manifest: Manifest, looks: Mapping[int, Bool[np.ndarray, " bits"]]) -> list[Fault]:
    """Pictures of two patients that look alike under two labels or in two splits.

    `looks` holds what `look` gives of each row that is compared.
    """
    rows = sorted(looks)
    if not rows:
        return []
    patient = manifest.rows.get("patient", manifest.rows.index)
    faults = []
    for one, two in _alike(np.stack([looks[row] for row in rows])):
        one, two = rows[one], rows[two]
        if patient[one] != patient[two] and (conflict := _conflict(manifest, one, two)):
            what = f"looks like {manifest.other(one, beside=two)}{conflict}"
            faults.append(_fault(manifest, two, what))
    return faults


def look(frames: UInt8[np.ndarray, "frames size size"]) -> Bool[np.ndarray, " bits"]:
    """The perceptual hash (Zauner 2010): which coarse frequencies are above their median.

    It outlives coding, scaling and another brightness or contrast.
    """
    coarse = dctn(frames.astype(np.float32), axes=(1, 2))[:, :COARSE, :COARSE]
    coarse = coarse.reshape(len(frames), -1)[:, 1:]  # without the mean brightness
    return (coarse > np.median(coarse, axis=1, keepdims=True)).ravel()


def _alike(looks: Bool[np.ndarray, "n bits"]) -> Iterator[tuple[int, int]]:
    """Pairs of rows whose bits differ in no more than a share of `ALIKE`."""
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
