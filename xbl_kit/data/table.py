"""Any folder of images with a `metadata.csv`."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from tqdm.auto import tqdm

from xbl_kit.data.dataset import Dataset

RESERVED = ("image", "label", "mask", "patient", "split", "counter")
SPLITS = ("train", "val", "test")
MOST_LEVELS = 10
EIGHT_BIT = ("1", "L", "LA", "P", "RGB", "RGBA")


class DataError(ValueError):
    """A fault in a user's data, in one line that names the file, the value, what was expected."""


def open_table(
    root: str | Path,
    *,
    size: int = 224,
    confounders: Sequence[str] | None = None,
    target: str = "label",
    labels: Sequence[str] = (),
) -> Dataset:
    """The data set described by `root/metadata.csv`, resized to `size` pixels.

    Columns: image and label, or another `target` in its place; mask (the lungs), patient, split
    (train, val, test) and counter (1 for images that break the bias) where there are any; every
    other column with 2 to 10 values is a confounder, or just those in `confounders`. Paths are
    relative to the root. Images become grey, bilinear; masks are matched to them, nearest. Without
    a patient column each image is its own patient. An empty cell of a confounder is level -1. With
    `labels`, other rows are not read.

    Raises DataError for whatever is missing, unreadable, empty or outside the root.
    """
    root = Path(root)
    file = root / "metadata.csv"
    table = _read_csv(root, file, target, labels)
    classes, label = _number(table[target])
    patient = table["patient"] if "patient" in table else pd.Series(range(len(table)), dtype=str)
    factors = _factors(table.drop(columns=target), confounders, file)
    images, masks = _read_images(root, table, size)
    return Dataset(
        images=images,
        label=label,
        classes=classes,
        patient=_number(patient)[1],
        confounders={name: level for name, (_, level) in factors.items()},
        levels={name: names for name, (names, _) in factors.items()},
        masks={} if masks is None else {"lungs": masks},
        counter=torch.tensor(list(table["counter"] == "1")) if "counter" in table else None,
        split=table["split"].to_numpy(dtype=str) if "split" in table else None,
    )


def _read_csv(root: Path, file: Path, target: str, labels: Sequence[str]) -> pd.DataFrame:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    if not file.is_file():
        raise DataError(f"{file}: not found; a table data set needs one")
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{file}: not a readable csv file ({error})") from None
    for column in ("image", target):
        if column not in table:
            raise DataError(f"{file}: no column {column!r}, found {', '.join(table.columns)}")
    if table.empty:
        raise DataError(f"{file}: no rows")
    for name in labels:
        if name not in set(table[target]):
            found = ", ".join(sorted(set(table[target])))
            raise DataError(f"{file}: no {target} {name!r}, found {found}")
    if labels:
        table = table[table[target].isin(labels)]
    required = [c for c in ("image", target, "patient", "split", "counter") if c in table]
    for column in required:
        _check_column(file, table[column])
    return table.reset_index(drop=True)


def _check_column(file: Path, column: pd.Series) -> None:
    allowed = {"split": SPLITS, "counter": ("0", "1")}.get(column.name)
    wrong = column == "" if allowed is None else ~column.isin(allowed)
    if wrong.any():
        row = wrong.idxmax()
        expected = "a value" if allowed is None else f"one of {', '.join(allowed)}"
        value = f"{column.name} is {column[row]!r}"
        raise DataError(f"{file}, line {row + 2}: {value}, expected {expected}")


def _number(column: pd.Series) -> tuple[tuple[str, ...], torch.Tensor]:
    """The sorted values of a column and each row's place among them, -1 where it is empty."""
    names = tuple(sorted(set(column) - {""}))
    number = {name: i for i, name in enumerate(names)}
    return names, torch.tensor([number.get(name, -1) for name in column])


def _factors(table: pd.DataFrame, wanted: Sequence[str] | None, file: Path) -> dict:
    free = [column for column in table if column not in RESERVED]
    for column in wanted or ():
        if column not in free:
            raise DataError(f"{file}: no confounder column {column!r}, found {', '.join(free)}")
    factors = {column: _number(table[column]) for column in (free if wanted is None else wanted)}
    for column, (names, _) in factors.items():
        if wanted is not None and len(names) < 2:
            raise DataError(f"{file}: confounder {column!r} has {len(names)} value, expected 2")
    most = MOST_LEVELS if wanted is None else len(table)
    return {
        column: (names, level)
        for column, (names, level) in factors.items()
        if 2 <= len(names) <= most
    }


def _read_images(
    root: Path, table: pd.DataFrame, size: int
) -> tuple[np.ndarray, np.ndarray | None]:
    images = np.empty((len(table), size, size), dtype=np.uint8)
    has_masks = "mask" in table
    masks = np.empty((len(table), size, size), dtype=bool) if has_masks else None
    paths = [table["image"], table["mask"] if has_masks else [None] * len(table)]

    def read(row: int) -> None:
        image, mask = paths[0][row], paths[1][row]
        images[row] = _read_grey(_inside(root, image), size, Image.Resampling.BILINEAR)
        if has_masks:
            masks[row] = _read_mask(_inside(root, mask), size)

    with ThreadPoolExecutor() as pool:
        done = pool.map(read, range(len(table)))
        for _ in tqdm(done, "reading images", total=len(table), unit="image", disable=None):
            pass
    return images, masks


def _inside(root: Path, name: str) -> Path:
    path = root / name
    if not name or not path.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{root / 'metadata.csv'}: path {name!r} is not inside {root}")
    return path


def _read_grey(path: Path, size: int, resample: Image.Resampling) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            if picture.mode not in EIGHT_BIT:
                raise DataError(f"{path}: image of mode {picture.mode}, expected 8 bits a channel")
            return np.asarray(picture.convert("L").resize((size, size), resample))
    except FileNotFoundError:
        raise DataError(f"{path}: no such image") from None
    except DataError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not a readable image ({error})") from None


def _read_mask(path: Path, size: int) -> np.ndarray:
    mask = _read_grey(path, size, Image.Resampling.NEAREST) > 127
    if not mask.any():
        raise DataError(f"{path}: empty mask, expected some white pixels (value above 127)")
    return mask
