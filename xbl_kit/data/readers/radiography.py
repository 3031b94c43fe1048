"""The COVID-19 Radiography Database, in the folders in which Kaggle gives it out."""

import re
import warnings
from pathlib import Path
from urllib.parse import urlsplit
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from xbl_kit.data.faults import DataError, Fault
from xbl_kit.data.manifest import Manifest
from xbl_kit.data.readers.table import read_csv

CLASSES = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")
FOLDER = "COVID-19_Radiography_Dataset"
PAPER = {"train": 800, "val": 300, "test": 200}  # images a class: 3,200, 1,200 and 800 in all
LITTER = ("thumbs.db", "desktop.ini")  # what operating systems leave; hidden files as well
SHARED_HOSTS = ("github.com", "kaggle.com")  # who is there is told by the first two folders


def list_radiography(root: str | Path, *, subsample: str | None = None, seed: int = 0) -> Manifest:
    """The images in `root/<class>/images`, with the lungs in `root/<class>/masks`.

    `root` is the folder of the four classes or the one above it. `site` says where an image came
    from, by its class's metadata file. No patients are known: each image is its own patient.
    With `subsample` "paper" the sizes of Hagos et al. (2023, section 4.1) are drawn by `seed`,
    alike for every class, and given as `split`; otherwise there is no split.

    Raises DataError for folders that are missing or unknown, for files that are no PNG, and where
    a class is too small for the subsample.
    """
    if subsample not in (None, "paper"):
        raise ValueError(f"subsample {subsample!r}: expected None or 'paper'")
    root = _class_folders(Path(root))
    names = {label: _names(root / label / "images") for label in CLASSES}
    rows = pd.DataFrame(
        {
            "image": str(root / label / "images" / name),
            "mask": str(root / label / "masks" / name),
            "label": label,
            "where": f"{label}/images/{name}",
        }
        for label in CLASSES
        for name in names[label]
    )
    sites = [site for label in CLASSES for site in _sites(root, label, names[label])]
    if any(sites):
        rows["site"] = sites
    if subsample:
        rows = _draw(rows, root, seed)
    return Manifest(rows.drop(columns="where"), tuple(rows["where"]), (root,))


def _class_folders(root: Path) -> Path:
    """The folder of the four classes: `root`, or the one in it; raises DataError for another."""
    if not root.is_dir():
        raise DataError(Fault(str(root), "no such folder"))
    inner = root / FOLDER
    if inner.is_dir() and not any((root / label).is_dir() for label in CLASSES):
        root = inner
    needed = [root / label for label in CLASSES]
    if all(folder.is_dir() for folder in needed):
        needed = [folder / kind for folder in needed for kind in ("images", "masks")]
    faults = [Fault(str(folder), "no such folder") for folder in needed if not folder.is_dir()]
    for folder in sorted(root.iterdir()):
        # Other folders may lie beside the classes; one with images would be missed unseen.
        if folder.name not in CLASSES and (folder / "images").is_dir():
            faults.append(Fault(str(folder), f"unknown class, expected {', '.join(CLASSES)}"))
    if faults:
        raise DataError(*faults)
    return root


def _names(folder: Path) -> list[str]:
    """The PNG files of a folder, 2 before 10; raises DataError for any other file."""
    names = [path.name for path in folder.iterdir()]
    names = [n for n in names if not n.startswith(".") and n.lower() not in LITTER]
    other = sorted(name for name in names if not name.lower().endswith(".png"))
    if other:
        raise DataError(*(Fault(str(folder / n), "not expected, only .png files") for n in other))
    if not names:
        raise DataError(Fault(str(folder), "no images"))
    return sorted(names, key=_natural)


def _natural(name: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", name)]


def _sites(root: Path, label: str, names: list[str]) -> list[str]:
    """Where each image of a class comes from, "" where its metadata file does not say."""
    table = _metadata(root / f"{label}.metadata.csv")
    site = {}
    if table is not None:
        named = zip(table["FILE NAME"], table["URL"], strict=True)
        site = {_stem(name): _site(url) for name, url in named}
    return [site.get(_stem(name), "") for name in names]


def _stem(name: str) -> str:
    """A name as file and metadata have it alike: there Normal-1.png is called NORMAL-1."""
    return name.strip().casefold().removesuffix(".png")


def _site(url: str) -> str:
    """The host of a source and, where many share one, whose it is; other text as it stands."""
    parts = urlsplit(url.strip())
    host = (parts.hostname or "").removeprefix("www.")
    if host in SHARED_HOSTS:
        return "/".join([host, *parts.path.strip("/").split("/")[:2]])
    return host or url.strip()


def _metadata(file: Path) -> pd.DataFrame | None:
    """A class's metadata file, .csv or as downloaded .xlsx; None where it cannot be had."""
    sheet = file.with_suffix(".xlsx")
    if file.is_file():
        table = read_csv(file)
    elif sheet.is_file():
        file, table = sheet, _read_sheet(sheet)
    else:
        return None
    if table is not None and not {"FILE NAME", "URL"} <= set(table):
        found = ", ".join(map(str, table))
        raise DataError(Fault(str(file), f"no columns 'FILE NAME' and 'URL', found {found}"))
    return table


def _read_sheet(file: Path) -> pd.DataFrame | None:
    try:
        return pd.read_excel(file, dtype=str, engine="openpyxl").fillna("")
    except ImportError:
        what = "metadata.xlsx not read, so no 'site': `pip install openpyxl`, or save it as .csv"
        warnings.warn(f"{file.parent}: {what}", stacklevel=2)  # alike for all, so shown once
        return None
    except (BadZipFile, KeyError, OSError, ValueError) as error:
        raise DataError(Fault(str(file), f"not a readable xlsx file ({error})")) from None


def _draw(rows: pd.DataFrame, root: Path, seed: int) -> pd.DataFrame:
    """The paper's number of images a class and split, drawn at random; the others are left out."""
    generator = np.random.default_rng(seed)
    size = sum(PAPER.values())
    split = np.full(len(rows), "", dtype=object)
    faults = []
    for label in CLASSES:
        of_class = np.flatnonzero(rows["label"] == label)
        if len(of_class) < size:
            what = f"{len(of_class)} images, the paper's subsample needs {size} a class"
            faults.append(Fault(str(root / label / "images"), what))
        else:
            drawn = generator.permutation(of_class)[:size]
            split[drawn] = np.repeat(list(PAPER), list(PAPER.values()))
    if faults:
        raise DataError(*faults)
    return rows.assign(split=split)[split != ""].reset_index(drop=True)
