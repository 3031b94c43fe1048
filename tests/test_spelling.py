"""One value in several spellings, and the words that say that nothing is known: in every column."""

import json
import random
import unicodedata

import pandas as pd
import pytest
from PIL import Image
from test_mri import write_bids
from test_table import _rows, _write

from xbl_kit.cli import main
from xbl_kit.data import DataError, list_images, open_dataset
from xbl_kit.data.manifest import numbers
from xbl_kit.data.spelling import (
    SAME,
    blanked,
    key,
    missing,
    one_spelling,
    plain,
    warn_of_zeros,
)
from xbl_kit.run import check_data

ALIKE = [
    ("12", "12.0", "12.", "12.000", "+12", "12,0", "12,00", "1.2e1", "\uff11\uff12", "'12"),
    ("1e3", "1000", "1.0E+03", "1,000", "+1,000", "1,000.0", "1000,0"),
    ("1234567", "1,234,567", "1234567."),
    (".5", "0.5", "+.5", "0,5", ",5"),
    ("12.25", "12,25"),
    ("-0.125", "-0,125"),
    ("1,2345", "1.2345"),
    ("2020-01-05", "2020/01/05", "2020.01.05", "2020-01-05 00:00:00"),
    ("\u0130yi", "iyi", "\u0131y\u0131"),
    ("ill", "ill\x07", "ill\ufe0f", "i\u034fll", "ill\u3164"),
    ("Crohn's", "crohn\u2019s"),
    ("p12", "P12.0", "p 12", "p_12", "p-12", "P__12", "_p12_"),
    ("-1", "-1.0", "\u22121"),
    (
        "Lung_Opacity",
        "lung opacity",
        "Lung-Opacity",
        "LUNGOPACITY",
        " Lung\xa0Opacity\n",
        "Lung__Opacity_",
    ),
    ("1-5", "1\u20135", "1 5", "1_5"),
    ("a", "A", "a\u200b", "\ufeffa", "\uff41", "a\xad"),
    ("\xd6dem", "O\u0308dem", "\xf6DEM"),
    ("stra\xdfe", "STRASSE"),
    ("AP, supine", "ap,supine"),
    ("T1w", "T1-w", "T1 w"),
]
APART = [
    "12",
    "012",
    "1.2",
    "1-2",
    "-12",
    "12.5",
    "1.2.0",
    "a",
    "a-",
    "a+",
    "b",
    "",
    "0.05",
    "0.5",
    "A/B",
    "1,234",
    "0.50",
    "1e999999",
    "12,34,567",
    "1,23",
    "1,2,3",
    "0,1234,5",
    "1,2345,678",
    "a,5",
]
NOTHING = """NA na N/A n/a #N/A n.a. NaN -nan None null NULL <NA> (null) nil unknown Unknown unk .
    - -- ? ??? * _ \u2013 missing NaT #REF! #DIV/0! \\N undefined""".split()
NOTHING += [
    "",
    " ",
    "\xa0",
    "\u200b",
    "not available",
    "Not_Available",
    "not known",
    "no data",
    "N/A ",
    "n / a",
    "N\\A",
    "#N/A N/A",
    "-1.#IND",
    "'--",
    "/",
    "Unk.",
    "NA;",
    "k.A.",
    "n/d",
    "pd.NA",
    "(empty)",
    "Missing values",
    "no answer",
    "keine Angabe",
]
SOMETHING = [
    "0",
    "no",
    "F",
    "other",
    "nasal",
    "-1",
    "+",
    "A-",
    "1.",
    "nano",
    "not stated",
    "un",
    "n",
]


@pytest.mark.parametrize("spellings", ALIKE, ids=lambda spellings: spellings[0])
def test_spellings_of_one_value_have_one_key(spellings):
    assert {key(value) for value in spellings} == {key(spellings[0])}


def test_plain_ascii_takes_a_shorter_way_to_the_same():
    random.seed(0)
    for marks in (random.choices(range(128), k=9) for _ in range(2000)):
        text = "".join(map(chr, marks))
        assert plain(text) == plain(f"{text}\u200b"), "which is not seen"


