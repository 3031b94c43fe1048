"""The folders of the COVID-19 Radiography Database, however they were unpacked."""

from pathlib import Path

from xbl_kit.data.faults import Fault, refuse, refuse_all
from xbl_kit.data.spelling import key

CLASSES = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")
KNOWN = {key(label): label for label in CLASSES}
PARTS = ("images", "masks")  # folders of each class


def find_home(root: Path) -> Path:
    """The folder of the classes: `root`, or the one up to three folders below that has any."""
    refuse(root, None if root.is_dir() else "no such folder")
    level = [root]
    for _ in range(4):
        homes = [folder for folder in level if KNOWN.keys() & {*folders(folder)}]
        if len(homes) > 1:
            refuse(root, f"classes are in {homes[0]} and in {homes[1]}: which are meant?")
        if homes:
            return homes[0]
        level = [child for folder in level for child in folders(folder).values()]
    return root


def folders(folder: Path) -> dict[str, Path]:
    """The folders in one, by the `key` of their names: NORMAL is Normal, a_b is a b."""
    return {key(child.name): child for child in sorted(folder.iterdir()) if child.is_dir()}


def class_folders(home: Path) -> dict[str, Path]:
    """The folder of each class; raises DataError where one is missing, or unknown."""
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
