"""Methods side by side: the table, what is given and tested, sharing, resuming, refusals."""

import dataclasses
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from filelock import FileLock

from xbl_kit.data import Dataset
from xbl_kit.exemplar import Exemplar
from xbl_kit.methods import Known
from xbl_kit.run import RECIPES, Recipe, compare, comparison, effect
from xbl_kit.run.compare import _biased
from xbl_kit.run.recipes import Given
from xbl_kit.run.splits import draw_images
from xbl_kit.run.task import givens, open_task, settle
from xbl_kit.run.work import Work
from xbl_kit.storage import OwnFiles

PLAN = {
    "size": 32,
    "train": {"epochs": 1, "lr": 3e-3},
    "refine": {"epochs": 1, "lr": 1e-3},
    "oracle": {"epochs": 1, "lr": 3e-3},
    "per_class": {"train": 16, "val": 8, "test": 16},
}
HOW = {"plan": PLAN, "device": "cpu", "biased": "Viral Pneumonia"}
ROWS = {"method", "images", "unlabelled", "split", "group", "control", "metric"}


@pytest.fixture
def asked(monkeypatch):
    """A correction that notes what it is told, and says "Normal" of everything."""
    told: list[Known] = []

    def always_normal(model, known):
        told.append(known)
        return torch.eye(4)[2].expand(len(known.data), 4).clone()

    recipe = Recipe(always_normal, "Normal!", "unrefined", schedule=None, needs=("images", "pool"))
    monkeypatch.setitem(RECIPES, "normal", recipe)
    return told


def test_the_table_holds_what_the_contract_says(tmp_path, asked):
    given = {"images": [1, 3], "draws": 2, "unlabelled": 4, "controls": ["region-removed"]}
    methods = ["unrefined", "normal", "group-dro", "oracle", "normal"]  # each counts once
    results = compare(methods, seeds=[0, 1], out=tmp_path / "out", **given, **HOW)
    assert json.loads((tmp_path / "out/results.json").read_text()) == results
    assert results["schema"] == 1 and results["experiment"] == "compare"
    assert results["settings"]["seeds"] == [0, 1] and results["biased"] == "Viral Pneumonia"
    assert results["source"] is None, "it is of two sites"
    table = results["table"]
    assert all(row.keys() == ROWS | {"needs", "mean", "sd", "n", "chance"} for row in table)
    assert len({tuple(row[key] for key in sorted(ROWS - {"x"}, key=str)) for row in table}) == len(
        table
    ), "a row a figure"
    of = {
        (r["method"], r["images"], r["unlabelled"], r["split"], r["group"], r["control"],
         r["metric"]): r
        for r in table
    }  # fmt: skip
    plain = of["unrefined", 0, 0, "iid", None, None, "accuracy"]
    assert plain["n"] == 2 and plain["chance"] == 0.25 and not any(plain["needs"].values())
    right = of["normal", 3, 0, "counter", None, "region-removed", "accuracy"]
    assert (right["mean"], right["sd"], right["n"]) == (1, 0, 4), "healthy children are Normal"
    assert right["needs"] == plain["needs"] | {"images": 3, "sentences": 1}
    assert of["normal", 1, 0, "iid", "label=Viral Pneumonia", None, "accuracy"]["mean"] == 0
    assert of["normal", 0, 4, "iid", "label=Normal", None, "accuracy"]["mean"] == 1
    assert of["oracle", 0, 0, "iid", None, None, "accuracy"]["needs"]["unbiased"] == 64
    assert {"site=A", "site=B"} <= {row["group"] for row in table if row["split"] == "counter"}
    maps = of["unrefined", 0, 0, "iid", None, None, "activation_precision"]
    assert 0.1 < maps["chance"] < 0.4, "the masks' share of the image"
    assert {path.name for path in (tmp_path / "out").iterdir() if path.name[0] != "."} == {
        "run.json", "results.json", "report.md", "effect.png",
        "seed-0", "seed-1", "seed-0-region-removed", "seed-1-region-removed",
    }  # fmt: skip
    assert "| Normal! | 1 sentence, 3 images |" in (tmp_path / "out/report.md").read_text()
    assert ("Normal!", "2 sentences, 4 unlabelled", "") in comparison(results).index
    for known in asked:
        assert (known.biased, known.counter_class) == (3, 2)
        assert len(known.before.logits) == len(known.data) == len(known.statistics())
        assert len(known.images) in (0, 1, 3) and len(known.pool) == (0 if len(known.images) else 4)


@pytest.mark.parametrize("pairs", [1, 3])
def test_several_pairs_are_picked_and_counted_as_clicks(pairs, tmp_path):
    longer = PLAN | {
        "train": {"epochs": 6, "lr": 3e-3},
        "per_class": {"train": 40, "val": 8, "test": 8},
    }
    results = compare(["exbl"], out=tmp_path / "out", pairs=pairs, plan=longer, device="cpu")
    found = Exemplar.load(tmp_path / "out/seed-0/exemplar.npz")
    assert len(found.good.index) == len(found.bad.index) == pairs
    clicks = {row["method"]: row["needs"]["clicks"] for row in results["table"]}
    assert clicks == {"unrefined": 0, "exbl": 2 * pairs}


