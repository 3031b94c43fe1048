"""CheXpert (Irvin et al. 2019): chest radiographs with 14 findings read from their reports."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from xbl_kit.data.faults import DataError, Fault, one_of, rising
from xbl_kit.data.manifest import OLDEST, Manifest
from xbl_kit.data.picture import read_frames
from xbl_kit.data.readers.text_table import read_text_table

LUNG = ("Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis")
PLEURA = ("Pneumothorax", "Pleural Effusion", "Pleural Other")
MEDIASTINUM = ("Enlarged Cardiomediastinum", "Cardiomegaly")
FINDINGS = ("No Finding", *MEDIASTINUM, *LUNG, *PLEURA, "Fracture", "Support Devices")
VIEWS = ("AP", "PA", "LL", "RL", "lateral")
UNCERTAIN = {"drop": "", "zeros": "no", "ones": "yes", "multiclass": "uncertain"}
UNMENTIONED = {"drop": "", "zeros": "no"}
WHOLE = {"1.0": "1", "0.0": "0", "-1.0": "-1"}  # how findings are printed, and read here
CELLS = {
    "Age": (f"0 to {OLDEST}", ""),
    "Sex": ("Female", "Male", "Unknown", ""),
    "Frontal/Lateral": ("Frontal", "Lateral"),
    "AP/PA": ("AP", "PA", "LL", "RL", ""),
} | dict.fromkeys(FINDINGS, ("1", "0", "-1", ""))
PATIENT = r"(patient\d+)"


def list_chexpert(
    root: str | Path,
    *,
    file: str = "train",
    finding: str | None = "Pleural Effusion",
    uncertain: str = "drop",
    unmentioned: str = "drop",
    views: Sequence[str] | None = ("AP",),
    ages: Sequence[int] | None = (50, 60),
    clahe: bool = True,
) -> Manifest:
    """The images of `file`.csv, in `root` or below; by default the task with sex and age group.

    The label is one `finding`, no or yes, and the other findings are columns. Those that are
    `uncertain` (-1) count as in the paper: "zeros" (U-Zeros), "ones" (U-Ones), "multiclass" (as a
    third class, U-MultiClass) or "drop", not known (U-Ignore); `unmentioned` (blank) ones too.
    Left out are images without a label, not of these `views`, and of patients between the `ages`
    (<= 50 and >= 60 are taken); None leaves none out. `clahe`: see `picture.read_frames`.

    Raises ValueError for an option that is unknown, DataError for a table that is not CheXpert's.
    """
    one_of("finding", finding, (*FINDINGS, None))
    one_of("uncertain", uncertain, UNCERTAIN)
    one_of("unmentioned", unmentioned, UNMENTIONED)
    if views is not None and (not views or set(views) - set(VIEWS)):
        raise ValueError(f"views={views!r}: expected a list of some of {', '.join(VIEWS)}")
    if ages is not None:
        rising("ages", ages)
    words = {"1": "yes", "0": "no", "-1": UNCERTAIN[uncertain], "": UNMENTIONED[unmentioned]}
    root = Path(root)
    table = _find(root, f"{file}.csv")
    every = _columns(_read(table), words, ages).rename(columns={finding: "label"})
    rows = every if views is None else every[every["view"].isin(views)]
    for name in {"label", "age_group"} & set(rows):
        rows = rows[rows[name] != ""]
    if finding is not None and rows["label"].nunique() < 2:
        only = "".join(f"all of them {label!r}, " for label in set(rows["label"]))
        what = f"{finding}: {len(rows)} of {len(every)} images, {only}expected two labels"
        hint = "options leave the others out (unmentioned='zeros' counts blank cells as no)"
        raise DataError(Fault(str(table), f"{what}; {hint}"))
    rows = rows.assign(image=_images(root, table.parent, rows["image"]))
    factors = tuple(name for name in ("sex", "age_group") if name in rows)
    read = partial(read_frames, pad=True, clahe=clahe)
    return Manifest(rows, (root,), read=read, factors=factors)


def _find(root: Path, name: str) -> Path:
    """The csv file in `root`, or one or two folders below it."""
    if not root.is_dir():
        raise DataError(Fault(str(root), "no such folder"))
    places = (sorted(root.glob(f"{depth}{name}")) for depth in ("", "*/", "*/*/"))
    found = next(filter(None, places), [])
    if not found:
        raise DataError(Fault(str(root / name), "not found, nor one or two folders below"))
    if len(found) > 1:
        both = " and in ".join(str(file.parent) for file in found[:2])
        raise DataError(Fault(str(root), f"{name} is in {both}, expected one: which is meant?"))
    return found[0]


def _read(table: Path) -> pd.DataFrame:
    """The table as text, but for ages, in years; raises DataError for cells unlike CheXpert's."""
    rows = read_text_table(table, ("Path", *CELLS)).replace(dict.fromkeys(FINDINGS, WHOLE))
    years = pd.to_numeric(rows["Age"], errors="coerce")
    right = pd.DataFrame({name: rows[name].isin(cells) for name, cells in CELLS.items()})
    right["Age"] = (rows["Age"] == "") | years.between(0, OLDEST)
    faults = []
    for row, column in np.argwhere(~right.to_numpy()).tolist():
        name, cells = list(CELLS.items())[column]
        expected = ", ".join(cell or "empty" for cell in cells)
        what = f"{name} is {rows[name].iloc[row]!r}, expected one of {expected}"
        faults.append(Fault(rows.index[row], what))
    if faults:
        raise DataError(*faults)
    return rows.assign(Age=years)


def _columns(rows: pd.DataFrame, words: dict, ages: Sequence[int] | None) -> pd.DataFrame:
    """What a manifest says of every row, but for its path, which is as printed."""
    patient = rows["Path"].str.extract(PATIENT)[0].fillna("")
    columns = {"image": rows["Path"], "patient": patient, "sex": rows["Sex"].replace("Unknown", "")}
    if ages is not None:
        # CheXpert's patients are adults: 0 stands for an age that is not known
        groups = [rows["Age"].between(1, ages[0]), rows["Age"] >= ages[1]]
        columns["age_group"] = np.select(groups, [f"0-{ages[0]}", f"{ages[1]}+"], "")
    columns["view"] = rows["AP/PA"].where(rows["Frontal/Lateral"] == "Frontal", "lateral")
    return pd.DataFrame(columns | {name: rows[name].map(words) for name in FINDINGS}, rows.index)


def _images(root: Path, folder: Path, paths: pd.Series) -> pd.Series:
    """The files that the `paths` of a table in `folder` stand for.

    The folder they begin with, CheXpert-v1.0 or -small, is `folder`, whatever its name is by now,
    or lies in it. Patients in archives that are unpacked side by side in `root` are found there.
    """
    begin = "/".join(next(iter(paths), "").split("/")[:2])
    if (folder / begin).is_dir():
        return f"{folder}/" + paths
    archives = {path.name: str(path) for path in root.glob("*batch*/patient*")}
    parts = paths.str.extract(rf"/{PATIENT}(/.*)")
    found = parts[0].map(lambda patient: archives.get(patient, "")) + parts[1]
    return found.where(parts[0].isin(archives), f"{folder}/" + paths.str.partition("/")[2])
