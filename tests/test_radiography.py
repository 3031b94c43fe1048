"""The COVID-19 Radiography Database as downloaded: what is read, and what is refused."""

import csv
import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from xbl_kit.data import DataError, list_images, open_dataset
from xbl_kit.data.readers.radiography import CLASSES, PAPER

FOLDER = "COVID-19_Radiography_Dataset"

SITES = (
    "https://github.com/armiro/COVID-CXNet/tree/master",
    "https://www.kaggle.com/c/rsna-pneumonia-detection-challenge/data",
    "https://www.kaggle.com/paultimothymooney/chest-xray-pneumonia",
    "https://sirm.org/category/senza-categoria/covid-19/",
)


def write_radiography(root: Path, n: int = 3, *, decode: bool = True) -> Path:
    """The database's folders in `root`, n random images a class; returns the folder of classes.

    The lungs are the left half. Without `decode` the files are empty.
    """
    generator = np.random.default_rng(0)
    lungs = np.zeros((32, 32, 3), dtype=np.uint8)
    lungs[:, :16] = 255
    for label, url in zip(CLASSES, SITES, strict=True):
        names = [f"{label}-{i}" for i in range(1, n + 1)]
        for kind in ("images", "masks"):
            (root / FOLDER / label / kind).mkdir(parents=True)
        for name in names:
            image, mask = (root / FOLDER / label / k / f"{name}.png" for k in ("images", "masks"))
            if decode:
                pixels = generator.integers(256, size=(40, 40), dtype=np.uint8)
                Image.fromarray(pixels).save(image)
                Image.fromarray(lungs).save(mask)
            else:
                image.touch()
                mask.touch()
        with (root / FOLDER / f"{label}.metadata.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["FILE NAME", "FORMAT", "SIZE", "URL"])
            # in the download, too, one class is written in capitals
            shown = [name.upper() if label == "Normal" else name for name in names]
            writer.writerows([name, "PNG", "256*256", url] for name in shown)
    return root / FOLDER


def test_everything_is_read(tmp_path):
    folder = write_radiography(tmp_path)
    data = open_dataset("radiography", tmp_path, size=16)
    assert data.images.shape == (12, 16, 16) and data.classes == CLASSES
    assert data.label.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert data.patient.tolist() == list(range(12)) and data.split is None
    assert data.masks["lungs"][:, :, :8].all() and not data.masks["lungs"][:, :, 8:].any()
    with Image.open(folder / "Normal/images/Normal-2.png") as picture:
        expected = np.asarray(picture.resize((16, 16), Image.Resampling.BILINEAR))
    assert np.array_equal(data.images[7], expected)
    assert np.array_equal(open_dataset("radiography", folder, size=16).images, data.images)


def test_sites_are_hosts_and_owners_whatever_the_case_of_a_name(tmp_path):
    write_radiography(tmp_path)
    rows = list_images("radiography", tmp_path).rows
    assert rows.groupby("label")["site"].unique().map(list).to_dict() == {
        "COVID": ["github.com/armiro/COVID-CXNet"],
        "Lung_Opacity": ["kaggle.com/c/rsna-pneumonia-detection-challenge"],
        "Normal": ["kaggle.com/paultimothymooney/chest-xray-pneumonia"],
        "Viral Pneumonia": ["sirm.org"],
    }


def test_ten_comes_after_two(tmp_path):
    write_radiography(tmp_path, 11, decode=False)
    names = [Path(name).stem for name in list_images("radiography", tmp_path).rows["image"][:11]]
    assert names == [f"COVID-{i}" for i in range(1, 12)]


def test_without_metadata_there_are_no_sites(tmp_path):
    folder = write_radiography(tmp_path)
    (folder / "COVID.metadata.csv").unlink()
    rows = list_images("radiography", tmp_path).rows
    assert (rows["site"][:3] == "").all() and (rows["site"][3:] != "").all()
    for file in folder.glob("*.csv"):
        file.unlink()
    assert "site" not in list_images("radiography", tmp_path).rows


def _as_sheet(file: Path):
    pd.read_csv(file, dtype=str).to_excel(file.with_suffix(".xlsx"), index=False)
    file.unlink()


def test_a_sheet_is_read_where_openpyxl_is_there(tmp_path):
    pytest.importorskip("openpyxl", reason="openpyxl, which is no dependency, is not installed")
    folder = write_radiography(tmp_path)
    before = list_images("radiography", tmp_path).rows
    for label in CLASSES:
        _as_sheet(folder / f"{label}.metadata.csv")
    assert list_images("radiography", tmp_path).rows.equals(before)
    (folder / "COVID.metadata.xlsx").write_bytes(b"no sheet")
    with pytest.raises(DataError, match=r"COVID\.metadata\.xlsx: not a readable xlsx file"):
        list_images("radiography", tmp_path)


def test_without_openpyxl_a_sheet_is_left_unread_with_a_warning(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    folder = write_radiography(tmp_path)
    (folder / "COVID.metadata.csv").rename(folder / "COVID.metadata.xlsx")
    with pytest.warns(UserWarning, match=r"metadata\.xlsx not read, so no 'site'"):
        rows = list_images("radiography", tmp_path).rows
    assert (rows["site"][:3] == "").all() and (rows["site"][3:] != "").all()


def test_the_subsample_of_the_paper(tmp_path):
    write_radiography(tmp_path, 1302, decode=False)
    first, again, other = (
        list_images("radiography", tmp_path, subsample="paper", seed=seed).rows
        for seed in (0, 0, 1)
    )
    counts = first.groupby(["label", "split"]).size()
    assert counts.to_dict() == {(label, s): n for label in CLASSES for s, n in PAPER.items()}
    assert first["split"].value_counts().to_dict() == {"train": 3200, "val": 1200, "test": 800}
    assert first["image"].is_unique and first.equals(again) and not first.equals(other)
    listing = list_images("radiography", tmp_path, subsample="paper")
    assert all(Path(image).match(where) for where, image in listing.rows["image"].items())
    for file in list((tmp_path / FOLDER / "COVID/images").iterdir())[:3]:
        file.unlink()
    with pytest.raises(DataError, match=r"COVID.images: 1299 images, the paper's .* needs 1300"):
        list_images("radiography", tmp_path, subsample="paper")
    with pytest.raises(ValueError, match="subsample 'papre': expected one of None, paper"):
        list_images("radiography", tmp_path, subsample="papre")


def _remove(folder: Path):
    for file in sorted(folder.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    folder.rmdir()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda root: _remove(root / "Normal"), r"Normal: no such folder$"),
        (lambda root: _remove(root / "COVID/masks"), r"COVID.masks: no such folder$"),
        (lambda root: _remove(root / "COVID/images"), r"COVID.images: no such folder$"),
        (lambda root: (root / "Flu/images").mkdir(parents=True), "Flu: unknown class, expected CO"),
        (lambda root: (root / "COVID/images/a.txt").touch(), r"a\.txt: not expected, only \.png"),
        (
            lambda root: [f.unlink() for f in (root / "COVID/images").iterdir()],
            "COVID.images: no images$",
        ),
        (
            lambda root: (root / "COVID.metadata.csv").write_text("name,URL\na,b\n"),
            r"COVID\.metadata\.csv: no column 'FILE NAME' .*found name, URL",
        ),
        (
            lambda root: (root / "COVID/masks/COVID-2.png").unlink(),
            r"^COVID/images/COVID-2\.png: mask .*masks.COVID-2\.png: no such file$",
        ),
        (
            lambda root: (root / "COVID/images/COVID-2.png").write_bytes(
                (root / "Normal/images/Normal-1.png").read_bytes()
            ),
            r"^Normal/images/Normal-1\.png: the same picture as COVID/images/COVID-2\.png"
            ", yet label is 'Normal' and 'COVID'",
        ),
    ],
)
def test_a_fault_is_one_line(tmp_path, spoil, words):
    spoil(write_radiography(tmp_path))
    with pytest.raises(DataError, match=words) as error:
        open_dataset("radiography", tmp_path, size=8)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_not_there_or_another(tmp_path):
    with pytest.raises(DataError, match="absent: no such folder"):
        open_dataset("radiography", tmp_path / "absent")
    with pytest.raises(DataError, match=r"COVID: no such folder \(and 3 more"):
        open_dataset("radiography", tmp_path)