def _drawn(figure) -> tuple[list[str], list[float], str]:
    """The rows of `effect`, where their marks are, and the label of the axis."""
    axes = figure.axes[0]
    marks = [bars.lines[0].get_xdata()[0] for bars in axes.containers]
    return [text.get_text() for text in axes.get_yticklabels()], marks, axes.get_xlabel()


def test_effect_shows_the_counter_group_of_the_biased_source_where_it_is_known():
    nothing = {"masks": 0, "images": 0}
    table = [
        {"method": method, "needs": nothing | needs, "split": split, "metric": metric,
         "group": group, "control": None, "mean": mean, "sd": 0.0, "chance": 0.25}
        for method, needs, shift in (("rrr", {"masks": 9}, 0.25), ("dfr", {"images": 1}, 0.0))
        for split, metric, group, mean in (
            ("counter", "accuracy", None, 0.5 + shift),
            ("counter", "accuracy", "site=a", 0.125 + shift),
            ("balanced", "worst_group", None, 0.25 + shift),
            ("iid", "accuracy", None, 0.75 + shift),
        )
    ]  # fmt: skip
    names = ["DFR (1 image)", "RRR (9 masks)"]
    own = _drawn(effect({"table": table, "source": "a"}))
    assert own == (names, [0.125, 0.375], "accuracy, counter, site=a")
    for source in ({}, {"source": None}, {"source": "b"}):
        assert _drawn(effect({"table": table} | source))[1:] == ([0.5, 0.75], "accuracy, counter")
    asked = _drawn(effect({"table": table, "source": "a"}, "iid"))
    assert asked == (names, [0.75, 1.0], "accuracy, iid")
    none = {"table": [row for row in table if row["split"] != "counter"]}
    assert _drawn(effect(none))[2] == "accuracy of the worst group, balanced"
    with pytest.raises(
        ValueError, match=r"'inverted', 'accuracy', None\) was not measured; .*'iid'"
    ):
        effect(none, "inverted")


def test_the_source_of_the_biased_class_is_the_only_site_of_its_training_images():
    data = _data()
    work = Work.__new__(Work)
    work.biased = lambda: (1, 0)
    train = (data.label == 1).nonzero()[:, 0]
    work.task = SimpleNamespace(data=data, rows={"train": train})
    assert _biased(work) == {"biased": "ill", "source": "a"}
    data.confounders["site"][train[0]] = 1
    assert _biased(work)["source"] is None, "it is of two"
    data.confounders["site"][train] = -1
    assert _biased(work)["source"] is None, "it is not known"
    del data.confounders["site"], data.levels["site"]
    assert _biased(work) == {"biased": "ill", "source": None}


def test_a_comparison_is_resumed_and_shared_stage_by_stage(tmp_path, asked):
    how = {"methods": ["normal", "group-dro"], "images": [2], "out": tmp_path / "out"} | HOW
    whole = compare(**how)
    stages = sorted((tmp_path / "out").glob("seed-0/stage-*.json"))
    assert [stage.stem for stage in stages] == [
        "stage-group-dro-2-0",
        "stage-group-dro",
        "stage-normal",
        "stage-unrefined",
    ]
    before, calls = {stage: stage.stat().st_mtime_ns for stage in stages}, len(asked)
    assert compare(**how, resume=True) == whole, "it is finished"
    (tmp_path / "out/results.json").unlink()
    stages[2].unlink()  # "normal" has to be done again, and nothing else
    assert compare(**how, resume=True) == whole and len(asked) == 2 * calls
    assert all(s.stat().st_mtime_ns == before[s] for s in (stages[0], stages[3]))
    more = compare(**how | {"methods": ["normal", "group-dro", "erm"]}, resume=True)
    assert all(s.stat().st_mtime_ns == before[s] for s in (stages[0], stages[3])), "one is added"
    assert [row for row in more["table"] if row["method"] != "erm"] == whole["table"]
    with pytest.raises(ValueError, match=r"run\.json: holds a run with images \[2\]"):
        compare(**how | {"images": [3]}, resume=True)
    with (
        FileLock(tmp_path / "out/seed-0/.xbl-kit-stage-group-dro.lock"),
        pytest.raises(ValueError, match="another process is at work here; join it with --resume"),
    ):
        compare(**how)
    assert stages[0].exists(), "nothing is removed"


def test_two_processes_may_come_to_the_end_together(tmp_path, monkeypatch, asked):
    how = {"methods": ["normal"], "images": [2], "out": tmp_path / "out", "resume": True} | HOW
    module, others = sys.modules["xbl_kit.run.compare"], []
    real = module.do_all

    def overtaken(works):
        monkeypatch.setattr(module, "do_all", real)
        others.append(compare(**how))

    monkeypatch.setattr(module, "do_all", lambda works: (overtaken(works), real(works)))
    assert compare(**how)["table"] == others[0]["table"]


