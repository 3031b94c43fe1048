"""Morpho-MNIST: digits whose stroke and rotation are set, as two spurious factors."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int, UInt8
from torchvision.datasets import MNIST

from xbl_kit.data.confound import lay_out
from xbl_kit.data.dataset import Dataset

CLASSES = ("0-4", "5-9")
FACTORS = {"stroke": ("thin", "thick"), "rotation": ("none", "90 degrees")}
# Of the digit's own stroke width: what thinning leaves of it, what thickening adds to it.
THIN, THICK = 0.5, 1.0
PER_CELL = {"train": 500, "val": 50, "test": 100}

Images = UInt8[np.ndarray, "n h w"]
Ints, Flags = Int[np.ndarray, " n"], Bool[np.ndarray, " n"]


def open_morphomnist(
    root: str | Path,
    *,
    per_cell: Mapping[str, int | np.ndarray] = PER_CELL,
    crossed: Sequence[str] = tuple(FACTORS),
    size: int = 28,
    seed: int = 0,
) -> Dataset:
    """MNIST digits, 0-4 against 5-9, each drawn once in one cell of class, stroke and rotation.

    Thinning and thickening are those of Morpho-MNIST (Castro et al. 2019, here 50 and 100 % of
    the digit's own width), the task that of MIMM's two-factor extension. `per_cell` is as in
    `open_phantoms`; "test" is taken from MNIST's test set. `root` holds `MNIST/raw` as torchvision
    lays it out; where it does not, MNIST is downloaded there and its checksums are verified.

    Raises ValueError for an unknown factor or where MNIST has fewer digits than are wanted.
    """
    columns = lay_out(per_cell, crossed, len(CLASSES), FACTORS, seed=seed)
    split, label = columns.pop("split"), columns.pop("label")
    digits, number = _choose(root, label, split == "test", seed)
    return Dataset(
        images=_redraw(digits, columns["stroke"] == 1, columns["rotation"] == 1, size),
        label=torch.from_numpy(label),
        classes=CLASSES,
        patient=torch.from_numpy(number),
        confounders={factor: torch.from_numpy(level) for factor, level in columns.items()},
        levels=FACTORS,
        split=split,
    )


def mnist(root: str | Path) -> list[MNIST]:
    """MNIST, its training and its test set; ValueError where it cannot be had."""
    try:
        return [MNIST(root, train=part, download=True) for part in (True, False)]
    except (RuntimeError, OSError) as error:
        raise ValueError(f"{root}: no MNIST there, and it cannot be downloaded ({error})") from None


def _choose(root: str | Path, label: Ints, held_out: Flags, seed: int) -> tuple[Images, Ints]:
    """A digit for every row, none twice, and its number: test digits come after all others."""
    train, test = mnist(root)
    rng = np.random.default_rng(seed)
    digits, number = np.empty((len(label), 28, 28), np.uint8), np.empty(len(label), np.int64)
    for source, before, wanted in ((train, 0, ~held_out), (test, 60_000, held_out)):
        for y, name in enumerate(CLASSES):
            rows = np.flatnonzero(wanted & (label == y))
            own = rng.permutation(np.flatnonzero((source.targets.numpy() >= 5) == y))[: len(rows)]
            if len(own) < len(rows):
                raise ValueError(f"{root}: MNIST has {len(own)} digits {name}, {len(rows)} wanted")
            digits[rows], number[rows] = source.data.numpy()[own], before + own
    return digits, number


def _redraw(digits: Images, thick: Flags, turned: Flags, size: int) -> UInt8[np.ndarray, "n s s"]:
    """Each digit, at three times its size, thinned or thickened and turned; `size` pixels wide."""
    large = F.interpolate(torch.from_numpy(digits)[:, None].float(), scale_factor=3)
    large = F.avg_pool2d(large, 3, stride=1, padding=1)[:, 0].numpy() > 127
    drawn = np.stack([_restroke(*each) for each in zip(large, thick.tolist(), strict=True)])
    drawn[turned] = np.rot90(drawn[turned], axes=(1, 2))
    small = F.interpolate(torch.from_numpy(drawn)[:, None].float(), (size, size), mode="area")
    return (255 * small[:, 0]).round().to(torch.uint8).numpy()


def _restroke(ink: Bool[np.ndarray, "h w"], thicken: bool) -> Bool[np.ndarray, "h w"]:
    """Erosion or dilation by a disk, exactly, as a threshold on the distance to the border.

    Across a stroke of width w the distances to its border average w / 4.
    """
    if not ink.any():
        return ink
    inside = scipy.ndimage.distance_transform_edt(ink)
    width = 4 * inside[ink].mean()
    if thicken:
        return scipy.ndimage.distance_transform_edt(~ink) <= THICK * width / 2
    return inside > min((1 - THIN) * width / 2, inside.max() - 1)