def test_different_values_have_different_keys():
    assert len({key(value) for value in APART}) == len(APART)
    assert key(unicodedata.normalize("NFD", "h\xf6he")) == key("h\xf6he") != key("hohe")


def test_numbers_are_found_however_they_are_written():
    column = pd.Series("20,5;1,234;1e3;007;-5;+.5;;1-5;inf;nan;1 234;<5".split(";"), name="x")
    nan = float("nan")
    expected = [20.5, 1.234, 1000, 7, -5, 0.5, *[nan] * 6]
    assert numbers(column).tolist() == pytest.approx(expected, nan_ok=True)
    assert numbers(pd.Series(["1,234", "12", "1,234.5"])).tolist() == [1234, 12, 1234.5]
    mixed = numbers(pd.Series(["0,5", "1,234", "1,234.5"])).tolist()
    assert mixed == pytest.approx([0.5, 1.234, nan], nan_ok=True), "commas are decimal, or none is"


@pytest.mark.parametrize(
    ("words", "same"),
    [
        ("Female F female f", True),
        ("Male M male m", True),
        ("True true yes YES y Y 1 1.0", True),
        ("False no n N 0 FALSE", True),
        ("Female Male", False),
        ("yes no", False),
        ("true false", False),
        ("y n", False),
    ],
)
def test_words_for_sex_and_truth_that_are_one_value(words, same):
    found = {SAME.get(key(word), key(word)) for word in words.split()}
    assert len(found) == (1 if same else len(words.split()))


def test_what_is_no_mark_or_dash_stays():
    assert plain(" \u200ba ") == "a" and key("2020/01/05 00:00") == "2020-01-05"
    assert len({key(f"1{dash}5") for dash in "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212"}) == 1
    others = ("a'b", "a~b", "a\u2016b", "ab~", "~ab", "ab")
    assert len({key(other) for other in others}) == len(others)
    assert missing(["~NA", "NA~", "desconocido", "na"]) == {"desconocido", "na"}


@pytest.mark.parametrize("word", NOTHING)
def test_words_that_say_that_nothing_is_known(word):
    assert missing([word, "F"]) == {word}


@pytest.mark.parametrize("word", SOMETHING)
def test_words_that_say_something(word):
    assert missing([word]) == set()


def test_minus_beside_plus_is_a_value():
    for plus, minus in (("\uff0b", "-"), ("+", "\u2212"), ("(+)", "(-)")):
        assert missing([plus, minus]) == set()
    assert missing(["+", "-", "?"]) == {"?"} and missing(["-", "?"]) == {"-", "?"}


def test_blanked_cells_are_counted_once_by_column():
    rows = pd.DataFrame({"sex": ["F", "NA", "n/a", ""], "site": ["x", "y", "y", "?"]}, list("wxyz"))
    words = r"^t\.csv: rows in which .* not known: sex in 2 \('NA', 'n/a'\), site in 1 \('\?'\)$"
    with pytest.warns(UserWarning, match=words) as told:
        found = blanked(rows, ["sex", "site"], "t.csv")
    assert found["sex"].tolist() == ["F", "", "", ""] and found["site"].tolist() == [
        "x",
        "y",
        "y",
        "",
    ]
    assert len(told) == 1 and rows["sex"].tolist() == ["F", "NA", "n/a", ""]
    assert blanked(found, ["sex", "site"], "t.csv") is found, "nothing to tell"


@pytest.mark.parametrize(
    ("n", "more"), [(4, ""), (5, ", ... (5 columns in all)"), (9, ", ... (9 columns in all)")]
)
def test_four_columns_at_most_are_named(n, more):
    rows = pd.DataFrame({f"c{i}": ["NA", "x"] for i in range(n)})
    with pytest.warns(UserWarning) as told:
        blanked(rows, rows.columns, "t")
    named = ", ".join(f"c{i} in 1 ('NA')" for i in range(4))
    assert str(told[0].message) == f"t: rows in which a word says not known: {named}{more}"


