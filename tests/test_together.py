"""One process, `torchrun` and `notebook_launcher` with two: the same losses and weights."""

import json
import subprocess
import sys

import pytest
import torch

SCRIPT = """
import sys

import torch
from accelerate import notebook_launcher
from torch import nn

from xbl_kit.data import confound, open_dataset
from xbl_kit.methods import ExBL, MimmX
from xbl_kit.models import Classifier
from xbl_kit.models.classifier import part_head, pooled_head
from xbl_kit.pick import pick_automatically
from xbl_kit.storage import is_first_process
from xbl_kit.train import fit, predict

FACTORS = {"age": 2, "sex": 2, "site": 2}
WAYS = ({}, {"scaling": "equal", "attention": "weights"}, {"scaling": "gradnorm"}, {"memory": 0})
WAYS += ({"estimator": "club"}, {"estimator": "dcor", "scaling": "clip"})


def network(factors=()):  # without BatchNorm, which would see a share of the batch
    torch.manual_seed(0)
    head = part_head(16, 4, 4) if factors else pooled_head(16, 4, hidden=0)
    body = [nn.Conv2d(1, 8, 5, 4), nn.Tanh(), nn.Conv2d(8, 16, 3, 2), nn.ReLU()]
    heads = {name: part_head(16, 4, 2) for name in factors}
    return Classifier(nn.Sequential(), nn.Sequential(*body), head, factors=heads)


def methods(data, rows):
    model = network()
    seen = predict(model, data, rows)
    yield ExBL(model, pick_automatically(data, rows, seen.cam, seen.label))
    for options in WAYS:
        yield MimmX(network(FACTORS), **({"memory": 24} | options))


def train(out):
    data = open_dataset("phantom", per_cell={"train": 8, "val": 4, "test": 4}, size=32)
    data.confounders["site"][::3] = -1  # not known of some
    rows = confound.split_patients(data, {"train": 0.6, "val": 0.2, "test": 0.2})
    sides, found = (data, rows["train"][:64], rows["val"][:16]), []
    for method in methods(*sides[:2]):
        plan = {"epochs": 2, "batch_size": 16, "lr": 1e-2, "device": "cpu"}
        history = fit(method.double(), *sides, **plan)
        losses = {(r["epoch"], k, n): x for r in history for k in ("train", "val")
                  for n, x in r[k].items()}
        found.append((losses, method.state_dict()))
    if is_first_process():
        among = torch.distributed.is_initialized() and torch.distributed.get_world_size()
        torch.save((int(among), found), out)


if __name__ == "__main__":
    if sys.argv[2:]:
        notebook_launcher(train, sys.argv[1:2], num_processes=2)
    else:
        train(sys.argv[1])
"""
COMPARE = """
import sys

from accelerate import notebook_launcher

from xbl_kit.run import compare

PLAN = {"size": 32, "train": {"epochs": 2}, "per_class": {"train": 8, "val": 4, "test": 4}}


def work(out):
    compare(["rrr-g"], seeds=(0, 1), out=out, plan=PLAN, device="cpu")


if __name__ == "__main__":
    if sys.argv[2:]:
        notebook_launcher(work, sys.argv[1:2], num_processes=2)
    else:
        work(sys.argv[1])
"""
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """`run(code, out, launch=, notebook=)`: a script of its own, to its end."""
    folder = tmp_path_factory.mktemp("together")

    def by(code, name, launch=(), notebook=()):
        script, out = folder / f"{name}.py", folder / name
        script.write_text(code)
        command = [sys.executable, *launch, script, out, *notebook]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        return out

    return by


@pytest.fixture(scope="module")
def alone(run):
    return torch.load(run(SCRIPT, "alone"))


WAYS = {"torchrun": {"launch": TORCHRUN}, "notebook": {"notebook": ["notebook"]}}


@pytest.mark.parametrize("how", WAYS)
def test_two_processes_train_as_one_does(run, alone, how):
    (processes, together), (_, alone) = torch.load(run(SCRIPT, how, **WAYS[how])), alone
    assert processes == 2 and len(together) == len(alone) == 7
    for number, pair in enumerate(zip(together, alone, strict=True)):
        (losses, weights), (alone_losses, alone_weights) = pair
        assert losses == pytest.approx(alone_losses, rel=0, abs=1e-6), number
        torch.testing.assert_close(weights, alone_weights, rtol=0, atol=1e-6)


@pytest.mark.parametrize("how", WAYS)
def test_two_processes_make_one_comparison(run, how):
    out = run(COMPARE, f"compare-{how}", **WAYS[how])
    results = json.loads((out / "results.json").read_text())
    assert {row["n"] for row in results["table"]} == {2}
    assert "done" in json.loads((out / "run.json").read_text())
