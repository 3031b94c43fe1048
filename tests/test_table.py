"""Table data: what is read, and one clear line for whatever is wrong with it."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from xbl_kit.data import DataError, list_images, open_dataset, write_table
from xbl_kit.data.check import check
from xbl_kit.data.faults import grouped

LABELS = ("ill", "well")


def _rows(n=6):
    return [
        {
            "image": f"images/{i}.png",
            "label": LABELS[i % 2],
            "mask": f"masks/{i}.png",
            "patient": f"p{i // 2}",
            "age": str(30 + i),
            "sex": "FM"[i // 2 % 2] if i else "",
            "counter": str(int(i == 5)),
        }
        for i in range(n)
    ]


def _write(root: Path, rows=None, *, image=(20, 16), mask=(20, 16)) -> Path:
    """A table data set: image i has grey 40 i % 240 and a bright corner, lungs are on the left."""
    rows = _rows() if rows is None else rows
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for i in range(max(6, len(rows))):
        picture = Image.new("L", image, 40 * (i % 6))
        picture.putpixel((image[0] - 1, image[1] - 1), 255 - i // 6)
        picture.save(root / f"images/{i}.png")
        lungs = np.zeros(mask[::-1], dtype=np.uint8)
        lungs[:, : mask[0] // 2] = 255
        Image.fromarray(lungs).save(root / f"masks/{i}.png")
    with (root / "metadata.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, rows[0] if rows else ["image", "label"])
        writer.writeheader()
        writer.writerows(rows)
    return root


def test_everything_is_read(tmp_path):
    data = open_dataset("table", _write(tmp_path), size=8)
    assert data.images.shape == (6, 8, 8) and data.images[:, 3, 3].tolist() == [
        0,
        40,
        80,
        120,
        160,
        200,
    ]
    assert data.classes == LABELS and data.label.tolist() == [0, 1, 0, 1, 0, 1]
    assert data.patient.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.counter.tolist() == [False] * 5 + [True]
    assert data.levels["sex"] == ("F", "M")
    assert data.confounders["sex"].tolist() == [-1, 0, 1, 1, 0, 0]
    batch = data[[4, 1]]
    assert batch.index.tolist() == [4, 1] and batch.label.tolist() == [0, 1]
    assert batch.image[0, 0, 0, 0].item() == pytest.approx(160 / 255)
    assert batch.masks["lungs"][:, :, :4].all() and not batch.masks["lungs"][:, :, 4:].any()


def test_confounders_can_be_named(tmp_path):
    data = open_dataset("table", _write(tmp_path), size=8, confounders=["sex"])
    assert list(data.confounders) == ["sex"]
    with pytest.raises(DataError, match=r"no column 'site', expected one of label, age, sex"):
        open_dataset("table", tmp_path, size=8, confounders=["site"])


def test_masks_of_another_size_are_fitted_by_nearest(tmp_path):
    data = open_dataset("table", _write(tmp_path, mask=(60, 48)), size=8)
    assert data.masks["lungs"][:, :, :4].all() and not data.masks["lungs"][:, :, 4:].any()


def test_only_image_and_label_are_needed(tmp_path):
    rows = [{"image": row["image"], "label": row["label"]} for row in _rows()]
    data = open_dataset("table", _write(tmp_path, rows), size=8)
    assert not data.masks and not data.confounders and data.counter is None and data.split is None
    assert data.patient.tolist() == list(range(6))


def test_a_byte_order_mark_and_a_colour_image_do_no_harm(tmp_path):
    file = _write(tmp_path) / "metadata.csv"
    file.write_text(file.read_text(), encoding="utf-8-sig")
    picture = Image.new("RGB", (20, 16), (10, 10, 10))
    picture.putpixel((19, 15), (200, 200, 200))
    picture.save(tmp_path / "images/0.png")
    assert open_dataset("table", tmp_path, size=8).images[0, 0, 0] == 10


def _changed(column, value):
    rows = _rows()
    rows[2][column] = value
    return rows


def _without(column):
    return [{k: v for k, v in row.items() if k != column} for row in _rows()]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (_without("label"), "no column 'label', expected one of age, sex"),
        (_without("image"), r"metadata\.csv: no column 'image'"),
        ([], "no images"),
        (_changed("label", ""), r"metadata\.csv, line 4: label is '', expected a value"),
        (_changed("patient", ""), r"metadata\.csv, line 4: patient is ''"),
        (_changed("counter", "yes"), r"line 4: counter is 'yes', expected one of 0, 1"),
        (_changed("image", "images/9.png"), r"line 4: image .*images/9\.png: no such file"),
        (_changed("mask", "masks/9.png"), r"line 4: mask .*masks/9\.png: no such file"),
        (_changed("mask", ""), r"line 4: mask is '', expected a path"),
        (_changed("image", "../secret.png"), r"line 4: image .*secret\.png: no such file"),
        (_changed("image", "/etc/hosts"), r"line 4: image /etc/hosts: leads out of"),
        (_changed("image", "images"), r"line 4: image .*images: not a file"),
    ],
)
def test_a_fault_in_the_table_is_one_line(tmp_path, rows, message):
    with pytest.raises(DataError, match=message) as error:
        open_dataset("table", _write(tmp_path, rows), size=8)
    assert "\n" not in str(error.value)


def test_split_values_are_checked(tmp_path):
    rows = [row | {"split": "train"} for row in _rows()]
    rows[3]["split"] = "first"
    with pytest.raises(DataError, match="line 5: split is 'first', expected one of train, val"):
        open_dataset("table", _write(tmp_path, rows), size=8)


def test_faulty_files_are_named(tmp_path):
    root = _write(tmp_path)
    image, mask = root / "images/3.png", root / "masks/3.png"
    whole = image.read_bytes()
    for content, words in (
        (b"", "empty file"),
        (b"hello", "not a picture, it begins with b'hello'"),
        (whole[:50], "not a readable picture"),
    ):
        image.write_bytes(content)
        with pytest.raises(DataError, match=rf"images/3\.png: {words}"):
            open_dataset("table", root, size=8)
    Image.fromarray(np.full((9, 9), 40_000, dtype=np.uint16)).save(image)
    with pytest.raises(DataError, match=r"images/3\.png: 16 bits a channel, expected 8"):
        open_dataset("table", root, size=8)
    image.write_bytes(whole)
    Image.new("L", (20, 16), 0).save(mask)
    with pytest.raises(DataError, match=r"masks/3\.png: empty mask"):
        open_dataset("table", root, size=8)


def test_another_target_and_some_of_its_values(tmp_path):
    root = _write(tmp_path)
    data = open_dataset("table", root, size=8, target="sex", labels=("F", "M"), confounders=[])
    assert data.classes == ("F", "M") and data.label.tolist() == [0, 1, 1, 0, 0]
    assert data.images[:, 3, 3].tolist() == [40, 80, 120, 160, 200], "row 0 has no sex"
    assert "sex" not in open_dataset("table", root, size=8, target="sex", labels=("F",)).levels
    for options, words in (
        ({"target": "sex"}, r"line 2: sex is '', expected a value"),
        ({"labels": ["ill", "wel"]}, "no label 'wel', found ill, well"),
        ({"confounders": ["counter"]}, "no column 'counter'"),
        (
            {"target": "age", "labels": ["31"], "confounders": ["sex"]},
            "confounder 'sex' has 1 value, expected 2",
        ),
    ):
        with pytest.raises(DataError, match=words):
            open_dataset("table", root, size=8, **options)


def test_a_link_out_of_the_root_is_refused(tmp_path):
    root = _write(tmp_path / "root")
    outside = tmp_path / "outside.png"
    (root / "images/3.png").rename(outside)
    (root / "images/3.png").symlink_to(outside)
    with pytest.raises(DataError, match=r"line 5: image .*images/3\.png: leads out of"):
        open_dataset("table", root, size=8)


def test_missing_root_table_or_kind(tmp_path):
    with pytest.raises(DataError, match="absent: no such folder"):
        open_dataset("table", tmp_path / "absent")
    with pytest.raises(DataError, match=r"metadata\.csv: not found"):
        open_dataset("table", tmp_path)
    with pytest.raises(ValueError, match="no root was given"):
        open_dataset("table")
    with pytest.raises(ValueError, match="expected no root"):
        open_dataset("phantom", tmp_path)
    with pytest.raises(ValueError, match="'pictures': expected one of phantom, morphomnist, "):
        open_dataset("pictures")
    (tmp_path / "metadata.csv").write_bytes(b"\xff\xfe\x00b\x00a")
    with pytest.raises(DataError, match="saved as UTF-16"):
        open_dataset("table", tmp_path)


def test_the_real_chest_x_rays(cxr):
    data = open_dataset("table", cxr, size=32)
    assert len(data) == 1583 and data.counter.sum() == 378
    assert data.classes == ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")
    assert 0.15 < data.masks["lungs"].mean() < 0.5


def test_what_is_written_is_read_again(tmp_path, small_cohort):
    counter = torch.arange(len(small_cohort)) % 7 == 0
    cohort = dataclasses.replace(small_cohort, counter=counter)
    table = write_table(cohort, tmp_path)
    assert table.columns[0] == "label" and table["image"][3] == "images/00003.png"
    again = open_dataset("table", tmp_path, size=32)
    assert np.array_equal(again.images, cohort.images) and again.classes == cohort.classes
    assert np.array_equal(again.masks["lungs"], cohort.masks["lungs"])
    assert torch.equal(again.label, cohort.label) and torch.equal(again.counter, counter)
    assert again.levels == cohort.levels and again.split.tolist() == cohort.split.tolist()
    for factor, level in cohort.confounders.items():
        assert torch.equal(again.confounders[factor], level)
    assert torch.equal(again.patient[:, None] == again.patient, torch.eye(len(again)) == 1)


def test_masks_of_the_only_region_are_written(tmp_path, small_cohort):
    lungs = small_cohort.masks["lungs"]
    for number, (masks, written) in enumerate(
        (
            ({"brain": lungs}, lungs),
            ({"brain": ~lungs, "lungs": lungs}, lungs),
            ({"brain": lungs, "skull": ~lungs}, None),
            ({}, None),
        )
    ):
        root = tmp_path / str(number)
        table = write_table(dataclasses.replace(small_cohort, masks=masks), root)
        assert ("mask" in table) == (root / "masks").exists() == (written is not None)
        if written is not None:
            again = open_dataset("table", root, size=32)
            assert np.array_equal(*again.masks.values(), written)


def test_a_table_is_written_over_itself_and_beside_files_of_others(tmp_path, small_cohort):
    write_table(small_cohort, tmp_path)
    (tmp_path / "metadata.csv").write_text("changed by hand")
    (tmp_path / "images/mine.png").write_text("foreign")
    few = dataclasses.replace(
        small_cohort,
        images=small_cohort.images[:6],
        label=torch.arange(6) % 2,
        patient=small_cohort.patient[:6],
        confounders={},
        levels={},
        masks={},
        split=None,
    )
    with pytest.warns(UserWarning, match=r"metadata\.csv: edited, kept as .*metadata-1\.csv"):
        write_table(few, tmp_path)
    assert (tmp_path / "metadata-1.csv").read_text() == "changed by hand"
    (tmp_path / "metadata-1.csv").unlink()
    write_table(few, tmp_path)
    left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    images = [f"images/0000{row}.png" for row in range(6)]
    assert left == [".xbl-kit.json", *images, "images/mine.png", "metadata.csv"]
    data = open_dataset("table", tmp_path, size=32)
    assert len(data) == 6 and np.array_equal(data.images, few.images)
    assert check(list_images("table", tmp_path)) == [], "nothing is said of the record"


@pytest.mark.parametrize("name", ["notes.txt", "metadata.csv"])
def test_nothing_is_written_into_a_folder_of_others(tmp_path, small_cohort, name):
    (tmp_path / name).write_text("foreign")
    with pytest.raises(ValueError, match=rf"{tmp_path}: {name} was not .*choose another") as error:
        write_table(small_cohort, tmp_path)
    assert "\n" not in str(error.value)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "foreign"


def test_a_foreign_file_in_the_way_is_refused_before_anything_is_removed(tmp_path, small_cohort):
    write_table(dataclasses.replace(small_cohort, masks={}), tmp_path)
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/00003.png").write_text("foreign")
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    with pytest.raises(ValueError, match=r"masks/00003\.png was not written"):
        write_table(small_cohort, tmp_path)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


def test_the_sample_is_what_the_phantom_draws(tmp_path):
    """`data/sample`: pneumonia goes with age, and twelve healthy children break the bias."""
    sample = open_dataset("table", Path(__file__).resolve().parents[1] / "data/sample", size=96)
    cells = np.array([[47, 0], [47, 0], [47, 12], [0, 47]])
    drawn = open_dataset("phantom", per_cell={"": cells}, size=96, seed=0)
    assert len(sample) == 200 and np.abs(sample.images - drawn.images.astype(int)).max() <= 1
    assert torch.equal(sample.label, drawn.label) and sample.counter.sum() == 12
    again = write_table(dataclasses.replace(drawn, counter=sample.counter), tmp_path)
    assert list(again) == "label age sex site patient counter image mask".split()


NEAR = [
    ("{}.png", "{}.PNG", "0.png"),
    ("{}.PNG", "{}.png", "0.PNG"),
    ("{}.jpg", "{}.png", "0.jpg"),
    ("{}.png", "{}", "0.png"),
    ("{}", "{}.png", "0"),
    ("h\xf6he{}.png", "ho\u0308he{}.png", "h\\xf6he0.png"),
    ("ho\u0308he{}.png", "h\xf6he{}.png", "ho\\u0308he0.png"),
    ("Images/{}.png", "images/{}.png", "Images"),
    ("a/B/{}.png", "a/b/{}.png", "B"),
]


@pytest.mark.parametrize(("there", "named", "near"), NEAR)
def test_a_name_that_is_nearly_that_of_a_file_is_told(tmp_path, there, named, near):
    rows = [{"image": named.format(i), "label": LABELS[i % 2]} for i in range(6)]
    _write(tmp_path / "t", rows)
    root = tmp_path / "data"
    for i in range(6):
        (root / there.format(i)).parent.mkdir(parents=True, exist_ok=True)
        (root / there.format(i)).write_bytes((tmp_path / f"t/images/{i}.png").read_bytes())
    (root / "metadata.csv").write_bytes((tmp_path / "t/metadata.csv").read_bytes())
    faults = check(list_images("table", root))
    assert faults[0].what.endswith(f"no such file; did you mean '{near}'?") and len(faults) == 6
    assert len(grouped(faults)) == 1, "faults of one kind are one line"


@pytest.mark.parametrize(
    "name", ["metadata.xlsx", "Metadata.csv", "metadata.csv.txt", "METADATA.CSV"]
)
def test_a_table_that_is_named_otherwise_is_told(tmp_path, name):
    (_write(tmp_path) / "metadata.csv").rename(tmp_path / name)
    what = "expected a row for each image, with columns image and label .docs/howto/own-data.md."
    with pytest.raises(DataError, match=f"csv: not found; {what}; did you mean '{name}'.$"):
        list_images("table", tmp_path)
    (tmp_path / name).rename(tmp_path / "labels.csv")
    with pytest.raises(DataError, match=f"csv: not found; {what}$"):
        list_images("table", tmp_path)
    with pytest.raises(DataError, match=r"labels\.csv: a file, expected a folder"):
        list_images("table", tmp_path / "labels.csv")
