"""Options as text or as values of another type: read rightly, or refused in one line."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from test_chexpert import write_chexpert
from test_mri import write_bids
from test_radiography import write_radiography
from test_table import _rows, _write

from xbl_kit.cli import main
from xbl_kit.data import DataError, list_images, open_dataset
from xbl_kit.data.check import check
from xbl_kit.data.options import fitted
from xbl_kit.run import reproduce
from xbl_kit.run.task import settle


def taker(
    *,
    views: Sequence[str] | None = None,
    ages: Sequence[int] | None = None,
    percentiles: Sequence[float | int] = (1, 99),
    slices: int = 1,
    strength: float = 1.0,
    counter: bool = True,
    file: str = "train",
    finding: str | None = "x",
    links: Sequence[str | Path] = (),
    per_cell: Mapping[str, int] = {},
):
    """Options of every kind."""


READ = [
    ("views", "PA", ("PA",)),
    ("views", "PA,", ("PA",)),
    ("views", " AP , PA ", ("AP", "PA")),
    ("views", "['PA']", ("PA",)),
    ("views", "('PA', \"AP\")", ("PA", "AP")),
    ("views", "none", None),
    ("views", "None", None),
    ("views", None, None),
    ("views", ["AP"], ("AP",)),
    ("ages", "50", (50,)),
    ("ages", 50, (50,)),
    ("ages", "50,60", (50, 60)),
    ("percentiles", "0.5,99", (0.5, 99)),
    ("percentiles", 5, (5,)),
    ("slices", "3", 3),
    ("slices", 3, 3),
    ("strength", "1e-1", 0.1),
    ("strength", 1, 1.0),
    ("counter", "FALSE", False),
    ("counter", "yes", True),
    ("counter", 0, False),
    ("counter", True, True),
    ("file", "2020", "2020"),
    ("file", "a,b", "a,b"),
    ("file", "none", "none"),
    ("finding", "none", None),
    ("links", "/disk", (Path("/disk"),)),
    ("links", Path("/disk"), (Path("/disk"),)),
    ("per_cell", {"train": 4}, {"train": 4}),
]
REFUSED = [
    ("ages", "fifty", "ages='fifty': expected none or whole numbers, as 50,60"),
    ("ages", "50,6o", "ages='50,6o': expected none or whole numbers"),
    ("ages", {"a": 1}, r"ages=\{'a': 1\}: expected none or whole numbers"),
    ("views", 5, "views=5: expected none or names, as A,B"),
    ("percentiles", "a,b", "percentiles='a,b': expected numbers, as 1,99"),
    ("slices", "2.5", "slices='2.5': expected a whole number"),
    ("slices", 2.5, "slices=2.5: expected a whole number"),
    ("slices", True, "slices=True: expected a whole number"),
    ("strength", False, "strength=False: expected a number"),
    ("slices", None, "slices=None: expected a whole number"),
    ("slices", "1,2", "slices='1,2': expected a whole number"),
    ("strength", "much", "strength='much': expected a number"),
    ("counter", "maybe", "counter='maybe': expected true or false"),
    ("counter", None, "counter=None: expected true or false"),
    ("file", None, "file=None: expected text"),
    ("per_cell", "train=4", "per_cell='train=4': expected what only Python can give"),
]


@pytest.mark.parametrize(("name", "value", "expected"), READ)
def test_an_option_is_read_by_its_type(name, value, expected):
    found = fitted({name: value, "unknown": 1}, taker)
    assert found == {name: expected} and type(found[name]) is type(expected)


@pytest.mark.parametrize(("name", "value", "words"), REFUSED)
def test_an_option_of_another_type_is_one_line(name, value, words):
    with pytest.raises(ValueError, match=f"^{words}") as error:
        fitted({name: value}, taker)
    assert "\n" not in str(error.value)


BY_COMMAND = [
    ("chexpert", "views=PA", None),
    ("chexpert", "views=AP", "no fault"),
    ("chexpert", "views=['AP']", "no fault"),
    ("chexpert", "views=frontal", r"views=\('frontal',\): expected a list of some of AP, PA"),
    ("chexpert", "ages=50", r"ages=\(50,\): expected two, the lower first, such as 50,60"),
    ("chexpert", "ages=old,young", "ages='old,young': expected none or whole numbers"),
    ("chexpert", "clahe=7", "clahe='7': expected true or false"),
    ("radiography", "counter=maybe", "counter='maybe': expected true or false"),
    ("radiography", "seed=x", "seed='x': expected a whole number"),
    ("mri", "slices=few", "slices='few': expected a whole number"),
    ("mri", "percentiles=1", r"percentiles=\(1,\): expected two, the lower first"),
    ("mri", "ages=60,50", r"ages=\(60, 50\): expected two, the lower first"),
    ("mri", "ages=", r"ages=\(\): expected two"),
    ("table", "bins=four", "bins='four': expected none or a whole number"),
    ("table", "bins=1", "bins=1: expected 2 to 10"),
    ("table", "columns=label", "columns 'label': expected OURS=THEIRS"),
    ("table", "links=/nowhere/x", "links: /nowhere/x is no folder"),
    ("table", "views=PA", "'table' has no option 'views'"),
]


@pytest.mark.filterwarnings("ignore:.*Normal images are from")
@pytest.mark.parametrize(("kind", "option", "words"), BY_COMMAND)
def test_the_command_reads_options_or_says_one_line(tmp_path, capsys, kind, option, words):
    write = {
        "chexpert": write_chexpert,
        "radiography": write_radiography,
        "mri": write_bids,
        "table": _write,
    }
    root = write[kind](tmp_path)
    target = ["--target", "diagnosis"] if kind == "mri" else []
    code = main(["data", "check", "--data", kind, "--root", str(root), "--option", option, *target])
    out, error = capsys.readouterr()
    if words == "no fault":
        assert code == 0 and words in out
    elif words:
        assert code == 1 and error.startswith("xbl-kit: ") and error.count("\n") == 1
        with pytest.raises(AssertionError, match=words):
            raise AssertionError(error)
    else:
        assert code == 1 and "0 of 16 images" in out


@pytest.mark.parametrize("key", ["root", "target", "labels", "confounders", "out", "size", "kind"])
def test_what_has_a_flag_is_no_option(key, capsys):
    with pytest.raises(SystemExit):
        main(["data", "check", "--data", "table", "--root", ".", "--option", f"{key}=x"])
    assert f"{key}=x" in capsys.readouterr().err


def _aged(n=60):
    rows = [row | {"patient": f"p{i}", "counter": "0"} for i, row in enumerate(_rows(n))]
    return [row | {"sex": "FM"[i % 2], "age": str(20 + i)} for i, row in enumerate(rows)]


def test_numbers_are_binned_on_request(tmp_path):
    root = _write(tmp_path, _aged())
    with pytest.raises(DataError, match="'age' has 60 numbers, expected groups: `--option bins=4`"):
        list_images("table", root, confounders=["age"])
    assert "age" not in list_images("table", root).factors
    groups = list_images("table", root, confounders=["age"], bins="3").rows["age"]
    assert groups.value_counts().to_dict() == {"20 to 39": 20, "40 to 59": 20, "60 to 79": 20}
    assert "age" in list_images("table", root, bins=3).factors
    missing = [row | ({"age": ""} if i < 5 else {}) for i, row in enumerate(_aged())]
    found = list_images("table", _write(tmp_path, missing), confounders=["age"], bins=2)
    assert (found.rows["age"] == "").sum() == 5 and found.rows["age"].nunique() == 3


@pytest.mark.parametrize("wrong", ["999", "-1", "inf"])
def test_groups_hide_no_age_that_cannot_be(tmp_path, wrong):
    rows = [row | ({"age": wrong} if i == 5 else {}) for i, row in enumerate(_aged())]
    root = _write(tmp_path, rows)
    assert f"line 7: age is '{wrong}', expected years" in str(
        check(list_images("table", root, bins=4))[0]
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            lambda i: f"ward {i}",
            "'site' has 60 values in 60 rows, expected at most 10; put them into",
        ),
        (lambda i: "1-5" if i % 10 == 0 else str(i), r"'1-5' \(.*line 2\) is no number; put them"),
        (lambda i: f"{i}.5", "'site' has 60 numbers, expected groups: `--option bins=4`"),
    ],
)
def test_a_factor_of_many_levels_is_refused(tmp_path, values, words):
    rows = [row | {"site": values(i)} for i, row in enumerate(_aged())]
    with pytest.raises(DataError, match=words):
        list_images("table", _write(tmp_path, rows), confounders=["site"])


def test_many_sites_of_many_images_each_are_taken(tmp_path):
    rows = [row | {"site": f"site {i % 12}"} for i, row in enumerate(_aged(120))]
    listed = list_images("table", _write(tmp_path, rows), confounders=["site"])
    assert listed.factors == ("site",)


@pytest.mark.parametrize(
    ("columns", "renamed"),
    [
        ("image=filename", {"image": "filename"}),
        ("image=filename,label=diagnosis", {"image": "filename", "label": "diagnosis"}),
        (["patient=subject id"], {"patient": "subject id"}),
    ],
)
def test_columns_are_mapped(tmp_path, columns, renamed):
    rows = [{renamed.get(k, k): v for k, v in row.items()} for row in _rows()]
    found = open_dataset("table", _write(tmp_path, rows), size=8, columns=columns)
    plain = open_dataset("table", _write(tmp_path / "b"), size=8)
    assert found.classes == plain.classes and found.patient.tolist() == plain.patient.tolist()


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ("image=file", "no column 'file' in its first line, found image"),
        ("label=sex", "column 'label' is there already, so 'sex' cannot be read as it"),
    ],
)
def test_columns_that_cannot_be_mapped(tmp_path, columns, words):
    with pytest.raises(DataError, match=words):
        list_images("table", _write(tmp_path), columns=columns)


@pytest.mark.parametrize("kind", ["file", "folder", "annex"])
def test_links_out_of_the_root_are_read_where_that_is_said(tmp_path, kind):
    root, disk = _write(tmp_path / "root"), tmp_path / "disk"
    if kind == "folder":
        (root / "images").rename(disk)
        (root / "images").symlink_to(disk)
    for i in range(6) if kind != "folder" else ():
        real = disk / {"file": f"{i}.png", "annex": f".git/annex/objects/x{i}/y/{i}.png"}[kind]
        real.parent.mkdir(parents=True, exist_ok=True)
        (root / f"images/{i}.png").rename(real)
        (root / f"images/{i}.png").symlink_to(real)
    with pytest.raises(
        DataError, match=r"leads out of .*root; if it may, --option links="
    ) as error:
        open_dataset("table", root, size=8)
    folder = str(error.value).partition("links=")[2].partition(" (")[0]
    assert folder == str(disk / ".git/annex/objects" if kind == "annex" else disk)
    data = open_dataset("table", root, size=8, links=folder)
    assert len(data) == 6
    assert len(open_dataset("table", root, size=8, links=[Path(folder)])) == 6


@pytest.mark.parametrize("store", [".git/annex/objects", "../.git/modules/A/annex/objects"])
def test_what_an_annex_has_not_fetched_is_named(tmp_path, store):
    root = _write(tmp_path / "root")
    (root / "images/2.png").unlink()
    (root / "images/2.png").symlink_to(f"../{store}/x/MD5E-1.png")
    with pytest.raises(DataError, match=r"line 4: image .*2\.png: not fetched yet, only its link"):
        open_dataset("table", root, size=8)


SETTINGS = [
    ("seed", "3", 3),
    ("seed", np.int64(3), 3),
    ("pairs", "2", 2),
    ("strength", "0.8", 0.8),
    ("strength", 1, 1.0),
    ("strength", None, None),
    ("models", "erm", ("erm",)),
    ("models", ["erm"], ("erm",)),
    ("confounders", "age,sex", ("age", "sex")),
    ("images", 3, (3,)),
    ("images", "3,10", (3, 10)),
    ("exemplars", "auto", "auto"),
    ("weights", "none", "none"),
    ("root", ["a", "b"], ["a", "b"]),
    ("region", (0, 0, 1, 1), (0, 0, 1, 1)),
]
MISTAKEN = [
    ("seed", "x", "seed='x': expected a whole number"),
    ("seed", 1.5, "seed=1.5: expected a whole number"),
    ("seed", -1, "seed=-1: expected at least 0"),
    ("pairs", 1.5, "pairs=1.5: expected a whole number"),
    ("pairs", 0, "pairs=0: expected at least 1"),
    ("strength", "much", "strength='much': expected none or a number"),
    ("models", 5, "models=5: expected names, as A,B"),
    ("models", ["nope"], "method 'nope': expected one of"),
    ("confounders", 5, "confounders=5: expected names"),
    ("images", "few", "images='few': expected whole numbers"),
    ("images", [3, 0], "images=0: expected at least 1"),
    ("plan", 5, "plan=5: expected"),
    ("plan", {"sizes": 32}, "entry of the plan 'sizes': expected one of"),
    ("options", 5, "options=5: expected"),
    ("reading", 5, "reading=5: expected"),
    ("exemplars", 5, "exemplars=5: expected"),
    ("weights", 5, "weights=5: expected"),
    ("root", 5, "root=5: expected"),
    ("biased", 5, "biased=5: expected text"),
    ("draws", "2.5", "draws='2.5': expected a whole number"),
]


@pytest.mark.parametrize(("name", "value", "expected"), SETTINGS)
def test_a_setting_is_read_by_its_type(name, value, expected):
    found = getattr(settle("mimm-x", **{name: value}), name)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(("name", "value", "words"), MISTAKEN)
def test_a_setting_of_another_type_is_one_line(name, value, words):
    with pytest.raises(ValueError, match=f"^{words}") as error:
        settle("mimm-x", **{name: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "as_text", "given"),
    [
        ("table", {"bins": "4", "skip_faulty": "yes"}, {"bins": 4, "skip_faulty": True}),
        ("chexpert", {"views": "PA", "ages": "none"}, {"views": ["PA"], "ages": None}),
        ("mri", {"slices": "3", "percentiles": "1,99"}, {"slices": 3, "percentiles": (1, 99)}),
    ],
)
def test_a_run_is_the_same_whether_options_come_as_text_or_not(data, as_text, given):
    how = {"data": data, "root": "x"}
    one, other = (settle("exbl", **how, reading=each).record for each in (as_text, given))
    assert one == other and set(one["reading"]) == set(given)


def test_masks_that_are_not_there_are_told_before_weights_are_fetched(tmp_path, monkeypatch):
    def fetch(*_, **__):
        raise AssertionError("weights are fetched")

    monkeypatch.setattr("xbl_kit.run.task.build_network", fetch)
    rows = [{"image": f"images/{i}.png", "label": "ab"[i % 2]} for i in range(24)]
    with pytest.raises(ValueError, match="region 'lungs': the data have no such masks"):
        reproduce("exbl", data="table", root=_write(tmp_path, rows), preset="paper", device="cpu")
