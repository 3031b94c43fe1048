"""CheXpert (Irvin et al. 2019): chest radiographs with 14 findings read from their reports."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from xbl_kit.data.faults import Fault, one_of, refuse, refuse_all, rising, some
from xbl_kit.data.manifest import OLDEST, Manifest
from xbl_kit.data.picture import read_frames
from xbl_kit.data.readers.text_table import read_text_table
from xbl_kit.data.readers.unpacked import PATIENT, find_images, find_table
from xbl_kit.data.spelling import blanked

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
    if not re.fullmatch(r"[\w. -]+", file := file.removesuffix(".csv")):
        raise ValueError(f"file={file!r}: expected the name of a table, such as train")
    one_of("finding", finding, (*FINDINGS, None))
    one_of("uncertain", uncertain, UNCERTAIN)
    one_of("unmentioned", unmentioned, UNMENTIONED)
    if views is not None and (not views or set(views) - set(VIEWS)):
        raise ValueError(f"views={views!r}: expected a list of some of {', '.join(VIEWS)}")
    if ages is not None:
        rising("ages", ages)
    words = {"1": "yes", "0": "no", "-1": UNCERTAIN[uncertain], "": UNMENTIONED[unmentioned]}
    root = Path(root)
    table = find_table(root, f"{file}.csv")
    asked = {"Age": ages, "Frontal/Lateral": views, "AP/PA": views}
    read = _read(table, root, [name for name, chosen in asked.items() if chosen is not None])
    every = _columns(_checked(read, table), words, ages).rename(columns={finding: "label"})
    rows = every if views is None else every[every["view"].isin(views)]
    for name in {"label", "age_group"} & set(rows):
        rows = rows[rows[name] != ""]
    if finding is not None and rows["label"].nunique() < 2:
        only = "".join(f"all of them {label!r}, " for label in set(rows["label"]))
        what = f"{finding}: {len(rows)} of {len(every)} images, {only}expected two labels"
        hint = "options leave the others out (unmentioned=zeros counts blank cells as no, "
        hint += "views=none and ages=none take all)"
        refuse(table, f"{what}; {hint}")
    factors = tuple(name for name in ("sex", "age_group") if name in rows and any(rows[name]))
    read = partial(read_frames, pad=True, clahe=clahe)
    return Manifest(rows, (root,), read=read, factors=factors)


def _read(table: Path, root: Path, asked: Sequence[str]) -> pd.DataFrame:
    """The table as text, with `image`, the file; columns that are not `asked` for may be missing.

    A row a "Study", as the official test set has them, becomes one for each of its images.
    """
    hint = "; `--option views=none` and `--option ages=none` do without"
    rows = read_text_table(table, (*FINDINGS, *asked), hint=hint)
    if (path := "Path" if "Path" in rows else "Study") not in rows:
        refuse(table, f"no column 'Path' in its first line, found {some(rows, meant='Path')}")
    rows["image"] = find_images(root, table.parent, rows.pop(path).str.replace("\\", "/"))
    if path == "Study":
        views = [sorted(map(str, Path(study).glob("view*"))) or study for study in rows["image"]]
        rows = rows.assign(image=views).explode("image")
    side = np.where(rows["image"].str.contains("_lateral"), "Lateral", "Frontal")
    given = {"Frontal/Lateral": side, "AP/PA": "", "Sex": "", "Age": ""}
    return pd.DataFrame(given, rows.index).assign(**rows)


def _checked(rows: pd.DataFrame, table: Path) -> pd.DataFrame:
    """The rows, ages in years; raises DataError for cells unlike CheXpert's."""
    rows["Sex"] = rows["Sex"].replace("Unknown", "")
    rows = blanked(rows, CELLS, table).replace(dict.fromkeys(FINDINGS, WHOLE))
    years = pd.to_numeric(rows["Age"], errors="coerce")
    right = pd.DataFrame({name: rows[name].isin(cells) for name, cells in CELLS.items()})
    right["Age"] = (rows["Age"] == "") | years.between(0, OLDEST)
    told = {name: ", ".join(cell or "empty" for cell in cells) for name, cells in CELLS.items()}
    wrong = [(row, list(CELLS)[at]) for row, at in np.argwhere(~right.to_numpy()).tolist()]
    what = "{} is {!r}, expected one of {}"
    cells = [(rows.index[row], name, rows[name].iloc[row]) for row, name in wrong]
    refuse_all([Fault(where, what.format(name, cell, told[name])) for where, name, cell in cells])
    return rows.assign(Age=years)


def _columns(rows: pd.DataFrame, words: dict, ages: Sequence[int] | None) -> pd.DataFrame:
    """What a manifest says of every row."""
    patient = rows["image"].str.extract(PATIENT)[0].fillna("")
    columns = {"image": rows["image"], "patient": patient, "sex": rows["Sex"]}
    if ages is not None:
        # CheXpert's patients are adults: 0 stands for an age that is not known
        groups = [rows["Age"].between(1, ages[0]), rows["Age"] >= ages[1]]
        columns["age_group"] = np.select(groups, [f"0-{ages[0]}", f"{ages[1]}+"], "")
    columns["view"] = rows["AP/PA"].where(rows["Frontal/Lateral"] == "Frontal", "lateral")
    return pd.DataFrame(columns | {name: rows[name].map(words) for name in FINDINGS}, rows.index)
