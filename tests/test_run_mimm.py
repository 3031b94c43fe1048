"""The MIMM-X experiment on small data: what its results hold, how it resumes, what it refuses."""

import json
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from test_chexpert import write_chexpert
from test_morphomnist import write_mnist
from test_mri import write_bids

from xbl_kit.cli import main
from xbl_kit.data import confound, open_dataset
from xbl_kit.models import build_multihead
from xbl_kit.run import (
    EXPERIMENTS,
    PRESETS,
    RECIPES,
    contents,
    engine,
    open_run,
    reproduce,
    summary,
)
from xbl_kit.run.splits import find_confounded, make_confounded
from xbl_kit.train import predict

FACTORS = ("age", "sex", "site")
MODELS = EXPERIMENTS["mimm-x"]
TESTS = ("iid", "balanced", "inverted")


SMALL = {
    "size": 32,
    "backbone": "small_cnn",
    "weights": "none",
    "train": {"epochs": 2, "batch_size": 32, "lr": 3e-3, "keep": "last"},
    "per_class": {"train": 40, "val": 8, "test": 16},
    "content": {
        "probe": {"permutations": 3},
        "probe_mlp": {"permutations": 1},
        "purity": {},
        "information": {"steps": 5},
    },
}


def test_results_hold_what_the_contract_says_and_are_resumed(tmp_path):
    options = {"plan": SMALL, "seed": 2, "out": tmp_path, "device": "cpu"}
    marginal = {"mimm-x": {"conditional": False}}
    results = reproduce("mimm-x", **options, options=marginal)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert results["experiment"] == "mimm-x" and results["settings"]["options"] == marginal
    assert tuple(results["models"]) == MODELS
    for name, model in results["models"].items():
        assert tuple(model["splits"]) == TESTS
        assert model["splits"]["balanced"]["n"] == 64
        assert len(model["splits"]["balanced"]["groups"]) == 32
        assert model["probe"].keys() == model["information"].keys() == set(FACTORS)
        assert model["probe"]["sex"].keys() == {"accuracy", "null_95"}
        heads = model["splits"]["iid"]["spurious_accuracy"]
        assert heads.keys() == (set(FACTORS) if RECIPES[name].heads else set())
    (tmp_path / "results.json").unlink()
    (tmp_path / "model-oracle.safetensors").unlink()
    again = reproduce("mimm-x", **options, options=marginal, resume=True)
    for result in (results, again):
        result["models"]["oracle"].pop("train")
    assert again == results
    with pytest.raises(ValueError, match="options"):
        reproduce("mimm-x", **options, resume=True)


def test_a_finished_run_is_read_drawn_and_opened(tmp_path, monkeypatch):
    models = ["erm", "mimm-x"]
    whole = {key: value for key, value in SMALL.items() if key != "content"}
    options = {"plan": whole, "seed": 1, "models": models, "out": tmp_path, "device": "cpu"}
    results = reproduce("mimm-x", **options)
    names = {"accuracy", "worst_group", "tsne-erm", "tsne-mimm-x"}
    assert {path.stem for path in tmp_path.glob("*.png")} == names
    assert summary(results).loc[("inverted", "mimm-x"), "accuracy"] <= 1
    table = contents(results)
    assert table.index.tolist() == [(m, f) for m in ("erm", "mimm-x") for f in FACTORS]
    run = open_run(tmp_path)
    assert run.results == results and run.exemplar is None
    seen = predict(run.models["mimm-x"], run.data, run.rows["inverted"])
    right = (seen.label == run.data.label[run.rows["inverted"]]).float().mean()
    found = results["models"]["mimm-x"]["splits"]["inverted"]["accuracy"]
    assert right.item() == pytest.approx(found, abs=1e-4) and len(seen.parts) == 4
    often = torch.tensor(PRESETS["phantom"]["preferred"]["site"])[seen.label]
    told = (often == run.data.confounders["site"][run.rows["inverted"]]).float().mean()
    switched = results["models"]["mimm-x"]["splits"]["inverted"]["switched_accuracy"]
    assert switched["site"] == pytest.approx(told.item(), abs=1e-4)
    monkeypatch.setattr(engine, "open_task", None)  # nothing is computed again
    assert reproduce("mimm-x", **options, resume=True) == results


def test_a_further_factor_joins_where_it_is_named_and_less_can_be_measured(tmp_path):
    before = json.dumps(PRESETS)
    options = {"models": ["erm"], "device": "cpu"}
    options["plan"] = SMALL | {"content": {"probe": {"permutations": 3}}}
    found = reproduce("mimm-x", **options, confounders=["age", "line"], out=tmp_path)
    assert found["settings"]["confounders"] == ["age", "line"]
    assert found["models"]["erm"]["probe"].keys() == {"age", "line"}
    assert found["models"]["erm"].keys() == {"train", "splits", "probe"}
    assert {path.stem for path in tmp_path.glob("*.png")} == {"accuracy", "worst_group"}
    assert contents(found).columns.tolist() == ["probe", "null 95 %"]
    again = reproduce("mimm-x", **options, strength=0.8)
    assert again["settings"]["confounders"] == list(FACTORS)
    assert again["settings"]["strength"] == 0.8
    assert json.dumps(PRESETS) == before


