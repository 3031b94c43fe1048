"""CheXpert on a small tree of the same make: what is taken, what it counts as, what is refused."""

import csv
import re
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.exposure import equalize_adapthist

from xbl_kit.data import DataError, list_images, open_dataset
from xbl_kit.data.readers.chexpert import FINDINGS, list_chexpert

COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS)
SMALL = "CheXpert-v1.0-small"
CELLS = tuple(product(("0.0", "1.0"), ("Female", "Male"), ("40", "70")))


def chexpert_row(patient: int, effusion="1.0", sex="Female", age="70", **changes) -> dict[str, str]:
    """A row as in train.csv, of a frontal AP view; `changes` are further columns."""
    path = f"{SMALL}/train/patient{patient:05}/study1/view1_frontal.jpg"
    row = dict.fromkeys(COLUMNS, "") | {"Path": path, "Sex": sex, "Age": age}
    row |= {"Frontal/Lateral": "Frontal", "AP/PA": "AP", "Pleural Effusion": effusion}
    return row | changes


def write_chexpert(
    root: Path, rows=None, *, per_cell=2, folder=SMALL, file="train", images=True
) -> Path:
    """`root/folder` as CheXpert is; by default `per_cell` patients a cell of label, sex and age.

    An effusion is a bright lower corner, a man has a bright upper one, the old a bright bar.
    """
    if rows is None:
        cells = [cell for cell in CELLS for _ in range(per_cell)]
        rows = [chexpert_row(number, *cell) for number, cell in enumerate(cells, 1)]
    home = root / folder
    home.mkdir(parents=True, exist_ok=True)
    with (home / f"{file}.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    for number, row in enumerate(rows if images else []):
        path = home / row["Path"].partition("/")[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = np.random.default_rng(number).integers(0, 90, (40, 32), dtype=np.uint8)
        picture[28:, :12] += 120 * np.uint8(row["Pleural Effusion"] == "1.0")
        picture[:10, 20:] += 120 * np.uint8(row["Sex"] == "Male")
        picture[:, 15:18] += 120 * np.uint8(row["Age"] >= "60")
        Image.fromarray(picture).save(path, quality=95)
    return root


def quirks() -> list[dict[str, str]]:
    """One row of each kind that is in the real table, of patients 1, 2, ... in this order."""
    lateral = {"Frontal/Lateral": "Lateral", "AP/PA": ""}
    rows = [
        {},
        {"effusion": "0.0", "sex": "Male", "age": "40", "No Finding": "1.0", "Edema": "-1.0"},
        {"effusion": "-1.0"},
        {"effusion": ""},
        {"effusion": "0", "age": "50", "Edema": "1.0"},
        {"effusion": "1", "age": "60", "Edema": "0.0"},
        {"age": "51"},
        {"age": "59"},
        {"sex": "Unknown", "age": "0"},
        {"sex": "Unknown", "age": "90"},
        {"AP/PA": "PA"},
        {"AP/PA": "LL"},
        {"AP/PA": "RL"},
        {"AP/PA": ""},
        lateral,
        lateral | {"AP/PA": "LL"},
    ]
    return [chexpert_row(number, **row) for number, row in enumerate(rows, 1)]


def _patients(listing) -> list[int]:
    return [int(name.removeprefix("patient")) for name in listing.rows["patient"]]


def test_the_defaults_are_the_task_with_sex_and_age(tmp_path):
    listing = list_chexpert(write_chexpert(tmp_path, quirks()))
    assert _patients(listing) == [1, 2, 5, 6, 10]
    assert listing.factors == ("sex", "age_group") and listing.target == "label"
    assert listing.rows["label"].tolist() == ["yes", "no", "no", "yes", "yes"]
    assert listing.rows["sex"].tolist() == ["Female", "Male", "Female", "Female", ""]
    assert listing.rows["age_group"].tolist() == ["60+", "0-50", "0-50", "60+", "60+"]
    assert set(listing.rows["view"]) == {"AP"}
    assert listing.rows["Edema"].tolist() == ["", "", "yes", "no", ""]
    assert "Pleural Effusion" not in listing.rows, "it is the label, and no confounder of itself"
    table = tmp_path / SMALL / "train.csv"
    assert list(listing.rows.index) == [f"{table}, line {1 + n}" for n in (1, 2, 5, 6, 10)]
    assert listing.read.keywords == {"pad": True, "clahe": True}


def test_images_are_padded_and_equalised(tmp_path):
    write_chexpert(tmp_path, per_cell=1)
    data = open_dataset("chexpert", tmp_path, size=32, confounders=("sex", "age_group"))
    assert data.classes == ("no", "yes") and data.label.tolist() == 4 * [0] + 4 * [1]
    assert data.levels == {"sex": ("Female", "Male"), "age_group": ("0-50", "60+")}
    assert data.confounders["sex"].tolist() == 2 * [0, 0, 1, 1]
    assert data.confounders["age_group"].tolist() == 4 * [0, 1]
    first = tmp_path / SMALL / "train/patient00001/study1/view1_frontal.jpg"
    with Image.open(first) as picture:
        square = Image.new("L", (40, 40))
        square.paste(picture, (4, 0))
    grey = np.asarray(square.resize((32, 32), Image.Resampling.BILINEAR))
    assert np.array_equal(data.images[0], (255 * equalize_adapthist(grey)).round())
    plain = open_dataset("chexpert", tmp_path, size=32, clahe=False)
    assert np.array_equal(plain.images[0], grey)


@pytest.mark.parametrize(
    ("uncertain", "unmentioned", "labels"),
    [
        ("drop", "drop", {1: "yes", 2: "no"}),
        ("zeros", "drop", {1: "yes", 2: "no", 3: "no"}),
        ("ones", "drop", {1: "yes", 2: "no", 3: "yes"}),
        ("multiclass", "drop", {1: "yes", 2: "no", 3: "uncertain"}),
        ("drop", "zeros", {1: "yes", 2: "no", 4: "no"}),
        ("ones", "zeros", {1: "yes", 2: "no", 3: "yes", 4: "no"}),
    ],
)
def test_uncertain_and_unmentioned_labels(tmp_path, uncertain, unmentioned, labels):
    write_chexpert(tmp_path, quirks()[:4], images=False)
    listing = list_chexpert(tmp_path, uncertain=uncertain, unmentioned=unmentioned)
    assert dict(zip(_patients(listing), listing.rows["label"], strict=True)) == labels
    edema = {"drop": "", "zeros": "no", "ones": "yes", "multiclass": "uncertain"}[uncertain]
    assert listing.rows["Edema"].iloc[1] == edema, "the other findings count alike"
    assert listing.rows["Edema"].iloc[0] == ("no" if unmentioned == "zeros" else "")


def test_views(tmp_path):
    write_chexpert(tmp_path, quirks(), images=False)
    base = [1, 2, 5, 6, 10]
    for views, more in (
        (("PA",), [11]),
        (("AP", "PA"), [*base, 11]),
        (("AP", "LL", "RL"), [*base, 12, 13]),
        (("AP", "lateral"), [*base, 15, 16]),
        (None, [*base, 11, 12, 13, 14, 15, 16]),
    ):
        listing = list_chexpert(tmp_path, views=views, finding=None)
        assert sorted({*_patients(listing)} - {3, 4}) == more
    assert listing.rows["view"].tolist()[-7:] == ["AP", "PA", "LL", "RL", "", "lateral", "lateral"]


def test_other_ages_or_all(tmp_path):
    write_chexpert(tmp_path, quirks(), images=False)
    listing = list_chexpert(tmp_path, ages=(50, 51))
    assert _patients(listing) == [1, 2, 5, 6, 7, 8, 10], "an age of 0 is not known"
    assert listing.rows["age_group"].tolist() == ["51+", "0-50", "0-50", *4 * ["51+"]]
    listing = list_chexpert(tmp_path, ages=None)
    assert _patients(listing) == [1, 2, 5, 6, 7, 8, 9, 10] and listing.factors == ("sex",)
    assert "age_group" not in listing.rows


def test_any_finding_is_the_label_a_target_or_a_confounder(tmp_path):
    write_chexpert(tmp_path, quirks(), images=False)
    label = list_chexpert(tmp_path, finding="Edema")
    assert _patients(label) == [5, 6] and label.rows["label"].tolist() == ["yes", "no"]
    assert label.rows["Pleural Effusion"].tolist() == ["no", "yes"]
    options = {"finding": None, "target": "Edema", "labels": ("no", "yes")}
    target = list_images("chexpert", tmp_path, **options, confounders=["Pleural Effusion"])
    assert target.rows["image"].tolist() == label.rows["image"].tolist()
    assert target.rows["Edema"].tolist() == ["yes", "no"] and target.factors == FINDINGS[10:11]
    with pytest.raises(DataError, match="no column 'label', expected one of sex, age_group, view"):
        list_images("chexpert", tmp_path, finding=None)
    with pytest.raises(DataError, match=r"No Finding: 1 of 16 images, all of them 'yes', .*zeros"):
        list_chexpert(tmp_path, finding="No Finding")
    healthy = list_chexpert(tmp_path, finding="No Finding", unmentioned="zeros")
    assert healthy.rows["label"].tolist() == ["no", "yes", *5 * ["no"]]


def test_every_row_against_a_plain_reading_of_the_table(tmp_path):
    draw = np.random.default_rng(0).choice
    values = [c + z for c in ("1", "0", "-1") for z in ("", ".0")] + 4 * [""]
    rows = [
        chexpert_row(
            number,
            sex=draw(["Female", "Male", "Unknown"]),
            age=str(draw(91)),
            **dict(zip(FINDINGS, draw(values, 14).tolist(), strict=True)),
            **{"Frontal/Lateral": draw(["Frontal", "Lateral"]), "AP/PA": draw(["AP", "PA", ""])},
        )
        for number in range(1, 801)
    ]
    write_chexpert(tmp_path, rows, images=False)
    listing = list_chexpert(tmp_path, finding="Fracture", uncertain="ones")
    expected = []
    for row in rows:
        label = {"1": "yes", "-1": "yes", "0": "no", "": ""}[row["Fracture"].split(".")[0]]
        age = int(row["Age"])
        if not label or row["AP/PA"] != "AP" or row["Frontal/Lateral"] == "Lateral":
            continue
        if 1 <= age <= 50 or age >= 60:
            sex = "" if row["Sex"] == "Unknown" else row["Sex"]
            path = tmp_path / SMALL / "/".join(row["Path"].split("/")[1:])
            expected.append([str(path), label, sex, "60+" if age >= 60 else "0-50"])
    columns = ["image", "label", "sex", "age_group"]
    assert listing.rows[columns].to_numpy().tolist() == expected and len(expected) > 50


@pytest.mark.parametrize(
    ("folder", "root"),
    [
        (SMALL, ""),
        (SMALL, SMALL),
        ("CheXpert-v1.0", ""),
        ("unpacked as I like", "unpacked as I like"),
        (f"{SMALL}/{SMALL}", ""),
        (f"{SMALL}/{SMALL}", SMALL),
        (f"{SMALL}/{SMALL}", f"{SMALL}/{SMALL}"),
    ],
)
def test_the_root_is_the_folder_of_the_table_or_above_it(tmp_path, folder, root):
    write_chexpert(tmp_path, per_cell=1, folder=folder)
    assert len(open_dataset("chexpert", tmp_path / root, size=32)) == 8


def test_the_table_may_lie_beside_the_folder_that_its_paths_begin_with(tmp_path):
    write_chexpert(tmp_path, per_cell=1)
    (tmp_path / SMALL / "train.csv").rename(tmp_path / "train.csv")
    assert len(open_dataset("chexpert", tmp_path, size=32)) == 8
    file = tmp_path / "train.csv"
    file.write_text(file.read_text().replace(f"{SMALL}/", ""))
    (tmp_path / SMALL / "train").rename(tmp_path / "train")
    assert len(open_dataset("chexpert", tmp_path, size=32)) == 8, "paths without a first folder"
    file.write_text(file.read_text().replace("train/", f"{SMALL}/train/"))
    assert (tmp_path / SMALL).is_dir() and not any((tmp_path / SMALL).iterdir())
    assert len(open_dataset("chexpert", tmp_path, size=32)) == 8, "an empty folder is no guide"


def test_the_archives_of_the_full_size_unpacked_side_by_side(tmp_path):
    first, second = "CheXpert-v1.0 batch 1 (validate & csv)", "CheXpert-v1.0 batch 2 (train 1)"
    write_chexpert(tmp_path, per_cell=1, folder=first)
    train = tmp_path / first / "train"
    train.rename(tmp_path / second)
    third = tmp_path / "CheXpert-v1.0 batch 3 (train 2)"
    third.mkdir()
    (tmp_path / second / "patient00008").rename(third / "patient00008")
    assert len(open_dataset("chexpert", tmp_path, size=32)) == 8
    (tmp_path / second / "patient00007").rename(third / "7")
    with pytest.raises(DataError, match=r"line 8: image .*patient00007.*no such file$"):
        open_dataset("chexpert", tmp_path, size=32)


def test_the_radiologists_table_is_a_data_set_of_its_own(tmp_path):
    write_chexpert(tmp_path, per_cell=1)
    rows = [chexpert_row(64541 + i, *cell) for i, cell in enumerate(CELLS[::2])]
    rows = [row | {"Path": row["Path"].replace("train", "valid")} for row in rows]
    write_chexpert(tmp_path, rows, file="valid")
    valid = list_chexpert(tmp_path, file="valid", ages=None)
    assert _patients(valid) == [64541, 64542, 64543, 64544]
    assert all("/valid/" in path and Path(path).is_file() for path in valid.rows["image"])
    assert not {*_patients(valid)} & {*_patients(list_chexpert(tmp_path))}


def test_options_that_are_unknown(tmp_path):
    write_chexpert(tmp_path, images=False)
    for options, words in (
        ({"finding": "Effusion"}, "finding 'Effusion': expected one of No Finding, Enlarged"),
        ({"uncertain": "ignore"}, "uncertain 'ignore': expected one of drop, zeros, ones, multi"),
        ({"unmentioned": "ones"}, "unmentioned 'ones': expected one of drop, zeros"),
        ({"views": ("AP", "frontal")}, r"views=\('AP', 'frontal'\): expected .* AP, PA, LL, RL"),
        ({"views": "AP"}, "views='AP': expected a list"),
        ({"views": ()}, r"views=\(\): expected a list"),
        ({"ages": (60, 50)}, r"ages=\(60, 50\): expected two, the lower first"),
        ({"ages": (60,)}, r"ages=\(60,\)"),
        ({"file": "/etc/train"}, "file='/etc/train': expected the name of a table"),
        ({"file": "*"}, r"file='\*': expected"),
        ({"ages": (60, 60)}, r"ages=\(60, 60\)"),
    ):
        with pytest.raises(ValueError, match=words):
            list_chexpert(tmp_path, **options)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("Pleural Effusion", "2.0", "'2.0', expected one of 1, 0, -1, empty"),
        ("Edema", "yes", "'yes', expected one of 1, 0, -1, empty"),
        ("Age", "abc", "'abc', expected one of 0 to 120, empty"),
        ("Age", "-4", "'-4'"),
        ("Age", "1900", "'1900'"),
        ("Sex", "W", "'W', expected one of Female, Male, Unknown, empty"),
        ("AP/PA", "Frontal", "'Frontal', expected one of AP, PA, LL, RL, empty"),
        ("Frontal/Lateral", "", "'', expected one of Frontal, Lateral"),
    ],
)
def test_cells_that_chexpert_does_not_have(tmp_path, column, value, words):
    rows = quirks()
    rows[4][column] = value
    write_chexpert(tmp_path, rows, images=False)
    words = re.escape(f"{SMALL}/train.csv, line 6: {column} is {words}")
    with pytest.raises(DataError, match=words) as error:
        list_chexpert(tmp_path)
    assert "\n" not in str(error.value)
    rows[2]["Edema"] = rows[7]["Fracture"] = "7"
    write_chexpert(tmp_path, rows, images=False)
    with pytest.raises(DataError, match=r"line 4: Edema is '7'.*and 2 more") as error:
        list_chexpert(tmp_path)
    assert [fault.where[-1] for fault in error.value.faults] == ["4", "6", "9"]


