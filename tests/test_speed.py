"""The benchmark's ratios, loosely: seconds are nobody's business on a busy machine."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def speed():
    spec = importlib.util.spec_from_file_location("speed", ROOT / "benchmarks" / "speed.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")  # it takes its steps from step.py
        spec.loader.exec_module(module)
    return module


def ratios(rows) -> dict:
    return {row["side"]: row["ratio"] for row in rows}


@pytest.mark.parametrize(
    ("module", "later"),
    [
        ("xbl_kit.cli", ["torch", "numpy"]),
        (
            "xbl_kit.run",
            ["sklearn.base", "scipy.stats", "scipy.ndimage", "seaborn.utils", "matplotlib.figure"],
        ),
    ],
)
def test_what_takes_seconds_to_load_is_loaded_where_it_is_used(module, later):
    code = f"import sys, {module}; print(*{set(later)} & sys.modules.keys())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


@pytest.mark.parametrize(
    ("given", "policy"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")]
)
def test_threads_that_wait_sleep_before_torch_is_there(given, policy):
    code = "import os, sys, xbl_kit; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    others = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, env=others | given, capture_output=True, text=True, check=True)
    assert found.stdout.split() == [policy, "False"]


def test_an_explanation_loss_costs_little_and_second_order_much(speed):
    found = ratios(speed.steps_of("small_cnn", 64, 32, repeats=3))
    assert found["eXBL"] < 1.7 and found["RRR-G"] < 1.7
    assert found["RRR"] > 2, "its gradient goes back through the whole network"


def test_a_map_costs_hardly_more_than_the_forward_pass(speed):
    found = ratios(speed.maps_of("resnet18", size=96, repeats=3))
    assert found["xbl-kit"] < 1.6 and found["xbl-kit"] < found["captum"] * 1.2


def test_maps_that_are_not_alike_are_said(speed):
    cam = torch.rand(3, 4, 4)
    assert speed.correlation(cam, 2 * cam) > 0.999
    assert speed.correlation(cam, cam.flip(0)) < 0.9


def test_without_a_gpu_the_question_is_skipped_with_a_reason(speed, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert speed.gpu() == [{"question": "gpu", "skipped": "torch finds no GPU here"}]


@pytest.mark.slow
def test_what_a_gpu_is_asked_runs_on_a_cpu_too(speed):
    few = {"train": 40, "val": 12, "test": 12}
    plan = {"size": 64, "per_class": few, "train": {"epochs": 9, "lr": 1e-3}}
    *trained, maps = speed.gpu("cpu", 60, **plan, refine={"epochs": 1})
    sides = [(row["precision"], row["side"], row["epochs"]) for row in trained]
    assert sides == [(p, *one) for p in ("no", "bf16") for one in (("unrefined", 9), ("exbl", 1))]
    assert maps["images"] == 60 and maps["seconds"] >= 0