def test_the_first_spelling_is_taken_and_the_others_told():
    column = pd.Series(["p1.0", "p2", "P1", "p1", "p3"], list("vwxyz"), name="patient")
    words = r"^x: patient 'P1' is 'p1\.0' above; 1 of 3 are spelled in two ways, taken as one$"
    with pytest.warns(UserWarning, match=words):
        assert one_spelling(column).tolist() == ["p1.0", "p2", "p1.0", "p1.0", "p3"]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("7", "007"),
        ("p7", "P07"),
        ("sub-1", "sub-001"),
        ("0", "00"),
        ("0.5", "0.50"),
        ("1234", "1 234"),
        ("1234567", "1'234'567"),
    ],
)
def test_leading_zeros_are_told_and_not_merged(one, two):
    words = (
        f"^y: patient {two!r} and {one!r} count as two, though only zeros or marks differ "
        ".1 such pair.; if they are one"
    )
    with pytest.warns(UserWarning, match=words):
        warn_of_zeros(pd.Series([one, two, two], list("xyz"), name="patient"))


def test_the_columns_of_warnings_are_named_whole():
    column = pd.Series(["a1", "b", "A1", "B"], list("wxyz"), name="ward")
    with pytest.warns(UserWarning) as told:
        one_spelling(column)
    what = "y: ward 'A1' is 'a1' above; 2 of 2 are spelled in two ways, taken as one"
    assert [str(each.message) for each in told] == [what]
    with pytest.warns(UserWarning) as told:
        warn_of_zeros(pd.Series(["1", "01"], list("yz"), name="ward"))
    what = "z: ward '01' and '1' count as two, though only zeros or marks differ (1 such pair); "
    assert [str(each.message) for each in told] == [what + "if they are one, write them alike"]


def test_zeros_that_lead_no_number_and_spellings_of_one_value_are_not_told():
    warn_of_zeros(pd.Series(["0.5", "0.05", "10", "1", "100", "5", "5.0", "a"]))
    with pytest.warns(UserWarning, match=r"\(2 such pairs\)"):
        warn_of_zeros(pd.Series(["1", "01", "2", "02"], list("abcd"), name="ward"))


def _split(first, second, column="patient", **more):
    """Two tables put together: patients 1, 2, 3 in train and again in test, spelled in two ways."""
    rows = [row | {"split": ("train", "test")[i > 2]} | more for i, row in enumerate(_rows())]
    for i, row in enumerate(rows):
        row["counter"], row["sex"] = "0", "FM"[i % 3 == 1]
        row["label"] = ("ill", "well")[i % 3 % 2]
        row["patient"] = f"p{i}"
        row[column] = (first if i < 3 else second).format(i % 3 + 1)
    return rows


@pytest.mark.filterwarnings("ignore:.*(taken as one|no row of split 'val')")
@pytest.mark.parametrize(
    ("first", "second"),
    [("{}", "{}.0"), ("{}.0", "{}"), ("P{}", "p{}"), ("p {}", "p_{}"), ("a{}", "a{}\u200b")],
)
def test_a_patient_in_two_spellings_is_one_and_leaks(tmp_path, first, second):
    root = _write(tmp_path, _split(first, second))
    faults = [str(f) for f in check_data("table", root) if "has split" in f.what]
    assert len(faults) == 3 and f"line 5: patient {first.format(1)!r} has split 'test'" in faults[0]
    with pytest.raises(DataError, match="has split 'test', yet 'train' in line 2"):
        open_dataset("table", root, size=8)


@pytest.mark.filterwarnings("ignore:.*no row of split 'val'")
@pytest.mark.parametrize(("column", "target"), [("ward", "label"), ("ward", "ward")])
@pytest.mark.parametrize("second", ["{}.0", "{}\u200b", "\u200b{}."])
def test_a_label_or_level_in_two_spellings_is_refused(tmp_path, column, target, second):
    root = _write(tmp_path, _split("{}", second, column))
    words = (
        f"line 5: ward is {second.format(1)!r}, in 1 other rows '1' \\(first in line 2\\): write"
    )
    with pytest.raises(DataError, match=words.replace("\\u", ".u")) as error:
        open_dataset("table", root, size=8, target=target, confounders=["ward"][target == "ward" :])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("two", "said"),
    [
        (("Female", "F", "M"), "'F', in 3 other rows 'Female'"),
        (("True", "1", "0"), "'1', in 3 other rows 'True'"),
        (("yes", "True", "no"), "'True', in 3 other rows 'yes'"),
        (("\xd6d", "O\u0308d", "x"), r"'O\\u0308d', in 3 other rows '\\xd6d'"),
    ],
)
def test_words_that_stand_for_one_another_and_what_looks_alike(tmp_path, two, said):
    rows = [row | {"sex": two[2 * (i > 3)]} for i, row in enumerate(_rows())]
    rows[2]["sex"] = two[1]
    with pytest.raises(DataError, match=f"line 4: sex is {said}"):
        open_dataset("table", _write(tmp_path, rows), size=8)


