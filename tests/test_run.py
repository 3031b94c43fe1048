"""The experiment on small data: what it writes, how it resumes, what it refuses."""

import dataclasses
import json
import subprocess
import sys

import pytest
import torch
from PIL import Image
from test_radiography import write_radiography
from test_table import _write

from xbl_kit.cli import main
from xbl_kit.exemplar import Exemplar
from xbl_kit.run import (
    EXPERIMENTS,
    PRESETS,
    RECIPES,
    engine,
    evaluate,
    open_run,
    reproduce,
    summary,
)
from xbl_kit.run import stage as stages

MODELS = EXPERIMENTS["exbl"]
SMALL = {
    "size": 32,
    "train": {"epochs": 6, "lr": 3e-3},
    "refine": {"epochs": 2, "lr": 1e-3},
    "oracle": {"epochs": 8, "lr": 3e-3},
    "per_class": {"train": 40, "val": 8, "test": 8},
}


@pytest.fixture(autouse=True)
def _small(monkeypatch, tmp_path):
    """The classroom preset, made small enough for a test."""
    monkeypatch.setenv("XBL_KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(PRESETS, "classroom", PRESETS["classroom"] | SMALL)


def _without_time(results):
    """What a seed decides; where the exemplars come from does not."""
    results = json.loads(json.dumps(results))
    del results["settings"]
    for model in results["models"].values():
        model["train"] = {"epochs": model["train"]["epochs"]}
    return results


def test_results_hold_what_the_contract_says(tmp_path):
    results = reproduce("exbl", seed=3, out=tmp_path / "out", device="cpu")
    assert json.loads((tmp_path / "out/results.json").read_text()) == results
    assert results["schema"] == 1 and results["experiment"] == "exbl" and results["seed"] == 3
    assert results["data"] == "phantom" and results["preset"] == "classroom"
    assert results["device"] == "cpu" and {"xbl_kit", "torch"} <= results["versions"].keys()
    assert results["exemplars"]["picked_by"] == "auto"
    assert tuple(results["models"]) == MODELS
    for model in results["models"].values():
        assert {"epochs", "seconds", "seconds_per_epoch"} <= model["train"].keys()
        assert tuple(model["splits"]) == ("iid", "balanced", "inverted", "counter")
        balanced = model["splits"]["balanced"]
        assert {g: v["n"] for g, v in balanced["groups"].items()} == {
            f"{label}/{age}": 4
            for label in ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")
            for age in ("adult", "child")
        }
        assert balanced["worst_group"] == min(g["accuracy"] for g in balanced["groups"].values())
        assert sum(balanced["predicted"].values()) == balanced["n"] == 32
        assert balanced["region_share"].keys() == {"lungs", "humerus"}
        assert 0.1 < balanced["activation_precision_chance"] < 0.4
        assert set(model["splits"]["iid"]["groups"]) == {
            "COVID/adult", "Lung_Opacity/adult", "Normal/adult", "Viral Pneumonia/child"
        }  # fmt: skip
        assert set(model["splits"]["counter"]["groups"]) == {"Normal/child"}
    control, refined = results["models"]["control"]["train"], results["models"]["exbl"]["train"]
    assert control["epochs"] == refined["kept"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "run.json", "results.json", "exemplar.npz", "accuracy.png", "worst_group.png",
        "activation_precision.png", "maps.png",
        *(f"model-{name}.safetensors" for name in MODELS),
        *(f"stage-{name}.json" for name in MODELS),
    }  # fmt: skip


def test_a_seed_repeats_itself_and_a_pick_can_be_replayed(tmp_path):
    first = reproduce("exbl", out=tmp_path / "a", device="cpu")
    again = reproduce("exbl", exemplars=tmp_path / "a/exemplar.npz", device="cpu")
    assert _without_time(first) == _without_time(again)
    other = reproduce("exbl", seed=1, device="cpu")
    assert _without_time(first) != _without_time(other) | {"seed": 0}


def test_a_finished_run_is_opened_as_it_was_left(tmp_path):
    results = reproduce("exbl", out=tmp_path, seed=1, device="cpu")
    run = open_run(tmp_path)
    assert run.results == results and list(run.models) == list(results["models"])
    for name, model in run.models.items():
        for split, found in results["models"][name]["splits"].items():
            assert evaluate(model, run.data, run.rows[split], ["age"]) == found
    assert run.exemplar.summary() == results["exemplars"]
    (tmp_path / "results.json").unlink()
    with pytest.raises(FileNotFoundError, match="no finished run"):
        open_run(tmp_path)


def test_a_stopped_run_is_resumed(tmp_path, monkeypatch):
    whole = reproduce("exbl", device="cpu")
    out = tmp_path / "out"

    def killed(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(RECIPES, "exbl", dataclasses.replace(RECIPES["exbl"], build=killed))
        with pytest.raises(KeyboardInterrupt):
            reproduce("exbl", out=out, device="cpu")
    stamp = (out / "model-unrefined.safetensors").stat().st_mtime_ns
    assert not (out / "results.json").exists()
    with pytest.raises(ValueError, match=r"run\.json: holds a run with seed 0, expected 5"):
        reproduce("exbl", seed=5, out=out, resume=True, device="cpu")
    resumed = reproduce("exbl", out=out, resume=True, device="cpu")
    assert (out / "model-unrefined.safetensors").stat().st_mtime_ns == stamp
    assert _without_time(resumed) == _without_time(whole)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "open_task", killed)
        assert reproduce("exbl", out=out, resume=True, device="cpu") == resumed, "it is finished"
    reproduce("exbl", out=out, device="cpu")
    assert (out / "model-unrefined.safetensors").stat().st_mtime_ns != stamp, "a new run is new"


def test_a_table_with_few_columns_runs_to_the_end(tmp_path):
    rows = [
        {"image": f"images/{i}.png", "label": "ab"[i % 6 // 3], "site": "xy"[i // 2 % 2]}
        for i in range(40)
    ]
    root = _write(tmp_path / "data", rows)
    with pytest.raises(ValueError, match=r"region 'lungs': the data have no such masks"):
        reproduce("exbl", data="table", root=root, device="cpu")
    results = reproduce(
        "exbl",
        data="table",
        root=root,
        region=(0.0, 0.0, 0.5, 1.0),
        confounders=("site",),
        out=tmp_path / "out",
        device="cpu",
    )
    assert tuple(results["models"]) == MODELS[:3]
    split = results["models"]["exbl"]["splits"]["iid"]
    assert "activation_precision" not in split and set(split["groups"]) <= {
        "a/x", "a/y", "b/x", "b/y"
    }  # fmt: skip
    assert list(summary(results).columns) == ["accuracy", "worst group", "n"]


def test_counter_images_are_tested_on_and_never_trained_on(tmp_path, monkeypatch):
    rows = [
        {"image": f"images/{i}.png", "mask": f"masks/{i % 6}.png", "label": "ab"[i % 6 // 3]}
        | {"counter": int(i >= 40)}
        for i in range(50)
    ]
    seen = []
    trained = stages.fit

    def watch(method, data, rows, val_rows, *args, **options):
        seen.append(torch.cat([rows, val_rows]))
        return trained(method, data, rows, val_rows, *args, **options)

    monkeypatch.setattr(stages, "fit", watch)
    root = _write(tmp_path / "data", rows)
    results = reproduce("exbl", data="table", root=root, device="cpu")
    assert max(s.max() for s in seen) < 40
    assert results["models"]["exbl"]["splits"]["counter"]["n"] == 10


def test_a_precision_is_that_of_every_training_and_recorded(tmp_path, monkeypatch):
    seen, trained = [], stages.fit

    def watch(method, data, rows, val_rows, schedule, **options):
        seen.append(schedule.precision)
        history = trained(method, data, rows, val_rows, schedule, **options)
        assert {tensor.dtype for tensor in method.parameters()} == {torch.float32}
        return history

    monkeypatch.setattr(stages, "fit", watch)
    run = ["reproduce", "exbl", "--precision", "bf16", "--device", "cpu", "--out", str(tmp_path)]
    assert main(run) == 0 and seen == ["bf16"] * 4
    assert open_run(tmp_path).results["settings"]["precision"] == "bf16"


def test_settings_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="precision 'half': expected one of no, bf16"):
        reproduce("exbl", precision="half")
    with pytest.raises(ValueError, match="experiment 'cdep': expected one of exbl"):
        reproduce("cdep")
    with pytest.raises(
        ValueError, match="preset 'large': expected one of classroom, quick, paper, "
    ):
        reproduce("exbl", preset="large")
    with pytest.raises(FileNotFoundError, match="no such exemplar file"):
        reproduce("exbl", exemplars=tmp_path / "pick.npz", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_summary_is_a_row_for_each_split_and_model(tmp_path):
    results = reproduce("exbl", device="cpu")
    table = summary(results)
    assert list(table.columns) == ["accuracy", "worst group", "n", "AP", "AP chance"]
    assert table.index.tolist()[:5] == [
        *(("iid", name) for name in MODELS), ("balanced", "unrefined")
    ]  # fmt: skip
    wanted = results["models"]["exbl"]["splits"]["inverted"]["accuracy"]
    assert table.loc[("inverted", "exbl"), "accuracy"] == wanted


TWO = """
import sys
from xbl_kit.cli import main
from xbl_kit.run import PRESETS

PRESETS["classroom"] |= {small}
code = main(["reproduce", "exbl", "--data", "table", "--root", sys.argv[1], "--out", sys.argv[2],
             "--region", "0,0,0.5,1", "--device", "cpu"])
raise SystemExit(code)
"""


def test_two_processes_make_one_run(tmp_path):
    rows = [{"image": f"images/{i}.png", "label": "ab"[i % 6 // 3]} for i in range(60)]
    root, out = _write(tmp_path / "data", rows), tmp_path / "out"
    script = tmp_path / "two.py"
    script.write_text(TWO.format(small=SMALL))
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    out.mkdir()
    (out / "run.json").write_text('{"experiment": "old", "files": ["stage-unrefined.json"]}')
    (out / "stage-unrefined.json").write_text("{}")
    command = map(str, [*launch, script, root, out])
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("worst group") == 1, "one table, not one a process"
    assert json.loads((out / "results.json").read_text())["models"].keys() == set(MODELS[:3])
    assert not list(tmp_path.rglob("*.partial"))


def test_the_radiography_database_runs_to_the_end(tmp_path):
    root = write_radiography(tmp_path / "data", 12)
    for number, label in enumerate(("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")):
        for path in (root / label / "images").iterdir():  # noise, made brighter class by class
            Image.open(path).point(lambda grey, n=number: grey // 4 + 60 * n).save(path)
    results = reproduce("exbl", data="radiography", root=root, device="cpu", out=tmp_path / "out")
    assert tuple(results["models"]) == MODELS[:3] and results["data"] == "radiography"
    assert "activation_precision" in results["models"]["exbl"]["splits"]["iid"]
    with pytest.raises(ValueError, match="12 images, the paper's subsample needs 1300 a class"):
        reproduce("exbl", data="radiography", root=root, reading={"subsample": "paper"})


@pytest.fixture
def few_columns(tmp_path):
    """A table data set with a factor that is not always known."""
    sites = ("x", "y", "", "x")
    rows = [
        {"image": f"images/{i}.png", "label": "ab"[i % 6 // 3], "site": sites[i // 2 % 4]}
        for i in range(60)
    ]
    where = {"root": _write(tmp_path / "data", rows), "region": (0.0, 0.0, 0.5, 1.0)}
    return {"data": "table", "device": "cpu", "confounders": ("site",), **where}


def test_the_worst_group_is_a_known_one_and_its_size_is_told(few_columns):
    """Images of an unknown level are listed, and are no group that a method could protect."""
    for model in reproduce("exbl", **few_columns)["models"].values():
        found = model["splits"]["iid"]
        assert any("unknown" in name for name in found["groups"])
        known = {n: g for n, g in found["groups"].items() if "unknown" not in n}
        lowest = min(own["accuracy"] for own in known.values())
        assert found["worst_group"] == lowest
        sizes = [own["n"] for own in known.values() if own["accuracy"] == lowest]
        assert found["worst_group_n"] == max(sizes)
        assert all(own.get("few", False) == (own["n"] < 10) for own in found["groups"].values())


FOREIGN = ("my-holiday.png", "my-model.safetensors", "train-list.csv", "notes.txt", "maps.png")


def test_a_run_neither_removes_nor_replaces_what_it_did_not_write(few_columns, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in FOREIGN:
        (out / name).write_text("mine")
    for resume in (False, True):
        with pytest.raises(ValueError, match=r"out: maps.png was not written by xbl-kit"):
            reproduce("exbl", **few_columns, out=out, resume=resume)
    assert {p.name: p.read_text() for p in out.iterdir()} == dict.fromkeys(FOREIGN, "mine")
    (out / "maps.png").unlink()
    with pytest.raises(ValueError, match="not a folder"):
        reproduce("exbl", **few_columns, out=out / "notes.txt")


def test_a_new_run_removes_the_files_of_the_old_one_and_no_others(few_columns, tmp_path):
    out = tmp_path / "out"
    reproduce("exbl", **few_columns, out=out)
    own = {path.name for path in out.iterdir()}
    for name in set(FOREIGN) - own:
        (out / name).write_text("mine")
    record = json.loads((out / "run.json").read_text())
    assert own - {"run.json"} <= set(record["files"])
    (out / "model-unrefined.safetensors").unlink()
    (out / "results.json").write_text("{}")
    reproduce("exbl", **few_columns, seed=1, out=out)
    assert {path.name for path in out.iterdir()} == own | set(FOREIGN)
    for name in set(FOREIGN) - own:
        assert (out / name).read_text() == "mine"
    assert json.loads((out / "results.json").read_text())["seed"] == 1
    record["files"].remove("model-exbl.safetensors")  # as if a person had put it there
    (out / "run.json").write_text(json.dumps(record))
    before = (out / "model-exbl.safetensors").read_bytes()
    with pytest.raises(ValueError, match=r"model-exbl.* was not written by xbl-kit .* another"):
        reproduce("exbl", **few_columns, out=out)
    assert (out / "model-exbl.safetensors").read_bytes() == before
    (out / "notes.txt").write_text("mine")
    for content in (
        "3",
        "run!",
        '{"written_by": "xbl-kit", "files": ["../mine.png"]}',
        '{"name": "my robot", "files": ["notes.txt"]}',  # a program of somebody else's
    ):
        (out / "run.json").write_text(content)
        with pytest.raises(ValueError, match=r"run\.json: not a record of files in this folder"):
            reproduce("exbl", **few_columns, out=out)
        assert (out / "run.json").read_text() == content and (out / "notes.txt").exists()


def test_the_pick_of_a_person_is_kept_and_used(few_columns, tmp_path):
    """Whether the run is new, resumed, or finished; another person's file moves aside."""
    out = tmp_path / "out"
    ranked = reproduce("exbl", **few_columns, out=out)
    picks = Exemplar.load(out / "exemplar.npz")
    swapped = Exemplar(good=picks.bad, bad=picks.good, picked_by="person")
    swapped.save(out / "exemplar.npz")
    bytes_of = (out / "exemplar.npz").read_bytes()
    for resume in (True, False):
        with pytest.warns(UserWarning, match=r"exemplar\.npz: picked by a person; kept, and used"):
            found = reproduce("exbl", **few_columns, out=out, resume=resume)
        assert found["exemplars"] == swapped.summary() != ranked["exemplars"]
        assert (out / "exemplar.npz").read_bytes() == bytes_of
        assert open_run(out).exemplar.summary() == swapped.summary()
        if resume:
            trained = found["models"]["unrefined"]["train"]
            assert trained == ranked["models"]["unrefined"]["train"], "taken over"
            assert reproduce("exbl", **few_columns, out=out, resume=True) == found, "finished"
    other = dataclasses.replace(swapped, good=picks.good, picked_by="group 2")
    other.save(tmp_path / "other.npz")
    with pytest.warns(UserWarning, match=r"exemplar\.npz: kept as exemplar-1\.npz"):
        found = reproduce("exbl", **few_columns, exemplars=tmp_path / "other.npz", out=out)
    assert found["exemplars"]["picked_by"] == "group 2"
    assert (out / "exemplar-1.npz").read_bytes() == bytes_of


def test_an_exemplar_with_the_same_rows_and_other_maps_is_another(few_columns, tmp_path):
    out, file = tmp_path / "out", tmp_path / "pick.npz"
    reproduce("exbl", **few_columns, out=out)
    picks = dataclasses.replace(Exemplar.load(out / "exemplar.npz"), picked_by="person")
    picks.save(file)
    first = reproduce("exbl", **few_columns, exemplars=file, out=tmp_path / "mine")
    weights = (tmp_path / "mine/model-exbl.safetensors").read_bytes()
    good = dataclasses.replace(picks.good, cam=picks.good.cam.flip(2))
    dataclasses.replace(picks, good=good).save(file)
    with pytest.warns(UserWarning, match=r"kept as exemplar-1\.npz"):
        again = reproduce("exbl", **few_columns, exemplars=file, out=tmp_path / "mine", resume=True)
    assert first["exemplars"] == again["exemplars"], "the same rows"
    assert (tmp_path / "mine/model-exbl.safetensors").read_bytes() != weights, "trained anew"
    options = few_columns | {"exemplars": file, "out": tmp_path / "mine", "resume": True}
    assert reproduce("exbl", **options) == again, "finished"


def test_figures_of_then_do_not_stand_beside_weights_of_now(few_columns, tmp_path, monkeypatch):
    """A run that is resumed with another pick, and stopped, has no results until its end."""
    reproduce("exbl", **few_columns, out=tmp_path / "run")
    picks = Exemplar.load(tmp_path / "run/exemplar.npz")
    Exemplar(good=picks.bad, bad=picks.good, picked_by="person").save(tmp_path / "run/exemplar.npz")

    def killed(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stages, "fit", killed)
        with pytest.raises(KeyboardInterrupt), pytest.warns(UserWarning, match="kept, and used"):
            reproduce("exbl", **few_columns, out=tmp_path / "run", resume=True)
    with pytest.raises(FileNotFoundError, match="no finished run"):
        open_run(tmp_path / "run")


def test_a_run_of_another_version_is_said(few_columns, tmp_path):
    reproduce("exbl", **few_columns, models=["unrefined"], out=tmp_path / "run")
    record = json.loads((tmp_path / "run/run.json").read_text())
    del record["settings"]["backbone"]
    (tmp_path / "run/run.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="holds a run with backbone 'none', expected None"):
        reproduce("exbl", **few_columns, models=["unrefined"], out=tmp_path / "run", resume=True)


def test_a_pick_that_no_method_needs_is_kept_and_not_reported(few_columns, tmp_path):
    reproduce("exbl", **few_columns, out=tmp_path / "run")
    picks = Exemplar.load(tmp_path / "run/exemplar.npz")
    dataclasses.replace(picks, picked_by="person").save(tmp_path / "run/exemplar.npz")
    before = (tmp_path / "run/exemplar.npz").read_bytes()
    found = reproduce("exbl", **few_columns, models=["unrefined"], out=tmp_path / "run")
    assert "exemplars" not in found and (tmp_path / "run/exemplar.npz").read_bytes() == before
    dataclasses.replace(picks, good=picks.bad, picked_by="other").save(tmp_path / "other.npz")
    options = few_columns | {"exemplars": tmp_path / "other.npz", "out": tmp_path / "run"}
    with pytest.warns(UserWarning, match=r"kept as exemplar-1\.npz"):
        reproduce("exbl", **options, models=["unrefined"])
    assert (tmp_path / "run/exemplar-1.npz").read_bytes() == before
