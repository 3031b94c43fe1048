"""CheXpert (Irvin et al. 2019): chest radiographs with 14 findings read from their reports."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from xbl_kit.data.faults import DataError, Fault
from xbl_kit.data.manifest import Manifest
from xbl_kit.data.picture import read_frames
from xbl_kit.data.readers.table import read_csv

FINDINGS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
VIEWS = ("AP", "PA", "LL", "RL", "lateral")
UNCERTAIN = {"drop": "", "zeros": "no", "ones": "yes", "multiclass": "uncertain"}
UNMENTIONED = {"drop": "", "zeros": "no"}

WHOLE = {"1.0": "1", "0.0": "0", "-1.0": "-1"}  # how findings are printed, and read here
CELLS = {
    "Sex": ("Female", "Male", "Unknown", ""),
    "Frontal/Lateral": ("Frontal", "Lateral"),
    "AP/PA": ("AP", "PA", "LL", "RL", ""),
} | dict.fromkeys(FINDINGS, ("1", "0", "-1", ""))
OLDEST = 120
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
    pad: bool = True,
) -> Manifest:
    """The images of `file`.csv, in `root` or below; by default the task with sex and age group.

    The label is one `finding`, no or yes, and the other findings are columns. Those that are
    `uncertain` (-1) count as in the paper: "zeros" (U-Zeros), "ones" (U-Ones), "multiclass" (as a
    third class, U-MultiClass) or "drop", not known (U-Ignore); `unmentioned` (blank) ones too.
    Left out are images without a label, not of these `views`, and of patients between the `ages`
    (<= 50 and >= 60 are taken); None leaves none out. `clahe`, `pad`: see `picture.fit`.

    Raises ValueError for an option that is unknown, DataError for a table that is not CheXpert's.
    """
    _check_options(finding, uncertain, unmentioned, views, ages)
    root = Path(root)
    table = _find(root, f"{file}.csv")
    rows = _read(table)
    columns = _columns(rows, finding, UNCERTAIN[uncertain], UNMENTIONED[unmentioned], ages)
    kept = np.ones(len(rows), dtype=bool) if views is None else columns["view"].isin(views)
    for name in {"label", "age_group"} & set(columns):
        kept &= columns[name] != ""
    kept = np.flatnonzero(kept)
    columns = columns.iloc[kept].reset_index(drop=True)
    if finding is not None and columns["label"].nunique() < 2:
        raise DataError(Fault(str(table), _lack(finding, columns["label"], len(rows))))
    columns["image"] = _images(root, table.parent, columns["image"])
    return Manifest(
        columns,
        tuple(f"{table}, line {row + 2}" for row in kept),
        (root,),
        read=partial(read_frames, pad=pad, clahe=clahe),
        factors=tuple(name for name in ("sex", "age_group") if name in columns),
    )


def _check_options(
    finding: str | None,
    uncertain: str,
    unmentioned: str,
    views: Sequence[str] | None,
    ages: Sequence[int] | None,
) -> None:
    for name, value, known in (
        ("finding", finding, (*FINDINGS, None)),
        ("uncertain", uncertain, UNCERTAIN),
        ("unmentioned", unmentioned, UNMENTIONED),
    ):
        if value not in known:
            names = ", ".join(str(one) for one in known)
            raise ValueError(f"{name}={value!r}: expected one of {names}")
    if views is not None and (not views or set(views) - set(VIEWS)):
        raise ValueError(f"views={views!r}: expected a list of some of {', '.join(VIEWS)}")
    if ages is not None and (len(ages) != 2 or ages[0] >= ages[1]):
        raise ValueError(f"ages={ages!r}: expected two, the lower first, such as (50, 60)")


def _find(root: Path, name: str) -> Path:
    """The csv file in `root`, or one or two folders below it."""
    if not root.is_dir():
        raise DataError(Fault(str(root), "no such folder"))
    for depth in ("", "*/", "*/*/"):
        found = sorted(root.glob(f"{depth}{name}"))
        if len(found) > 1:
            both = " and in ".join(str(file.parent) for file in found[:2])
            raise DataError(Fault(str(root), f"{name} is in {both}, expected one: which is meant?"))
        if found:
            return found[0]
    raise DataError(Fault(str(root / name), "not found, nor one or two folders below"))


def _read(table: Path) -> pd.DataFrame:
    """The table as text, its columns and cells checked, findings as whole numbers.

    Raises DataError naming a column that is missing, or every cell that is none of CheXpert's.
    """
    rows = read_csv(table)
    for column in ("Path", "Age", *CELLS):
        if column not in rows:
            raise DataError(Fault(str(table), f"no column {column!r}, found {', '.join(rows)}"))
    for name in FINDINGS:
        rows[name] = rows[name].map(WHOLE).fillna(rows[name])
    wrong = {name: ~rows[name].isin(cells) for name, cells in CELLS.items()}
    wrong["Age"] = (rows["Age"] != "") & ~_years(rows["Age"]).between(0, OLDEST)
    faults = []
    for row, column in np.argwhere(pd.DataFrame(wrong)).tolist():
        name = list(wrong)[column]
        cells = ", ".join(cell or "empty" for cell in CELLS.get(name, (f"0 to {OLDEST}", "")))
        what = f"{name} is {rows[name][row]!r}, expected one of {cells}"
        faults.append(Fault(f"{table}, line {row + 2}", what))
    if faults:
        raise DataError(*faults)
    return rows


def _columns(
    rows: pd.DataFrame,
    finding: str | None,
    uncertain: str,
    unmentioned: str,
    ages: Sequence[int] | None,
) -> pd.DataFrame:
    """What a manifest says of every row, but for its path, which is as printed."""
    words = {"1": "yes", "0": "no", "-1": uncertain, "": unmentioned}
    columns = {"image": rows["Path"], "patient": rows["Path"].str.extract(PATIENT)[0].fillna("")}
    if finding is not None:
        columns["label"] = rows[finding].map(words)
    columns["sex"] = rows["Sex"].replace("Unknown", "")
    if ages is not None:
        years, (young, old) = _years(rows["Age"]), ages
        # CheXpert's patients are adults: 0 stands for an age that is not known
        groups = [years.between(1, young), years >= old]
        columns["age_group"] = np.select(groups, [f"0-{young}", f"{old}+"], "")
    columns["view"] = rows["AP/PA"].where(rows["Frontal/Lateral"] == "Frontal", "lateral")
    others = {name: rows[name].map(words) for name in FINDINGS if name != finding}
    return pd.DataFrame(columns | others)


def _years(ages: pd.Series) -> pd.Series:
    return pd.to_numeric(ages, errors="coerce")


def _lack(finding: str, label: pd.Series, n: int) -> str:
    only = f"all of them {label[0]!r}, " if len(label) else ""
    hint = "the options leave out the others (unmentioned='zeros' counts blank cells as no)"
    return f"{finding}: {len(label)} of {n} images, {only}expected two labels; {hint}"


def _images(root: Path, folder: Path, paths: pd.Series) -> pd.Series:
    """The files that the `paths` of a table in `folder` stand for.

    The folder that they begin with, CheXpert-v1.0 or CheXpert-v1.0-small, is `folder`, whatever
    it is called by now, or lies in it. Where the archives of the full size are unpacked side by
    side in `root`, the patients of train are looked for in them.
    """
    if paths.empty:
        return paths
    inside = f"{folder}/" + paths.str.partition("/")[2]
    begin = "/".join(paths[0].split("/")[:2])
    if (folder / begin).is_dir():
        return f"{folder}/" + paths
    place = {path.name: str(path) for path in root.glob("*batch*/patient*")}
    if not place:
        return inside
    parts = paths.str.extract(rf"/{PATIENT}(/.*)").itertuples(index=False)
    files = [
        f"{place[patient]}{rest}" if patient in place else file
        for (patient, rest), file in zip(parts, inside, strict=True)
    ]
    return pd.Series(files)