@pytest.mark.parametrize("name", ["Patient", "patient\u200b", "PATIENT", "Split", "Counter"])
def test_a_column_that_is_nearly_one_of_the_kits_is_not_passed_over(tmp_path, name):
    rows = [row | {name: "1"} for row in _rows()]
    with pytest.raises(DataError, match=r"metadata\.csv: column .*: rename it to '[a-z]+', or"):
        list_images("table", _write(tmp_path, rows))


def test_other_spellings_of_the_labels_named_are_not_dropped_unseen(tmp_path):
    rows = _rows()
    rows[2]["label"] = "ILL"
    root = _write(tmp_path, rows)
    with pytest.raises(DataError, match="line 4: label is 'ILL', in 2 other rows 'ill'"):
        open_dataset("table", root, size=8, labels=["ill", "well"])


@pytest.mark.parametrize("word", ["NA", "None", ".", "unknown", "#N/A"])
def test_missing_is_no_level_and_no_class_unless_it_is_named(tmp_path, word):
    rows = _rows()
    rows[3]["sex"] = word
    with pytest.warns(UserWarning, match="not known: sex in 1"):
        data = open_dataset("table", _write(tmp_path, rows), size=8)
    assert data.levels["sex"] == ("F", "M") and data.confounders["sex"][3] == -1
    rows[3]["sex"], rows[3]["label"] = "M", word
    _write(tmp_path, rows)
    with pytest.raises(DataError, match=r"line 5: label is .*, expected a value; if it is a"):
        open_dataset("table", tmp_path, size=8)
    named = open_dataset("table", tmp_path, size=8, labels=["ill", "well", word])
    assert set(named.classes) == {"ill", "well", word}


