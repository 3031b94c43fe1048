"""Where CheXpert's tables and images are, wherever its archives were unpacked."""

from pathlib import Path

import pandas as pd

from xbl_kit.data.faults import refuse

PATIENT = r"(patient\d+)"


def find_table(root: Path, name: str) -> Path:
    """The csv file in `root`, or one or two folders below it."""
    refuse(root, None if root.is_dir() else "no such folder")
    places = (sorted(root.glob(f"{depth}{name}")) for depth in ("", "*/", "*/*/"))
    found = next(filter(None, places), [])
    refuse(root / name, None if found else "not found, nor one or two folders below")
    if len(found) > 1:
        both = " and in ".join(str(file.parent) for file in found[:2])
        refuse(root, f"{name} is in {both}, expected one: which is meant?")
    return found[0]


def find_images(root: Path, folder: Path, paths: pd.Series) -> pd.Series:
    """The files that the `paths` of a table in `folder` stand for.

    What they begin with, such as CheXpert-v1.0 or ../input/x, is `folder`, whatever its name is by
    now, or lies in it. Patients in archives that are unpacked side by side in `root` are found.
    """
    parts = paths.str.extract(rf"^(.*?)((?:([^/]*)/)?{PATIENT}(.*))$").fillna("")
    archives = {path.name: str(path) for path in root.glob("*batch*/patient*")}
    homes, found = {}, []
    for path, (head, tail, split, patient, rest) in zip(paths, parts.to_numpy(), strict=True):
        if (head, split) not in homes:
            names = [name for name in head.split("/") if name.strip(".")]
            places = (folder.joinpath(*names[i:]) for i in range(len(names) + 1))
            there = (place for place in places if split and (place / split).is_dir())
            homes[head, split] = next(there, None)
        if homes[head, split] is None and patient in archives:
            found.append(archives[patient] + rest)
        else:
            found.append(f"{homes[head, split] or folder}/{tail or path}")
    return pd.Series(found, paths.index)
