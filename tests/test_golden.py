"""Both experiments on tiny data give what they gave before there was one engine.

golden.json was written by the two engines of their own that stood here before, on one thread; what
was mimm-x then is balanced-dcor, and mimm-x is from when it became a reconstruction. On another
processor or torch the last bits differ and a few images flip; XBL_KIT_GOLDEN=exact asks for every
digit.
"""

import json
import os
from pathlib import Path

import pytest
import torch

from xbl_kit.run import reproduce

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text(encoding="utf-8"))
EXACT = os.environ.get("XBL_KIT_GOLDEN") == "exact"
SLACK = 0 if EXACT else 0.15
SLACK_OF_MAPS = 0 if EXACT else 0.25  # of some thirty images of 32 px: .15 between two processors
PLANS = {
    "exbl": {
        "size": 32,
        "train": {"epochs": 8, "lr": 3e-3, "warmup": 0.3},
        "refine": {"epochs": 4, "lr": 3e-3},
        "oracle": {"epochs": 12, "lr": 3e-3, "warmup": 0.3},
        "per_class": {"train": 40, "val": 8, "test": 8},
    },
    "mimm-x": {
        "size": 32,
        "train": {"epochs": 6, "batch_size": 32, "lr": 3e-3, "warmup": 0.5, "keep": "last"},
        "per_class": {"train": 80, "val": 8, "test": 16},
        "content": {
            "probe": {"permutations": 3},
            "probe_mlp": {"permutations": 1},
            "purity": {},
            "information": {"steps": 5},
        },
    },
}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("experiment", PLANS)
def test_an_experiment_gives_what_it_gave(experiment, seed):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        results = reproduce(experiment, plan=PLANS[experiment], seed=seed, device="cpu")
    finally:
        torch.set_num_threads(threads)
    wanted = GOLDEN[f"{experiment}-{seed}"]
    assert list(results["models"]) == list(wanted)
    for name, model in wanted.items():
        differences = list(_differences(results["models"][name], model, name))
        assert not differences, differences


def _differences(found, wanted, where):
    """Every figure that is not as it was; counts of images and epochs must be the same."""
    if isinstance(wanted, dict):
        for key, value in wanted.items():
            yield from _differences(found[key], value, f"{where} {key}")
        return
    if SLACK and ("predicted" in where or "kept" in where):
        return  # what flips with the last bits
    slack = SLACK_OF_MAPS if where.endswith("activation_precision") else SLACK
    if found != wanted and (isinstance(wanted, int) or abs(found - wanted) > slack):
        yield f"{where}: {found}, was {wanted}"