def _moved(to):
    def move(root):
        (root.parent / to).parent.mkdir(parents=True, exist_ok=True)
        root.rename(root.parent / to)

    return move


@pytest.mark.parametrize(
    "change",
    [
        _moved(f"archive/{FOLDER}"),
        _moved("COVID 19 data"),
        _moved(f"x/{FOLDER}/{FOLDER}"),
        lambda root: (root / "Viral Pneumonia").rename(root / "Viral_Pneumonia"),
        lambda root: (root / "Normal").rename(root / "NORMAL"),
        lambda root: (root / "Lung_Opacity").rename(root / "lung opacity"),
        lambda root: (root / "Lung_Opacity/images").rename(root / "Lung_Opacity/Images"),
        lambda root: (root / "COVID.metadata.csv").rename(root / "covid.metadata.csv"),
        lambda root: (root / "COVID.metadata.csv").write_text(
            (root / "COVID.metadata.csv").read_text().replace("FILE NAME,", "FILE NAME ,")
        ),
        lambda root: (root / "COVID.metadata.csv").write_text(
            re.sub("(COVID-[0-9]+)", r"\1.PNG", (root / "COVID.metadata.csv").read_text())
        ),
        lambda root: (root / "COVID.metadata.csv").write_text(
            "sep=;\n" + (root / "COVID.metadata.csv").read_text().replace(",", ";")
        ),
    ],
)
def test_folders_and_files_under_other_names(tmp_path, change):
    write_radiography(tmp_path / "a")
    change(write_radiography(tmp_path / "b"))
    whole, moved = (list_images("radiography", tmp_path / name).rows for name in "ab")
    for column in ("label", "site"):
        assert moved[column].tolist() == whole[column].tolist()
    assert all(Path(path).is_file() for path in moved["image"])