def test_what_another_process_is_at_is_left_to_it(tmp_path, monkeypatch):
    settings = settle("compare", models=("unrefined", "rrr"), plan=PLAN)
    task = open_task(settings)
    work = Work(task, OwnFiles(tmp_path / "out"), None, "cpu")
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out/.xbl-kit-stage-unrefined.lock"):
        assert work.go_on() == 0 and len(work.left) == 2, "rrr waits for unrefined"
    while work.left:
        assert work.go_on()
    assert not list(tmp_path.glob("out/.*.lock"))


def _data(n_patients=12):
    """Two images a patient; the ill come from site a, the healthy counter-group from a and b."""
    patient = torch.arange(n_patients).repeat_interleave(2)
    label = torch.zeros(len(patient), dtype=torch.int64)
    label[: len(patient) // 2] = 1
    site = (patient % 3 == 0).long()
    site[label == 1] = 0
    return Dataset(
        images=np.zeros((len(patient), 8, 8), dtype=np.uint8),
        label=label,
        classes=("well", "ill"),
        patient=patient,
        confounders={"site": site},
        levels={"site": ("a", "b")},
        counter=label == 0,
    )


def test_images_are_drawn_one_a_patient_from_the_source_of_the_biased_class():
    data = _data()
    ill = torch.arange(12)
    rows = {"train": ill[:4], "iid": ill[4:], "counter": torch.arange(12, 24)}
    with pytest.warns(UserWarning, match="4 of 12 counter images come from another source"):
        images, pool, left = draw_images(data, rows, 3, 0, biased=1)
    assert len(images) == 3 == len(data.patient[images].unique()) and not len(pool)
    assert (data.confounders["site"][images] == 0).all() and (data.label[images] == 0).all()
    assert not torch.isin(data.patient[left["counter"]], data.patient[images]).any()
    assert len(left["counter"]) == 6 and torch.equal(left["iid"], rows["iid"])
    with pytest.warns(UserWarning, match="another source"):
        more, _, _ = draw_images(data, rows, 2, 0, biased=1)
    assert torch.equal(more, images[:2]), "a smaller gift is part of a larger one"
    with pytest.warns(UserWarning, match="another source"):
        none, pool, left = draw_images(data, rows, 0, 4, biased=1)
    assert not len(none) and data.label[pool].tolist() == [0, 0, 1, 1]
    assert len(left["iid"]) == 4, "those of the pool are not tested on"
    for n, wanted in ((4, 0), (0, 8)):
        with (
            pytest.warns(UserWarning, match="another source"),
            pytest.raises(ValueError, match=r"has 4 patients to draw 4 from, and to test on"),
        ):
            draw_images(data, rows, n, wanted, biased=1)


def test_a_recipe_has_a_cell_for_each_gift(asked):
    settings = settle("compare", models=("unrefined",), images=(1, 3), draws=2, unlabelled=4)
    assert givens(RECIPES["unrefined"], settings) == [Given()]
    found = givens(RECIPES["normal"], settings)
    assert found == [Given(k, 0, d) for k in (1, 3) for d in (0, 1)] + [
        Given(0, 4, d) for d in (0, 1)
    ]
    takes = dataclasses.replace(RECIPES["erm"], takes=("images",))
    assert givens(takes, settings)[0] == Given() and len(givens(takes, settings)) == 5


def test_a_control_sees_the_region_or_nothing_but_it():
    plan = {"plan": PLAN, "models": ("unrefined",)}
    whole, removed, only = (
        open_task(settle("compare", control=control, **plan)).data
        for control in (None, "region-removed", "region-only")
    )
    lungs = whole.masks["lungs"]
    assert (removed.images[lungs] == 0).all() and (only.images[~lungs] == 0).all()
    assert np.array_equal(removed.images[~lungs], whole.images[~lungs])
    assert np.array_equal(only.images + removed.images, whole.images)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"methods": ["normal"]}, "normal needs images that break the bias"),
        ({"methods": ["cdpe"]}, "method 'cdpe': expected one of"),
        ({"controls": ["lungs"]}, "control 'lungs': expected one of"),
        ({"methods": ["normal"], "images": [500]}, "'counter' has .* patients to draw 500 from"),
        ({"methods": ["normal"], "images": [0]}, "images=0: expected at least 1"),
        ({"draws": 0}, "draws=0: expected at least 1"),
        ({"pairs": 0}, "pairs=0: expected at least 1"),
        ({"seeds": []}, "no seeds"),
        ({"methods": ["normal"], "images": [1], "biased": "Flu"}, "biased 'Flu': expected one of"),
    ],
)
def test_settings_of_no_use_are_refused_in_one_line(given, message, asked):
    with pytest.raises(ValueError, match=message):
        compare(**HOW | given)