def test_digits_and_tables_go_through_the_same_experiment(tmp_path):
    root = write_mnist(tmp_path / "mnist")
    models = ["reweighted", "mimm-x"]
    options = {"plan": SMALL, "device": "cpu"}
    digits = reproduce("mimm-x", data="morphomnist", root=root, models=models, **options)
    assert digits["settings"]["confounders"] == ["stroke", "rotation"]
    assert digits["models"]["mimm-x"]["splits"]["balanced"]["n"] == 32
    options |= {"root": _table(tmp_path / "t"), "labels": ("ill", "well")}
    for strength in (0.8, None):
        found = reproduce(
            "mimm-x", data="table", confounders=("sex", "view"), strength=strength, **options
        )
        assert tuple(found["models"]) == MODELS
        used = [model["train"]["images"] for model in found["models"].values()]
        assert len(set(used[:-1])) == 1 and used[-1] <= used[0]


def _table(root):
    """Images of which class ill is mostly AP, sex is even, and some sexes are unknown."""
    cells = [(y, s, v) for y in ("ill", "well") for s in "FM" for v in ("AP", "PA")]
    often = {("ill", "AP"): 60, ("well", "PA"): 50}
    rows = [
        {"label": y, "sex": s, "view": v, "patient": f"{y}{s}{v}{i}"}
        for y, s, v in cells
        for i in range(often.get((y, v), 30))
    ]
    rows += [{"label": "other", "sex": "F", "view": "AP", "patient": "o"}]
    rows += [{"label": "ill", "sex": "", "view": "AP", "patient": f"u{i}"} for i in range(3)]
    generator = np.random.default_rng(0)
    for number, row in enumerate(rows):
        row["image"] = f"{number}.png"
    root.mkdir()
    for row in rows:
        Image.fromarray(generator.integers(256, size=(40, 40), dtype=np.uint8)).save(
            root / row["image"]
        )
    pd.DataFrame(rows).to_csv(root / "metadata.csv", index=False)
    return root


def test_a_table_s_splits_share_no_patient_and_have_the_bias(tmp_path):
    data = open_dataset("table", _table(tmp_path / "t"), size=32, labels=("ill", "well"))
    assert data.classes == ("ill", "well")
    factors = ("sex", "view")
    rows = find_confounded(data, factors, strength=0.8, seed=1)
    for one, other in combinations(("train", "val", "iid"), 2):
        assert not np.intersect1d(data.patient[rows[one]], data.patient[rows[other]]).size
    view = {name: confound.measured(data, some, "view") for name, some in rows.items()}
    np.testing.assert_allclose(view["train"], [[0.8, 0.2], [0.2, 0.8]], atol=0.08)
    np.testing.assert_allclose(view["balanced"], 0.5, atol=0.08)
    np.testing.assert_allclose(view["inverted"], [[0.2, 0.8], [0.8, 0.2]], atol=0.12)
    assert all((data.confounders["sex"][some] >= 0).all() for some in rows.values())
    nature = find_confounded(data, factors, strength=None, seed=1)
    known = (data.confounders["sex"] >= 0).sum().item()
    assert sum(len(nature[name]) for name in ("train", "val", "iid")) == known
    np.testing.assert_allclose(
        confound.measured(data, nature["inverted"], "view"),
        1 - confound.measured(data, nature["train"], "view"),
        atol=0.08,
    )


def test_the_rows_have_the_bias_and_no_patient_twice():
    plan = PRESETS["phantom"]
    preferred = {factor: plan["preferred"][factor] for factor in FACTORS}
    per_class = SMALL["per_class"]
    data, rows = make_confounded(
        "phantom", None, preferred=preferred, per_class=per_class, strength=0.9, size=32, seed=1
    )
    train = rows["train"]
    for factor, levels in preferred.items():
        for split, share in (("train", 0.9), ("balanced", 0.5), ("inverted", 0.1)):
            own = torch.tensor(levels)[data.label[rows[split]]]
            agree = (data.confounders[factor][rows[split]] == own).float().mean().item()
            assert agree == pytest.approx(share, abs=0.04)
    for test in TESTS:
        assert not np.intersect1d(data.patient[train], data.patient[rows[test]]).size
    wanted = confound.cell_counts(
        40, {f: confound.biased(p, strength=0.9) for f, p in preferred.items()}
    )
    cell = tuple([data.label[train]] + [data.confounders[f][train] for f in FACTORS])
    counts = np.zeros_like(wanted)
    np.add.at(counts, tuple(each.numpy() for each in cell), 1)
    assert (counts == wanted).all()