@pytest.mark.parametrize(
    ("word", "split"),
    [
        ("valid", "val"),
        ("Validation", "val"),
        ("training", "train"),
        ("TEST", "test"),
        ("dev", "val"),
    ],
)
def test_words_for_a_split(tmp_path, word, split):
    rows = [row | {"split": ("train", "val", "test")[i // 2]} for i, row in enumerate(_rows())]
    rows = [row | {"split": word} if row["split"] == split else row for row in rows]
    assert set(list_images("table", _write(tmp_path, rows)).rows["split"]) == {
        "train",
        "val",
        "test",
    }


def test_counter_as_pandas_writes_it(tmp_path):
    rows = [row | {"counter": row["counter"] + ".0"} for row in _rows()]
    assert open_dataset("table", _write(tmp_path, rows), size=8).counter.tolist() == [False] * 5 + [
        True
    ]


@pytest.mark.parametrize("word", ["NA", "unknown", "."])
def test_bids_has_the_same_list(tmp_path, word):
    root = write_bids(tmp_path, per_cell=1)
    table = next(root.rglob("participants.tsv"))
    first, second, *rest = table.read_text().splitlines()
    names, cells = first.split("\t"), second.split("\t")
    cells[names.index("sex")] = word
    table.write_text("\n".join([first, "\t".join(cells), *rest]) + "\n")
    with pytest.warns(UserWarning, match="not known: sex in 1"):
        assert "" in set(list_images("mri", root, target="diagnosis").rows["sex"])


@pytest.mark.parametrize("kind", ["mask", "image", "no file"])
def test_many_faults_of_one_kind_are_one_line(tmp_path, capsys, kind):
    rows = _rows()
    for i, row in enumerate(rows[:5]):
        if kind == "no file":
            row["image"] = f"images/{90 + i}.png"
        else:
            row[kind] = ""
    root = str(_write(tmp_path, rows))
    Image.new("L", (9, 9), 7).save(tmp_path / "images/5.png")
    main(["data", "check", "--data", "table", "--root", root])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and "line 2: " in lines[0]
    assert "(and 4 more like it; `--json` lists all)" in lines[0] and "same grey" in lines[1]
    assert lines[2].endswith("6 faults found")
    main(["data", "check", "--data", "table", "--root", root, "--json"])
    assert len(json.loads(capsys.readouterr().out)) == 6


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        (
            ("train", "train", "train"),
            r"no row of split 'test', expected train, test and perhaps val",
        ),
        (("train", "val", "val"), r"no row of split 'test', .*; without a column 'split' the kit"),
        (("test", "test", "test"), r"no row of split 'val', expected train"),
        (("val", "val", "test"), r"no row of split 'train', expected train"),
    ],
)
def test_splits_that_cannot_be_trained_and_tested_on(tmp_path, splits, words):
    rows = [row | {"split": splits[i // 2], "counter": "0"} for i, row in enumerate(_rows())]
    root = _write(tmp_path, rows)
    assert any(words[:23] in fault.what for fault in check_data("table", root))
    with pytest.raises(DataError, match=words):
        open_dataset("table", root, size=8)


def test_a_split_without_val_is_told_when_checked_and_when_opened(tmp_path):
    rows = [
        row | {"split": ("train", "train", "test")[i // 2], "counter": "0"}
        for i, row in enumerate(_rows())
    ]
    root = _write(tmp_path, rows)
    for look in (check_data, open_dataset):
        with pytest.warns(
            UserWarning, match="no row of split 'val'; experiments take it from train"
        ):
            look("table", root)


def test_images_marked_counter_need_no_split(tmp_path):
    rows = [row | {"split": ("train", "val", "test")[i // 2]} for i, row in enumerate(_rows(8)[:6])]
    rows += [row | {"split": "", "patient": "p9", "counter": "1"} for row in _rows(8)[6:]]
    rows[5]["counter"] = "0"
    assert len(open_dataset("table", _write(tmp_path, rows), size=8)) == 8


@pytest.mark.filterwarnings("ignore:.*taken as one")
def test_a_patient_with_and_without_marks_of_thousands_is_one(tmp_path):
    rows = [row | {"patient": ("1{}20{}", "1{}21{}")[i > 2]} for i, row in enumerate(_rows())]
    for i, row in enumerate(rows):
        row["patient"], row["sex"] = row["patient"].format(",20"[i % 2 : 1], 0), "F"
    assert len(open_dataset("table", _write(tmp_path, rows), size=8).patient.unique()) == 2


def test_decimals_with_a_comma_make_groups(tmp_path):
    rows = [row | {"dose": f"{i},5", "counter": "0"} for i, row in enumerate(_rows(12))]
    root = _write(tmp_path, rows)
    with pytest.raises(
        DataError, match="'dose' has 12 numbers, expected groups: `--option bins=4`"
    ):
        list_images("table", root, confounders=["dose"])
    found = list_images("table", root, confounders=["dose"], bins=2).rows["dose"]
    assert found.tolist() == ["0.5 to 5.5"] * 6 + ["6.5 to 11.5"] * 6
    with pytest.raises(DataError, match=r"dose is '1\.5', in 1 other rows '1,5'"):
        rows[2]["dose"] = "1.5"
        rows = [row | {"dose": row["dose"] if i in (1, 2) else ""} for i, row in enumerate(rows)]
        open_dataset("table", _write(tmp_path, rows), size=8, confounders=["dose"])


def test_a_label_of_many_numbers_makes_classes_where_that_is_asked_for(tmp_path):
    rows = [row | {"label": str(20 + i), "counter": "0"} for i, row in enumerate(_rows(12))]
    found = list_images("table", _write(tmp_path, rows), bins=2).rows["label"]
    assert set(found) == {"20 to 25", "26 to 31"}
