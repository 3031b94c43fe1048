"""Any folder of images with a `metadata.csv`."""

from pathlib import Path

import pandas as pd

from xbl_kit.data.fault import DataError, Fault
from xbl_kit.data.listing import Listing

PATHS = ("image", "mask")


def list_table(root: str | Path) -> Listing:
    """The images described by `root/metadata.csv`.

    Columns: image and label (or another target in its place); mask (the lungs), patient, split
    (train, val, test) and counter (1 for images that break the bias) where there are any; every
    other column may serve as a confounder. Paths are relative to the root. Without a patient
    column each image is its own patient.

    Raises DataError for a file that is missing or no csv.
    """
    root = Path(root)
    file = root / "metadata.csv"
    rows = read_csv(file)
    if "image" not in rows:
        raise DataError(Fault(str(file), f"no column 'image', found {', '.join(rows)}"))
    where = tuple(f"{file}, line {row + 2}" for row in range(len(rows)))
    for column in PATHS:
        if column in rows:
            rows[column] = [str(root / name) if name else "" for name in rows[column]]
    return Listing(rows, where, (root,))


def read_csv(file: Path) -> pd.DataFrame:
    """A csv file as text, "" where a cell is empty.

    Raises DataError where it is missing, not UTF-8, or not a table.
    """
    if not file.parent.is_dir():
        raise DataError(Fault(str(file.parent), "no such folder"))
    if not file.is_file():
        raise DataError(Fault(str(file), "not found"))
    try:
        return pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(Fault(str(file), f"not a readable csv file ({error})")) from None