def test_parts_are_read_whole_and_the_mode_is_kept(small_cohort):
    model = build_multihead("small_cnn", 4, {"age": 2}).train()
    seen = predict(model, small_cohort, torch.arange(7), batch_size=3)
    assert model.training and [tuple(each.shape) for each in seen.parts] == [(7, 4)] * 2
    one = predict(model, small_cohort, torch.arange(5, 6))
    torch.testing.assert_close(seen.parts[0][5:6], one.parts[0])
    assert seen.logits.shape == (7, 4) and seen.others["age"].shape == (7, 2)


def test_what_is_of_no_use_is_said(tmp_path):
    for options, words in (
        ({"data": "dicom"}, "'dicom'"),
        ({"data": "table"}, "reweighted needs the spurious factors: name them as confounders"),
        ({"data": "table", "models": ["erm"]}, "which columns"),
        ({"data": "table", "confounders": ["sex"]}, "no root was given"),
        ({"models": ["erm", "dfr"]}, "dfr needs images that break the bias"),
        ({"models": []}, r"method '': expected one of unrefined, "),
        ({"plan": SMALL | {"content": {"prob": {}}}, "models": ["erm"]}, "measures \\['prob'\\]"),
        ({"confounders": ["hair"]}, "hair"),
        ({"strength": None}, "a strength"),
        ({"strength": 1.5}, "strength=1.5"),
    ):
        with pytest.raises(ValueError, match=words):
            reproduce("mimm-x", **options)
    root = _table(tmp_path / "t")
    for options, words in (
        ({"labels": ["ill", "wel"]}, "no label 'wel', found ill, other, well"),
        ({"target": "diagnosis"}, "no column 'diagnosis'"),
        ({"confounders": ["label"]}, "column 'label' is the label, not a confounder"),
    ):
        with pytest.raises(ValueError, match=words):
            reproduce("mimm-x", data="table", root=root, **({"confounders": ["sex"]} | options))


def test_the_command_prints_both_tables_and_says_what_is_wrong(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(PRESETS, "on disk", PRESETS["on disk"] | SMALL)
    monkeypatch.chdir(tmp_path)
    _table(tmp_path / "t")
    command = ["reproduce", "mimm-x", "--data", "table", "--root", "t", "--device", "cpu"]
    columns = ["--labels", "ill,well", "--confounders", "sex,view", "--strength", "natural"]
    assert main([*command, *columns, "--seed", "1"]) == 0
    printed = capsys.readouterr()
    folder = tmp_path / "build/mimm-x-table-natural-1"
    assert "inverted" in printed.out and "null 95 %" in printed.out and printed.err == ""
    assert json.loads((folder / "results.json").read_text())["settings"]["strength"] is None
    assert main(command) == 1
    assert "name them as confounders" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main([*command, "--strength", "much"])
    assert stop.value.code == 2 and "a number, or natural" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "write", "more", "found"),
    [
        (
            "chexpert",
            partial(write_chexpert, per_cell=25),
            ["--option", "views=AP,PA", "--option", "uncertain=zeros"],
            {"confounders": ["sex", "age_group"]},
        ),
        (
            "mri",
            partial(write_bids, per_cell=30, shape=(16, 16, 16)),
            ["--target", "diagnosis", "--option", "plane=coronal", "--option", "slices=2"],
            {"confounders": ["sex", "site"], "reading": {"plane": "coronal", "slices": 2}},
        ),
    ],
)
def test_every_kind_on_disk_runs_to_the_end(
    tmp_path, capsys, monkeypatch, kind, write, more, found
):
    plan = SMALL | {"content": {"probe": {"permutations": 3}}}
    monkeypatch.setitem(PRESETS, "on disk", PRESETS["on disk"] | plan)
    root, out = str(write(tmp_path / "data")), str(tmp_path / "out")
    command = ["reproduce", "mimm-x", "--data", kind, "--root", root, "--out", out]
    assert main([*command, *more, "--strength", "0.8", "--seed", "3", "--device", "cpu"]) == 0
    printed = capsys.readouterr()
    assert "inverted" in printed.out and "probe" in printed.out and printed.err == ""
    run = open_run(out)
    results, data, rows, models = run.results, run.data, run.rows, run.models
    assert results["data"] == kind and found.items() <= results["settings"].items()
    assert tuple(models) == MODELS
    for one, other in combinations(("train", "val", "inverted"), 2):
        assert not set(data.patient[rows[one]].tolist()) & set(data.patient[rows[other]].tolist())
    assert main([*command, "--option", "colour=red"]) == 1
    assert f"data '{kind}' has no option 'colour'" in capsys.readouterr().err
