"""Any folder of images with a `metadata.csv`."""

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from PIL import Image

from xbl_kit.data.dataset import Dataset, table_of
from xbl_kit.data.faults import nearest, refuse
from xbl_kit.data.manifest import Manifest
from xbl_kit.data.readers.text_table import read_text_table
from xbl_kit.digests import file_digest
from xbl_kit.storage import OwnFiles, write_whole

PATHS = ("image", "mask")
NAME = "metadata.csv"
EXPECTED = "; expected a row for each image, with columns image and label (docs/howto/own-data.md)"


def list_table(root: str | Path, *, columns: Sequence[str] = ()) -> Manifest:
    """The images described by `root/metadata.csv`.

    Columns: image and label (or another target in its place); mask (of a region), patient, split
    (train, val, test) and counter (1 for images that break the bias) where there are any; every
    other column may serve as a confounder. `columns` says which are named otherwise, such as
    ("image=filename", "patient=subject"). Paths are relative to the root. Without a patient
    column each image is its own patient.

    Raises DataError for a file that is missing or no csv.
    """
    root = Path(root)
    if no := [pair for pair in columns if not all(pair.partition("="))]:
        raise ValueError(f"columns {no[0]!r}: expected OURS=THEIRS, such as image=filename")
    theirs = {ours: name for ours, _, name in (pair.partition("=") for pair in columns)}
    needed = (theirs.get("image", "image"), *theirs.values())
    lost = root.is_dir() and not (root / NAME).exists()
    refuse(root / NAME, f"not found{EXPECTED}{nearest(root / NAME)}" if lost else None)
    rows = read_text_table(root / NAME, needed, hint=f", or `--option columns={needed[0]}=NAME`")
    for ours, name in theirs.items():
        what = f"column {ours!r} is there already, so {name!r} cannot be read as it"
        refuse(root / NAME, what if ours in rows else None)
    rows = rows.rename(columns={name: ours for ours, name in theirs.items()})
    for column in set(PATHS) & set(rows):
        rows[column] = [str(root / name) if name else "" for name in rows[column]]
    return Manifest(rows, (root,))


def write_table(data: Dataset, root: str | Path) -> pd.DataFrame:
    """Write a data set as the folder that `list_table` reads; returns what its table holds.

    Images become PNG files named by their rows, masks too: of "lungs" or of the only region there
    is. Files that an earlier call wrote into the folder are removed; a table that was edited since
    then is kept under another name, with a warning.

    Raises ValueError, and writes nothing, for a folder that holds other files and none of ours.
    """
    root, table = Path(root), table_of(data)
    chosen = [mask for name, mask in data.masks.items() if name == "lungs" or len(data.masks) == 1]
    stacks = dict(zip(("image", "mask"), (data.images, *chosen), strict=False))
    for column in stacks:
        table[column] = [f"{column}s/{row:05}.png" for row in range(len(data))]
    files = OwnFiles(root)
    if NAME in files.names and file_digest(root / NAME) not in ("", files.content.get("table")):
        warnings.warn(f"{root / NAME}: edited, kept as {files.set_aside(NAME)}", stacklevel=2)
    files.begin([NAME, *table[list(stacks)].to_numpy().ravel()], claim=True)
    for column, stack in stacks.items():
        for name, picture in zip(table[column], stack, strict=True):
            # One bit a pixel of a mask.
            write_whole(root / name, partial(Image.fromarray(picture).save, format="PNG"))
    write_whole(root / NAME, table.to_csv(index=False).encode())
    files.content["table"] = file_digest(root / NAME)
    files.save()
    return table