@pytest.mark.parametrize("word", ["nan", "NA", "NULL"])
def test_blanks_that_a_program_filled_are_blank(tmp_path, word):
    listed = []
    for filled in (quirks(), [{k: v or word for k, v in row.items()} for row in quirks()]):
        write_chexpert(tmp_path, filled, images=False)
        if filled != quirks():
            with pytest.warns(UserWarning, match=r"not known: .*, \.\.\. \(15 columns in all\)$"):
                listed.append(list_chexpert(tmp_path, views=None, ages=None).rows)
        else:
            listed.append(list_chexpert(tmp_path, views=None, ages=None).rows)
    assert listed[0].equals(listed[1])


@pytest.mark.parametrize(
    "head",
    ["", "./", "../input/x/", "/kaggle/input/chexpert/", "data\\", "C:\\x\\", f"/home/me/{SMALL}/"],
)
@pytest.mark.parametrize("folder", [SMALL, "x", "chexpert/input"])
def test_whatever_paths_begin_with(tmp_path, head, folder):
    write_chexpert(tmp_path, per_cell=1, folder=folder)
    table = tmp_path / folder / "train.csv"
    changed = table.read_text().replace(f"{SMALL}/", head)
    if "\\" in head:
        changed = changed.replace("train/", "train\\").replace("/study1/", "\\study1\\")
    table.write_text(changed)
    data = open_dataset("chexpert", tmp_path, size=32)
    assert len(data) == 8 and len(data.patient.unique()) == 8


