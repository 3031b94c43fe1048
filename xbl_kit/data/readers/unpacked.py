"""Where the files of CheXpert and of the Radiography Database are, however they were unpacked."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from xbl_kit.data.faults import Fault, refuse, refuse_all
from xbl_kit.data.spelling import key

PATIENT = r"(patient\d+)"  # of CheXpert
CLASSES = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")  # of the Radiography Database
KNOWN = {key(label): label for label in CLASSES}
PARTS = ("images", "masks")  # folders of each class


def find_below(root: Path, holds: Callable[[Path], object], what: str, depth: int) -> Path | None:
    """The folder that `holds` something: `root`, or the one up to so many folders below it."""
    refuse(root, None if root.is_dir() else "no such folder")
    level = [root]
    for _ in range(1 + depth):
        if found := [folder for folder in level if holds(folder)]:
            both = " and in ".join(map(str, found[:2]))
            refuse(root, f"{what} in {both}: which is meant?" if len(found) > 1 else None)
            return found[0]
        level = [child for folder in level for child in folders(folder).values()]
    return None


def folders(folder: Path) -> dict[str, Path]:
    """The folders in one, by the `key` of their names: NORMAL is Normal, a_b is a b."""
    return {key(child.name): child for child in sorted(folder.iterdir()) if child.is_dir()}


def find_classes(root: Path) -> dict[str, Path]:
    """The folder of each class of the Radiography Database, `root` being that of the classes, or
    up to three above it; raises DataError where one is missing, or unknown."""
    home = find_below(root, lambda folder: KNOWN.keys() & folders(folder), "classes are", 3) or root
    every = folders(home)
    found = {label: every.pop(name, home / label) for name, label in KNOWN.items()}
    needed = [folder for folder in found.values() if not folder.is_dir()]
    if not needed:
        needed = [f / part for f in found.values() for part in PARTS if part not in folders(f)]
    old = any(any(folder.glob("*.png")) for folder in every.values())
    hint = " (of an older version make a table, and use --data table)" * old
    faults = [Fault(str(folder), f"no such folder{hint}") for folder in needed]
    # Other folders may lie beside the classes; one with images would be missed unseen.
    other = [folder for folder in every.values() if "images" in folders(folder)]
    faults += [Fault(str(f), f"unknown class, expected {', '.join(CLASSES)}") for f in other]
    refuse_all(faults)
    return found


def find_table(root: Path, name: str) -> Path:
    """A csv file of CheXpert, in `root`, or one or two folders below it."""
    folder = find_below(root, lambda folder: (folder / name).is_file(), f"{name} is", 2)
    refuse(root / name, None if folder else "not found, nor one or two folders below")
    return folder / name


def find_images(root: Path, folder: Path, paths: pd.Series) -> pd.Series:
    """The files that the `paths` of a table of CheXpert's in `folder` stand for.

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