def test_metadata_of_other_images_are_told(tmp_path):
    file = write_radiography(tmp_path) / "Normal.metadata.csv"
    file.write_text(file.read_text().replace("-", "_x_"))
    with pytest.warns(
        UserWarning, match="metadata of Normal: no FILE NAME is an image of .*such as"
    ):
        list_images("radiography", tmp_path)


@pytest.mark.parametrize("url", ["http://[broken", "http://[::1", "https://a]b/"])
def test_an_address_that_is_none_stands_as_it_is(tmp_path, url):
    file = write_radiography(tmp_path) / "COVID.metadata.csv"
    file.write_text(file.read_text().replace(SITES[0], url))
    assert (list_images("radiography", tmp_path).rows["site"][:3] == url).all()


def test_two_copies_and_the_version_of_2020(tmp_path):
    write_radiography(tmp_path / "a", decode=False)
    write_radiography(tmp_path / "b", decode=False)
    with pytest.raises(
        DataError, match=r"classes are in .*a/COVID.* and in .*b/COVID.*: which is meant"
    ):
        open_dataset("radiography", tmp_path)
    for label in ("COVID-19", "NORMAL", "Viral Pneumonia"):
        (tmp_path / "old" / label).mkdir(parents=True)
        (tmp_path / "old" / label / f"{label} (1).png").touch()
    words = r"old/COVID: no such folder \(of an older version make a table, .*table\) \(and 1 more"
    with pytest.raises(DataError, match=words):
        open_dataset("radiography", tmp_path / "old")


def test_what_systems_and_people_leave_is_passed_over(tmp_path):
    folder = write_radiography(tmp_path)
    for name in ("COVID/images/Thumbs.db", "COVID/images/.DS_Store", "COVID/images/._COVID-1.png"):
        (folder / name).touch()
    (folder / "README.md.txt").touch()
    (folder / "my notes").mkdir()
    assert len(list_images("radiography", tmp_path)) == 12