def _test_tables(root):
    """The labels of the official test set by study and by image, with two views of one study."""
    rows = [chexpert_row(64541 + i, *cell) for i, cell in enumerate(CELLS)]
    rows = [row | {"Path": row["Path"].replace("train", "test")} for row in rows]
    home = write_chexpert(root, rows, file="all") / SMALL
    first = home / "test/patient64541/study1"
    side = Image.open(first / "view1_frontal.jpg").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    side.save(first / "view2_lateral.jpg")
    for name, path in (("by_study", "Study"), ("groundtruth", "Path")):
        with (home / f"{name}.csv").open("w", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow([path, *FINDINGS])
            for row in rows:
                where = row["Path"] if path == "Path" else row["Path"].rpartition("/")[0]
                writer.writerow([where, *(row[name] or "0.0" for name in FINDINGS)])
    return root


@pytest.mark.parametrize(
    ("options", "lacks"),
    [({}, "Age"), ({"views": None}, "Age"), ({"ages": None}, "Frontal/Lateral"), (None, None)],
)
@pytest.mark.parametrize("file", ["by_study", "groundtruth"])
def test_the_tables_of_the_official_test_set(tmp_path, file, options, lacks):
    _test_tables(tmp_path)
    if lacks:
        words = (
            rf"{file}\.csv: no column '{lacks}' .*; `--option views=none` and `--option ages=none`"
        )
        with pytest.raises(DataError, match=words):
            open_dataset("chexpert", tmp_path, size=32, file=file, **options)
        return
    data = open_dataset("chexpert", tmp_path, size=32, file=file, views="none", ages=None)
    assert len(data) == 8 + (file == "by_study") and len(data.patient.unique()) == 8
    assert data.classes == ("no", "yes") and not data.levels
    rows = list_chexpert(tmp_path, file=file, views=None, ages=None).rows
    assert rows["view"].tolist()[:2] == ["", "lateral" if file == "by_study" else ""]


def test_a_study_without_images_is_named(tmp_path):
    view = _test_tables(tmp_path) / SMALL / "test/patient64543/study1/view1_frontal.jpg"
    view.unlink()
    with pytest.raises(DataError, match=r"line 4: image .*patient64543/study1: not a file"):
        open_dataset("chexpert", tmp_path, size=32, file="by_study", views=None, ages=None)


def test_blank_lines_do_not_shift_the_lines_that_are_named(tmp_path):
    write_chexpert(tmp_path, quirks(), images=False)
    file = tmp_path / SMALL / "train.csv"
    first, *lines = file.read_text().splitlines()
    file.write_text("\n".join([first, "", *lines]))
    places = [where.rpartition(" ")[2] for where in list_chexpert(tmp_path).rows.index]
    assert places == ["3", "4", "7", "8", "12"]


def test_tables_that_are_missing_or_not_chexperts(tmp_path):
    with pytest.raises(DataError, match="absent: no such folder"):
        list_chexpert(tmp_path / "absent")
    with pytest.raises(DataError, match=r"train\.csv: not found, nor one or two folders below"):
        list_chexpert(tmp_path)
    for column in ("Path", "Age", "Lung Opacity"):
        rows = [{k: v for k, v in row.items() if k != column} for row in quirks()]
        write_chexpert(tmp_path, rows, images=False)
        with pytest.raises(DataError, match=rf"train\.csv: no column '{column}' .*found .*Sex"):
            list_chexpert(tmp_path)
    write_chexpert(tmp_path, quirks()[2:4], images=False)
    with pytest.raises(DataError, match=r"Pleural Effusion: 0 of 2 images, expected two labels"):
        list_chexpert(tmp_path)
    with pytest.raises(DataError, match="no images"):
        list_images("chexpert", tmp_path, finding=None, views=("PA",), target="Edema")
    write_chexpert(tmp_path, images=False, folder="CheXpert-v1.0")
    both = rf"train\.csv is in .*CheXpert-v1\.0 and in .*{SMALL}"
    with pytest.raises(DataError, match=both):
        list_chexpert(tmp_path)


def test_files_that_are_missing_or_lead_out_of_the_root(tmp_path):
    write_chexpert(tmp_path, per_cell=1)
    view = tmp_path / SMALL / "train/patient00003/study1/view1_frontal.jpg"
    view.rename(tmp_path / "elsewhere.jpg")
    with pytest.raises(
        DataError, match=r"train\.csv, line 4: image .*patient00003.*: no such file"
    ):
        open_dataset("chexpert", tmp_path, size=32)
    view.symlink_to(tmp_path / "elsewhere.jpg")
    with pytest.raises(DataError, match=r"line 4: image .*: leads out of"):
        open_dataset("chexpert", tmp_path / SMALL, size=32)
    rows = [chexpert_row(1), chexpert_row(2, "0.0", Path="scans/1.jpg")]
    write_chexpert(tmp_path / "b", rows, images=False)
    with pytest.raises(DataError, match=r"line 3: patient is '', expected a value"):
        open_dataset("chexpert", tmp_path / "b", size=32)


def test_a_table_of_the_real_size_is_listed_in_seconds(tmp_path):
    rows = quirks() * 14_000
    with (tmp_path / "train.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    start = time.process_time()
    assert len(list_chexpert(tmp_path)) == 5 * 14_000
    assert time.process_time() - start < 20
