"""A data set described before training: counts, biases beside chance, leakage, a data card."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_table import _rows, _write

from xbl_kit.cli import main
from xbl_kit.data import bias, describe, open_dataset, properties
from xbl_kit.data.dataset import table_of
from xbl_kit.run import check_data, describe_data


def _table(**columns):
    return pd.DataFrame({name: [str(v) for v in values] for name, values in columns.items()})


def test_cramers_v_and_nats_of_a_two_by_two_table_by_hand():
    label, sex = "a" * 50 + "b" * 50, "f" * 40 + "m" * 10 + "f" * 20 + "m" * 30
    found = bias.bias_table(_table(label=label, sex=sex), "label").loc["sex"]
    chi = (40 * 30 - 10 * 20) ** 2 * 100 / (50 * 50 * 60 * 40)
    assert found["Cramer's V"] == pytest.approx(math.sqrt(chi / 100))
    joint = {"af": 0.4, "am": 0.1, "bf": 0.2, "bm": 0.3}
    nats = sum(p * math.log(p / (0.5 * {"f": 0.6, "m": 0.4}[k[1]])) for k, p in joint.items())
    assert found["nats"] == pytest.approx(nats)
    assert found["share of label"] == pytest.approx(nats / math.log(2))
    assert 0 < found["V by chance"] < found["Cramer's V"]


def test_what_is_independent_stays_below_chance_and_what_is_the_label_is_1():
    label = ["a", "b"] * 100
    rows = _table(label=label, even=["x", "x", "y", "y"] * 50, twin=label, one=["c"] * 200)
    found = bias.bias_table(rows, "label")
    assert list(found.index) == ["twin", "even"], "sorted; a column of one value is no column"
    assert found.loc["twin", "Cramer's V"] == found.loc["twin", "share of label"] == 1
    assert found.loc["even", "Cramer's V"] == 0 < found.loc["even", "V by chance"]


def test_unknown_cells_counter_rows_reserved_columns_and_free_text_are_left_out():
    rows = _table(
        label=["a"] * 20 + ["b"] * 20 + ["a"] * 20,
        sex=["f"] * 20 + ["m"] * 18 + [""] * 2 + ["m"] * 20,
        counter=[0] * 40 + [1] * 20,
        patient=range(60),
        remark=[f"text {i}" for i in range(60)],
        age=[*range(20), *range(60, 100)],
    )
    found = bias.bias_table(rows, "label")
    assert set(found.index) == {"sex", "sex known", "age"}
    said = describe.notes(rows, "label", found)
    assert said[0] == "remark: left out, 40 values, 10 at most make groups"
    assert said[1:] == ["these alone give the label away: sex, age"]
    assert found.loc["sex", "Cramer's V"] == 1 and found.loc["sex", "unknown"] == 2
    assert found.loc["age", "levels"] == 4 and found.loc["age", "Cramer's V"] == 1
    shares = bias.shares(rows, "label", ["sex", "age"])
    assert shares["sex"].loc["b", "m"] == 1 and shares["age"].sum(axis=1).tolist() == [1, 1]


def test_leaks_are_told():
    rows = _table(label="aab", patient="112", split=["train", "test", "test"])
    told = describe.leaks(rows, "label")
    assert told[0] == "2 patients have 3 images, 2 at most." and told[1].startswith("0 patients")
    assert told[2] == "1 patients have images in several splits."
    assert describe.leaks(rows.assign(label=["a", "b", "b"]), "label")[1].startswith("1 patients")
    assert "No patients are named" in describe.leaks(rows[["label"]], "label")[0]


def test_the_table_of_a_data_set_says_what_the_data_set_says(small_cohort):
    rows = table_of(small_cohort)
    assert set(rows) == {"label", "age", "sex", "site", "patient", "split"}
    row = 17
    assert rows["label"][row] == small_cohort.classes[small_cohort.label[row]]
    assert rows["sex"][row] == ("female", "male")[small_cohort.confounders["sex"][row]]
    counts = describe.counts(rows, "label")
    assert counts["images"].tolist() == [32] * 4 and counts["split train"].tolist() == [16] * 4


def test_a_data_set_is_described_and_gets_a_card(tmp_path):
    rows = _rows()
    rows[1]["sex"] = "a|b"
    found = describe_data("table", _write(tmp_path / "mine", rows), out=tmp_path / "out")
    assert found.counts["images"].tolist() == [3, 3] and "(pixels)" not in found.bias.index
    card = (tmp_path / "out/data-card.md").read_text()
    assert card.startswith("# Data card: mine") and "`label`: ill, well" in card
    assert "| ill | 3 | 3 | 3 | 0 |" in card and "| sex | " in card
    assert (tmp_path / "out/bias.png").read_bytes().startswith(b"\x89PNG")
    other = describe_data("table", tmp_path / "mine", target="sex")
    assert other.counts.index.tolist() == ["", "F", "M", "a|b"]
    assert "1 faults, see `data check`" in other.notes[-1] and "sex is ''" in other.notes[-1]


def test_a_card_that_was_filled_in_is_kept(tmp_path):
    root, out = _write(tmp_path / "mine"), tmp_path / "out"
    describe_data("table", root, out=out)
    describe_data("table", root, out=out)  # nothing new, nothing to say
    files = {path.name: path.read_bytes() for path in out.iterdir()}
    assert files.keys() == {"bias.png", "data-card.md"}
    filled = (out / "data-card.md").read_text().replace("(to be filled in)", "CC BY 4.0")
    (out / "data-card.md").write_text(filled)
    (out / "bias.png").write_bytes(b"my own figure")
    with pytest.warns(UserWarning, match="says something else, and stays as it is"):
        describe_data("table", root, out=out)
    assert (out / "data-card.md").read_text() == filled
    assert (out / "bias.png").read_bytes() == b"my own figure"
    assert (out / "bias-1.png").read_bytes() == files["bias.png"]
    assert "](bias-1.png)" in (out / "data-card-1.md").read_text()


def test_the_size_of_the_pictures_can_be_the_bias(tmp_path):
    root = _write(tmp_path)
    for number in (0, 2, 4):
        Image.open(root / f"images/{number}.png").resize((40, 32)).save(
            root / f"images/{number}.png"
        )
    found = describe_data("table", root)
    assert found.bias.loc["(pixels)", "Cramer's V"] == 1 and "(file type)" not in found.bias.index


def test_a_table_with_nothing_but_images_and_labels_is_described(tmp_path):
    rows = [{"image": row["image"], "label": row["label"]} for row in _rows()]
    found = describe_data("table", _write(tmp_path, rows), out=tmp_path / "out")
    assert all(name.startswith("(") for name in found.bias.index), "what files tell by themselves"
    assert "(brightness)" in (tmp_path / "out/data-card.md").read_text()


def test_phantoms_are_described_too(capsys, tmp_path, monkeypatch):
    small = {"per_cell": {"train": 4, "val": 1, "test": 1}, "size": 32}
    assert describe_data("phantom", **small).bias["Cramer's V"].max() < 0.5
    with pytest.raises(ValueError, match="'phantom' are made, not found"):
        check_data("phantom")
    with pytest.raises(ValueError, match="no column 'diagnosis', but label, age, sex, site"):
        describe_data("phantom", target="diagnosis", **small)
    with pytest.raises(ValueError, match="'phantom' has no option 'colour', expected per_cell"):
        describe_data("phantom", colour="red")


def test_the_command_lists_every_fault_and_exits_with_1(tmp_path, capsys):
    rows = _rows()
    rows[2]["split"], rows[3]["image"] = "x", "images/9.png"
    root = _write(tmp_path, [{"split": "train"} | row for row in rows])
    assert main(["data", "check", "--data", "table", "--root", str(root)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any("line 4: split is 'x', expected one of train, val, test" in line for line in lines)
    assert any("images/9.png: no such file" in line for line in lines)
    assert lines[-1] == f"{root}: {len(lines) - 1} faults found"
    assert main(["data", "check", "--data", "table", "--root", str(root), "--json"]) == 1
    faults = json.loads(capsys.readouterr().out)
    assert len(faults) == len(lines) - 1 and {"where", "what", "row"} == set(faults[0])
    assert main(["data", "check", "--data", "table", "--root", str(tmp_path / "absent")]) == 1
    assert "absent: no such folder" in capsys.readouterr().out


def test_the_command_says_that_all_is_well_and_describes(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = str(_write(tmp_path / "mine"))
    generator = np.random.default_rng(0)
    for path in Path(root, "images").iterdir():
        Image.fromarray(generator.integers(256, size=(16, 20), dtype=np.uint8)).save(path)
    assert main(["data", "check", "--data", "table", "--root", root]) == 0
    assert capsys.readouterr().out == f"{root}: no fault found\n"
    assert main(["data", "describe", "--data", "table", "--root", root]) == 0
    told = capsys.readouterr()
    assert "Cramer's V" in told.out and "3 patients have 6 images" in told.out and not told.err
    assert (tmp_path / "build/describe-table/data-card.md").exists()
    for arguments in (["data", "check"], ["data", "check", "--data", "phantom"], ["data"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2


def test_faulty_rows_are_left_out_when_asked_and_counted(tmp_path):
    rows = _rows()
    rows[3]["image"] = "images/9.png"
    root = _write(tmp_path, rows)
    with pytest.warns(UserWarning, match="1 of 6 rows left out"):
        data = open_dataset("table", root, size=8, skip_faulty=True)
    assert len(data) == 5 and data.images[:, 3, 3].tolist() == [0, 40, 80, 160, 200]
    assert np.array_equal(data.label, [0, 1, 0, 0, 1])


@pytest.mark.parametrize(
    ("known", "beyond"),
    [
        (("x" * 46 + " " * 29, " " * 45), True),
        (("x" * 40, " " * 80), True),
        (("x ", "x ") * 30, False),
    ],
)
def test_whether_a_thing_is_known_can_tell_the_label(known, beyond):
    half = len(known) // 2
    ill, well = "".join(known[:half]), "".join(known[half:])
    sex = [("F", "M")[i % 2] if mark == "x" else "" for i, mark in enumerate(ill + well)]
    rows = _table(label=["healthy"] * len(ill) + ["ill"] * len(well), sex=sex)
    found = bias.bias_table(rows, "label")
    v, chance = found.loc["sex known", ["Cramer's V", "V by chance"]]
    assert (v > chance) == beyond
    told = [line for line in describe.notes(rows, "label", found) if "whether it is known" in line]
    assert told == ["beyond chance the label goes with whether it is known: sex known"] * beyond


@pytest.mark.parametrize(
    ("ages", "words"),
    [
        (
            [*range(28), *["1-5"] * 12],
            "12 of 40 values are no numbers, such as '1-5', and levels of",
        ),
        ([*range(39), "80+"], "1 of 40 values are no numbers, such as '80+'"),
        ([*range(39), "inf"], "1 of 40 values are no numbers, such as 'inf'"),
        ([f"{i} y" for i in range(40)], "left out, 40 values, 10 at most make groups"),
        ([""] * 40, "left out, nothing is known"),
        ([7] * 39 + [""], "left out, the same in all rows"),
    ],
)
def test_columns_that_are_not_as_they_seem_are_told(ages, words):
    rows = _table(label=["a", "b"] * 20, age=ages)
    (note,) = [
        n for n in describe.notes(rows, "label", bias.bias_table(rows, "label")) if ": " in n
    ]
    assert note.startswith(f"age: {words}")


@pytest.mark.parametrize("most", [0, 1, 100])
def test_equal_numbers_are_in_one_group_whatever_their_order(most):
    ties = [0] * 60 + [100] * 60 if most == 100 else [0] * 80 + [most] * 20 + [*range(2, 22)]
    column, levels = _table(n=ties)["n"], bias.as_levels(_table(n=ties)["n"])[0]
    assert (levels.groupby(column).nunique() == 1).all() and levels.nunique() > 1


def test_patients_are_shuffled_whole():
    patients = pd.Series(list("aaabbcdddd"))
    label = np.array([0, 0, 0, 1, 1, 0, 1, 2, 1, 2])
    own = [{0}, {1}, {0, 1}, {1, 2}]  # the labels of a, b, c and d
    seen = set()
    for chance in bias.shuffled(label, patients, np.random.default_rng(0)):
        for patient in "abcd":
            got = set(chance[patients == patient].tolist())
            assert any(got <= whole for whole in own), "no patient has labels of two others"
        seen.add(tuple(chance))
    assert len(seen) > 10
    alone = bias.shuffled(label, pd.Series(range(10)), np.random.default_rng(0))
    assert all(sorted(chance) == sorted(label) for chance in alone)


def test_repeated_pictures_of_few_patients_raise_what_chance_gives():
    label = ["a"] * 60 + ["b"] * 60
    room = ["x"] * 30 + ["y"] * 60 + ["x"] * 30
    alone = bias.bias_table(_table(label=label, room=room), "label").loc["room"]
    few = _table(label=label, room=room, patient=[i // 30 for i in range(120)])
    assert bias.bias_table(few, "label").loc["room", "V by chance"] > 3 * alone["V by chance"]


BASE = np.random.default_rng(0).integers(90, 160, (64, 64)).astype(np.uint8)


def _framed(picture):
    return np.pad(picture[8:-8, 8:-8], 8)


def _smooth(picture):
    return np.asarray(Image.fromarray(picture).resize((16, 16)).resize((64, 64), Image.BICUBIC))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("(brightness)", lambda picture: picture + 40),
        ("(contrast)", lambda picture: (picture.astype(int) - 125) // 3 + 125),
        ("(sharpness)", _smooth),
        ("(noise)", _smooth),
        ("(border)", _framed),
    ],
)
def test_each_property_of_pixels_is_found_by_name(tmp_path, name, change):
    (tmp_path / "images").mkdir()
    generator, lines = np.random.default_rng(1), ["image,label"]
    for i in range(40):
        picture = (BASE + generator.integers(0, 6, BASE.shape)).astype(np.uint8)
        picture = change(picture).astype(np.uint8) if i % 2 else picture
        Image.fromarray(picture).save(tmp_path / f"images/{i}.png")
        lines.append(f"images/{i}.png,{'ab'[i % 2]}")
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    found = describe_data("table", tmp_path)
    assert found.bias.loc[name, "Cramer's V"] > 0.9 > 0.6 > found.bias.loc[name, "V by chance"]
    assert name in found.notes[-1] and found.notes[-1].startswith("beyond chance")
    ends = found.pictures[name.strip("()")]
    assert ends["a"] != pytest.approx(ends["b"], rel=0.05)


def test_properties_of_pixels_by_hand():
    flat = np.full((10, 10), 100, np.uint8)
    found = properties.pixel_properties(flat)
    assert found["(brightness)"] == 100 and found["(contrast)"] == found["(noise)"] == 0
    assert properties.pixel_properties(flat * 0)["(border)"] == 1 and found["(border)"] == 0
    framed = np.pad(flat, ((2, 0), (0, 10)))
    assert properties.pixel_properties(framed)["(border)"] == pytest.approx(1 - 100 / 240)
    noisy = 120 + np.random.default_rng(0).normal(0, 5, (200, 200))
    assert properties.pixel_properties(noisy.astype(np.uint8))["(noise)"] == pytest.approx(
        5, rel=0.05
    )


@pytest.mark.parametrize(
    ("kind", "trait", "value"),
    [("L", "(mode)", "L"), ("RGB", "(mode)", "RGB"), ("1", "(mode)", "1"), ("L", "(aspect)", 2.0)],
)
def test_traits_of_files(tmp_path, kind, trait, value):
    file = tmp_path / "a.PNG"
    Image.new(kind, (20, 10)).save(file)
    found = properties.file_traits(file)
    assert (
        found[trait] == value and found["(file type)"] == ".png" and found["(pixels)"] == "20 x 10"
    )
    assert found["(bytes)"] == file.stat().st_size
    file.write_bytes(b"no picture")
    assert set(properties.file_traits(file)) == {"(file type)", "(bytes)"}


def test_a_picture_that_cannot_be_read_is_passed_over(tmp_path):
    root = _write(tmp_path)
    (root / "images/2.png").write_bytes(b"no picture")
    found = describe_data("table", root)
    assert found.bias.loc["(brightness)", "unknown"] == 1


def test_the_command_gives_json(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        main(
            ["data", "describe", "--data", "table", "--root", str(_write(tmp_path / "a")), "--json"]
        )
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"counts", "bias", "pictures", "leaks", "notes"}
    assert found["counts"]["ill"]["images"] == 3 and found["bias"]["(brightness)"]["levels"] > 1


def test_the_sites_of_the_real_chest_x_rays_are_told_by_their_pixels(cxr):
    found = describe_data("table", cxr, target="site")
    told = "(sharpness) (noise) (brightness) (contrast) (border) (bytes)".split()
    beyond = found.bias["Cramer's V"] > found.bias["V by chance"]
    assert beyond[told].all() and all(name in " ".join(found.notes) for name in told)
    assert "330 of 1137 values are no numbers, such as '1-5'" in " ".join(found.notes)
    assert beyond["sex known"] and beyond["age known"]


@pytest.mark.parametrize("form", ["{},5", "1,{:03}", "{}e1", " {}.50 "])
def test_numbers_are_read_as_they_are_written(form):
    rows = _table(label=["a"] * 20 + ["b"] * 20, age=[form.format(10 + i) for i in range(40)])
    found = bias.bias_table(rows, "label")
    assert found.loc["age", "levels"] == 4 and found.loc["age", "Cramer's V"] == 1
    assert describe.notes(rows, "label", found) == ["these alone give the label away: age"]


def test_a_label_may_have_any_name_and_pictures_that_are_not_there_are_told(tmp_path):
    rows = [{"image": f"gone/{i}.png", "images": "ab"[i % 2]} for i in range(6)]
    found = describe_data("table", _write(tmp_path / "a", rows), target="images", out=tmp_path)
    assert "| a | 3 |" in (tmp_path / "data-card.md").read_text()
    assert found.notes[-1].startswith("6 faults, see `data check`") and "no such" in found.notes[-1]
