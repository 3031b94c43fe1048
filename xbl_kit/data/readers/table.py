"""Any folder of images with a `metadata.csv`."""

import csv
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from xbl_kit.data.dataset import Dataset, table_of
from xbl_kit.data.faults import DataError, Fault, some, suggest
from xbl_kit.data.manifest import Manifest

PATHS = ("image", "mask")
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def list_table(root: str | Path) -> Manifest:
    """The images described by `root/metadata.csv`.

    Columns: image and label (or another target in its place); mask (the lungs), patient, split
    (train, val, test) and counter (1 for images that break the bias) where there are any; every
    other column may serve as a confounder. Paths are relative to the root. Without a patient
    column each image is its own patient.

    Raises DataError for a file that is missing or no csv.
    """
    root = Path(root)
    file = root / "metadata.csv"
    rows, lines = read_lines(file)
    if "image" not in rows:
        what = f"no column 'image' in its first line, found {some(rows)}{suggest('image', rows)}"
        raise DataError(Fault(str(file), what))
    where = tuple(f"{file}, line {line}" for line in lines)
    for column in PATHS:
        if column in rows:
            rows[column] = [str(root / name) if name else "" for name in rows[column]]
    return Manifest(rows, where, (root,))


def write_table(data: Dataset, root: str | Path) -> pd.DataFrame:
    """Write a data set as the folder that `list_table` reads; returns what its table holds.

    Images, and masks of the lungs where there are any, become PNG files named by their rows.
    """
    root, table = Path(root), table_of(data)
    stacks = {"image": data.images, "mask": data.masks.get("lungs")}
    for column, stack in stacks.items():
        if stack is None:
            continue
        table[column] = [f"{column}s/{row:05}.png" for row in range(len(data))]
        (root / f"{column}s").mkdir(parents=True, exist_ok=True)
        for name, picture in zip(table[column], stack, strict=True):
            grey = picture if picture.dtype == np.uint8 else np.uint8(255) * picture
            Image.fromarray(grey).save(root / name)
    table.to_csv(root / "metadata.csv", index=False)
    return table


def read_csv(file: Path) -> pd.DataFrame:
    """The table of `read_lines`, without the lines its rows come from."""
    return read_lines(file)[0]


def read_lines(file: Path) -> tuple[pd.DataFrame, list[int]]:
    """A csv file as text, "" where a cell is empty, and the line each row begins at.

    Blank lines and columns without a name are left out. Raises DataError where it is missing, not
    UTF-8, has no separating commas, a column twice, or lines with too many or too few cells.
    """
    lines, cells = _cells(file)
    if not cells:
        raise DataError(Fault(str(file), "empty file, expected a first line with column names"))
    names, cells, lines = cells[0], cells[1:], lines[1:]
    _refuse_names(file, names)
    ragged = [
        Fault(f"{file}, line {line}", f"{len(row)} cells, expected {len(names)} as in line 1")
        for line, row in zip(lines, cells, strict=True)
        if len(row) != len(names)
    ]
    if ragged:
        raise DataError(*ragged)
    rows = pd.DataFrame(cells, columns=names, dtype=str)
    return rows.drop(columns="", errors="ignore"), lines


def _cells(file: Path) -> tuple[list[int], list[list[str]]]:
    """The lines at which the rows of a csv file begin, and the cells of each."""
    reader = csv.reader(io.StringIO(_text(file), newline=""), strict=True)
    lines, cells, line = [], [], 1
    try:
        for row in reader:
            if row:
                lines.append(line)
                cells.append(row)
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(Fault(f"{file}, line {line}", f"not readable as csv ({error})")) from None
    return lines, cells


def _refuse_names(file: Path, names: list[str]) -> None:
    """Raise DataError for a first line that cannot hold the names of columns."""
    for mark, word in SEPARATORS.items():
        if len(names) == 1 and mark in names[0]:
            what = f"columns are separated by {word}, expected commas"
            raise DataError(Fault(str(file), what))
    for name, times in Counter(names).items():
        if name and times > 1:
            raise DataError(Fault(str(file), f"column {name!r} is there {times} times"))


def _text(file: Path) -> str:
    """What a file of UTF-8 text holds; raises DataError where it is none."""
    if not file.parent.is_dir():
        raise DataError(Fault(str(file.parent), "no such folder"))
    if not file.is_file():
        raise DataError(Fault(str(file), "not found"))
    try:
        content = file.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise DataError(Fault(str(file), f"cannot be read ({error.strerror})")) from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = f"byte {content[error.start]:#04x} is not UTF-8, perhaps Latin-1; save it as UTF-8"
        if content.startswith(UTF_16):
            line, what = 1, "saved as UTF-16, expected UTF-8"
        raise DataError(Fault(f"{file}, line {line}", what)) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        what = "holds a NUL byte, expected text in UTF-8; perhaps saved as UTF-16"
        raise DataError(Fault(f"{file}, line {line}", what))
    return text
