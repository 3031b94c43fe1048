"""Morpho-MNIST: digits whose stroke and rotation are set, as two spurious factors."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from scipy.ndimage import distance_transform_edt
from tqdm.auto import tqdm

from xbl_kit.data.confound import lay_out
from xbl_kit.data.dataset import Dataset

CLASSES = ("0-4", "5-9")
FACTORS = {"stroke": ("thin", "thick"), "rotation": ("none", "90 degrees")}
# Of the digit's own stroke width: what thinning leaves of it, what thickening adds to it.
THIN, THICK = 0.5, 1.0
UPSCALE = 3
PER_CELL = {"train": 500, "val": 50, "test": 100}
FILE = {"train": True, "val": True, "test": False}  # from MNIST's training set?


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
    split, generator = columns["split"], np.random.default_rng(seed)
    digits, patient = _choose(root, columns["label"], split, generator)
    images = _redraw(digits, columns["stroke"], columns["rotation"], size)
    return Dataset(
        images=images,
        label=torch.from_numpy(columns["label"]),
        classes=CLASSES,
        patient=torch.from_numpy(patient),
        confounders={factor: torch.from_numpy(columns[factor]) for factor in FACTORS},
        levels=FACTORS,
        split=split,
    )


def _choose(
    root: str | Path, label: np.ndarray, split: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A digit for every row, none twice, and its number: test digits come after all others."""
    digits, number = np.empty((len(label), 28, 28), np.uint8), np.empty(len(label), np.int64)
    for train in (True, False):
        source = _mnist(root, train)
        digit_class = (source.targets.numpy() >= 5).astype(np.int64)
        for y, name in enumerate(CLASSES):
            of_file = np.isin(split, [s for s, from_train in FILE.items() if from_train == train])
            rows = np.flatnonzero(of_file & (label == y))
            own = generator.permutation(np.flatnonzero(digit_class == y))[: len(rows)]
            if len(own) < len(rows):
                raise ValueError(f"{root}: MNIST has {len(own)} digits {name}, {len(rows)} wanted")
            digits[rows] = source.data.numpy()[own]
            number[rows] = own + (0 if train else 60_000)
    return digits, number


def _mnist(root: str | Path, train: bool) -> torchvision.datasets.MNIST:
    try:
        return torchvision.datasets.MNIST(root, train=train, download=True)
    except (RuntimeError, OSError) as error:
        raise ValueError(f"{root}: no MNIST there, and it cannot be downloaded ({error})") from None


def _redraw(digits: np.ndarray, stroke: np.ndarray, turned: np.ndarray, size: int) -> np.ndarray:
    large = F.interpolate(torch.from_numpy(digits)[:, None].float(), scale_factor=UPSCALE)
    large = F.avg_pool2d(large, 3, stride=1, padding=1)[:, 0].numpy() > 127
    thick = (stroke == 1).tolist()
    bar = tqdm(zip(large, thick, strict=True), "digits", len(large), unit="digit", disable=None)
    drawn = torch.from_numpy(np.stack([_restroke(*each) for each in bar]))
    quarter = torch.from_numpy(turned == 1)
    drawn[quarter] = drawn[quarter].rot90(1, dims=(1, 2))
    small = F.interpolate(drawn[:, None].float(), (size, size), mode="area")[:, 0]
    return (255 * small).round().to(torch.uint8).numpy()


def _restroke(ink: np.ndarray, thicken: bool) -> np.ndarray:
    """Erosion or dilation by a disk, exactly, as a threshold on the distance to the border.

    Across a stroke of width w the distances to its border average w / 4.
    """
    if not ink.any():
        return ink
    inside = distance_transform_edt(ink)
    width = 4 * inside[ink].mean()
    if thicken:
        return distance_transform_edt(~ink) <= THICK * width / 2
    return inside > min((1 - THIN) * width / 2, inside.max() - 1)
