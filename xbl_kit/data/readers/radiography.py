"""The COVID-19 Radiography Database, in the folders in which Kaggle gives it out."""

import re
import warnings
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

from xbl_kit.data.faults import DataError, Fault, one_of, refuse, refuse_all
from xbl_kit.data.manifest import Manifest
from xbl_kit.data.readers.text_table import read_text_table
from xbl_kit.data.readers.unpacked import CLASSES, PARTS, find_classes, folders
from xbl_kit.data.spelling import key

PAPER = {"train": 800, "val": 300, "test": 200}  # images a class: 3,200, 1,200 and 800 in all
LITTER = ("thumbs.db", "desktop.ini")  # what operating systems leave; hidden files as well
SHARED_HOSTS = ("github.com", "kaggle.com")  # who is there is told by the first two folders
NEEDED = ("FILE NAME", "URL")  # columns of a class's metadata file


def list_radiography(
    root: str | Path, *, subsample: str | None = None, counter: bool = True, seed: int = 0
) -> Manifest:
    """The images in `root/<class>/images`, each with its mask in `root/<class>/masks`.

    `root` is the folder of the four classes or up to three above it. `site` says where an image
    came from, by its class's metadata file; patients are not known. Normal images from the source
    of Viral Pneumonia are the `counter` group; as published (counter=False) they are trained on.
    With `subsample` "paper" the sizes of Hagos et al. (2023, section 4.1) are drawn by `seed`.

    Raises DataError for folders that are missing or unknown, for files that are no PNG, and where
    a class is too small for the subsample.
    """
    one_of("subsample", subsample, (None, "paper"))
    homes = find_classes(Path(root))
    root = homes["Normal"].parent
    classes = {label: _rows_of_class(homes[label], label) for label in CLASSES}
    apart = _counter_group(classes, root) if counter else []
    classes = _draw(classes, root, seed) if subsample else classes
    rows = pd.concat([*classes.values(), *apart]).fillna("")
    return Manifest(rows if any(rows["site"]) else rows.drop(columns="site"), (root,))


def _rows_of_class(folder: Path, label: str) -> pd.DataFrame:
    """A row for each image of a class, by its place; `site` is "" where it is not known."""
    images, masks = (folders(folder)[part] for part in PARTS)
    names, metadata = _names(images), _metadata(folder.parent, label)
    stem = metadata["FILE NAME"].map(lambda name: key(re.sub(r"(?i)\.png$", "", name)))
    site = dict(zip(stem, metadata["URL"].map(_site), strict=True))  # there NORMAL-1, Normal-1 here
    stems = [key(Path(name).stem) for name in names]
    if site and not site.keys() & {*stems}:
        named = metadata["FILE NAME"].iloc[0]
        what = f"no FILE NAME is an image of {images}, such as {named!r}, so no 'site' is known"
        warnings.warn(
            f"{folder.parent}, metadata of {label}: {what}; write them alike", stacklevel=2
        )
    columns = {
        "image": [str(images / name) for name in names],
        "mask": [str(masks / name) for name in names],
        "label": label,
        "site": [site.get(stem, "") for stem in stems],
    }
    return pd.DataFrame(columns, [f"{folder.name}/{images.name}/{name}" for name in names])


def _names(folder: Path) -> list[str]:
    """The PNG files of a folder, 2 before 10; raises DataError for any other file."""
    every = sorted(file.name for file in folder.iterdir())
    names = [name for name in every if name[0] != "." and name.lower() not in LITTER]
    other = [folder / name for name in names if not name.lower().endswith(".png")]
    refuse_all([Fault(str(file), "not expected, only .png files") for file in other])
    refuse(folder, None if names else "no images")
    return sorted(names, key=lambda name: re.sub("[0-9]+", lambda n: n[0].zfill(20), name))


def _site(url: str) -> str:
    """The host of a source and, where many share one, whose it is; other text as it stands."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:  # http://[broken
        return url.strip()
    host = (parts.hostname or "").removeprefix("www.")
    whose = parts.path.strip("/").split("/")[:2] if host in SHARED_HOSTS else []
    return "/".join([host, *whose]) or url.strip()


def _metadata(home: Path, label: str) -> pd.DataFrame:
    """A class's metadata file, .csv or as downloaded .xlsx; no rows where it cannot be had."""
    files = {key(file.name): file for file in home.glob("*.metadata.*")}
    if file := files.get(key(f"{label}.metadata.csv")):
        return read_text_table(file, NEEDED)
    if sheet := files.get(key(f"{label}.metadata.xlsx")):
        try:
            return pd.read_excel(sheet, dtype=str, engine="openpyxl", usecols=NEEDED).fillna("")
        except ImportError:
            what = "metadata.xlsx not read, so no 'site': `pip install openpyxl` or save it as csv"
            warnings.warn(f"{home}: {what}", stacklevel=2)  # alike for all, so shown once
        except Exception as error:  # of openpyxl, zipfile and xml
            raise DataError(Fault(str(sheet), f"not a readable xlsx file ({error})")) from None
    return pd.DataFrame(columns=NEEDED)


def _counter_group(classes: dict[str, pd.DataFrame], root: Path) -> list[pd.DataFrame]:
    """Takes the healthy children out of "Normal", and says so; [] where there are none."""
    normal, sites = classes["Normal"], set(classes["Viral Pneumonia"]["site"]) - {""}
    known = normal["site"].isin(sites)
    if known.all() or not known.any():
        return []
    which = f"{known.sum()} of {len(known)} Normal images are from {', '.join(sorted(sites))}"
    told = "as all Viral Pneumonia: the counter-group, not trained on; as published: counter=false"
    warnings.warn(f"{root}: {which}, {told}", stacklevel=2)
    classes["Normal"] = normal[~known]
    return [normal[known].assign(counter="1")]


def _draw(classes: dict[str, pd.DataFrame], root: Path, seed: int) -> dict[str, pd.DataFrame]:
    """The paper's number of images a class and split, drawn at random; the others are left out."""
    splits = np.repeat(list(PAPER), list(PAPER.values()))
    few = {label: len(rows) for label, rows in classes.items() if len(rows) < len(splits)}
    what = f"images, the paper's subsample needs {len(splits)} a class"
    refuse_all([Fault(f"{root / label}/images", f"{n} {what}") for label, n in few.items()])
    generator, drawn = np.random.default_rng(seed), {}
    for label, rows in classes.items():
        split = np.full(len(rows), "", dtype=object)
        split[generator.permutation(len(rows))[: len(splits)]] = splits
        drawn[label] = rows.assign(split=split)[split != ""]
    return drawn