def test_the_real_layout_says_the_same_as_the_table(tmp_path, cxr):
    """Every 20th real image, laid out by the shared tool and as a table."""
    tool = cxr.parents[1] / "tools" / "as_radiography.py"
    if not tool.is_file():
        pytest.skip("the tool that makes the real layout is not on this machine")
    rows = pd.read_csv(cxr / "metadata.csv", dtype=str, keep_default_na=False)
    rows = rows[rows["counter"] != "1"][::20].sort_values("label", kind="stable")
    for column in ("image", "mask"):
        rows[column] = [str(cxr / name) for name in rows[column]]
    (tmp_path / "table").mkdir()
    rows.to_csv(tmp_path / "table" / "metadata.csv", index=False)
    spec = spec_from_file_location("as_radiography", tool)
    layout = module_from_spec(spec)
    spec.loader.exec_module(layout)
    layout.SOURCE = tmp_path / "table"
    layout.main(str(tmp_path))

    data = open_dataset("radiography", tmp_path, size=96)
    for column in ("image", "mask"):
        rows[column] = [str(Path(name).relative_to(cxr)) for name in rows[column]]
    for folder in ("images", "masks"):
        for name in rows[folder.removesuffix("s")]:
            (tmp_path / "table" / folder).mkdir(exist_ok=True)
            (tmp_path / "table" / name).write_bytes((cxr / name).read_bytes())
    rows.to_csv(tmp_path / "table" / "metadata.csv", index=False)
    table = open_dataset("table", tmp_path / "table", size=96)

    assert len(data) == len(table) > 50 and data.classes == table.classes
    assert data.label.tolist() == table.label.tolist()
    assert data.levels["site"] == table.levels["site"]
    assert data.confounders["site"].tolist() == table.confounders["site"].tolist()
    difference = np.abs(data.images.astype(int) - table.images)
    assert difference.mean() < 3 and difference.mean(axis=(1, 2)).max() < 8
    assert (data.masks["lungs"] == table.masks["lungs"]).mean() > 0.98


def _with_children(tmp_path, n=300):
    """A third of the Normal images is of the source of Viral Pneumonia."""
    folder, child = write_radiography(tmp_path, n, decode=False), SITES[3]
    metadata = pd.read_csv(folder / "Normal.metadata.csv", dtype=str)
    metadata.loc[metadata.index % 3 == 0, "URL"] = child
    metadata.to_csv(folder / "Normal.metadata.csv", index=False)
    return folder


def test_healthy_children_are_the_counter_group_unless_asked_otherwise(tmp_path):
    folder = _with_children(tmp_path, 6)
    with pytest.warns(UserWarning, match=r"2 of 6 Normal images .*sirm.org.*counter=false"):
        rows = list_images("radiography", folder).rows
    apart = rows[rows["counter"] == "1"]
    assert len(rows) == 24 and rows["counter"].isin(["", "1"]).all()
    assert [Path(name).stem for name in apart["image"]] == ["Normal-1", "Normal-4"]
    assert (apart["site"] == "sirm.org").all() and (apart["label"] == "Normal").all()
    as_published = list_images("radiography", folder, counter=False).rows
    assert len(as_published) == 24 and "counter" not in as_published


def test_healthy_children_are_in_no_split_of_the_papers_subsample(tmp_path, monkeypatch):
    folder = _with_children(tmp_path, 12)
    sizes = {"train": 4, "val": 2, "test": 2}
    monkeypatch.setattr("xbl_kit.data.readers.radiography.PAPER", sizes)
    with pytest.warns(UserWarning, match="4 of 12 Normal"):
        rows = list_images("radiography", folder, subsample="paper").rows
    assert rows[rows["counter"] == "1"]["split"].tolist() == [""] * 4
    counts = rows[rows["split"] != ""].groupby(["label", "split"]).size()
    assert counts.unstack().to_dict("index") == {label: sizes for label in CLASSES}
