"""The MIMM-X experiment on small data: what its results hold, how it resumes, what it refuses."""

import json

import numpy as np
import pytest
import torch

from xbl_kit.data import confound
from xbl_kit.models import build_multihead
from xbl_kit.run import mimm, reproduce

FACTORS = ("age", "sex", "site")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    train = mimm.PLAN["train"] | {"epochs": 2, "batch_size": 32}
    monkeypatch.setattr(mimm, "PLAN", mimm.PLAN | {"size": 32, "train": train})
    monkeypatch.setattr(mimm, "PHANTOM_PER_CLASS", {"train": 40, "val": 8, "test": 16})
    monkeypatch.setattr(mimm, "PERMUTATIONS", {"linear": 3, "mlp": 1})


def test_results_hold_what_the_contract_says_and_are_resumed(tmp_path):
    results = reproduce("mimm-x", seed=2, out=tmp_path, device="cpu", conditional=False)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert results["experiment"] == "mimm-x" and results["options"] == {"conditional": False}
    assert tuple(results["models"]) == mimm.MODELS
    for name, model in results["models"].items():
        assert tuple(model["splits"]) == mimm.TESTS
        assert model["splits"]["balanced"]["n"] == 64
        assert len(model["splits"]["balanced"]["groups"]) == 32
        assert model["probe"].keys() == model["information"].keys() == set(FACTORS)
        assert model["probe"]["sex"].keys() == {"accuracy", "null_95"}
        heads = model["splits"]["iid"].get("spurious_accuracy", {})
        assert heads.keys() == (set(FACTORS) if name in ("multitask", "mimm-x") else set())
    (tmp_path / "model-oracle.safetensors").unlink()
    again = reproduce("mimm-x", seed=2, out=tmp_path, device="cpu", conditional=False, resume=True)
    for result in (results, again):
        result["models"]["oracle"].pop("train")
    assert again == results
    with pytest.raises(ValueError, match="options"):
        reproduce("mimm-x", seed=2, out=tmp_path, device="cpu", resume=True)


def test_the_rows_have_the_bias_and_no_patient_twice():
    data, rows = mimm.prepare_phantoms(FACTORS, 0.9, seed=1)
    train = rows["train"]
    for factor, preferred in mimm.PHANTOM_PREFERRED.items():
        for split, share in (("train", 0.9), ("balanced", 0.5), ("inverted", 0.1)):
            own = torch.tensor(preferred)[data.label[rows[split]]]
            agree = (data.confounders[factor][rows[split]] == own).float().mean().item()
            assert agree == pytest.approx(share, abs=0.04)
    for test in mimm.TESTS:
        assert not np.intersect1d(data.patient[train], data.patient[rows[test]]).size
    wanted = confound.cell_counts(
        40, {f: confound.biased(p, strength=0.9) for f, p in mimm.PHANTOM_PREFERRED.items()}
    )
    cell = tuple([data.label[train]] + [data.confounders[f][train] for f in FACTORS])
    counts = np.zeros_like(wanted)
    np.add.at(counts, tuple(each.numpy() for each in cell), 1)
    assert (counts == wanted).all()


def test_parts_are_read_whole_and_the_mode_is_kept(small_cohort):
    model = build_multihead("small_cnn", 4, {"age": 2}).train()
    parts, logits = mimm.read_parts(model, small_cohort, torch.arange(7), batch_size=3)
    assert model.training and [tuple(each.shape) for each in parts] == [(7, 4)] * 2
    one, _ = mimm.read_parts(model, small_cohort, torch.arange(5, 6))
    torch.testing.assert_close(parts[0][5:6], one[0])
    assert [tuple(each.shape) for each in logits] == [(7, 4), (7, 2)]


def test_what_is_of_no_use_is_said():
    with pytest.raises(ValueError, match="'table'"):
        reproduce("mimm-x", data="table")
    with pytest.raises(ValueError, match="'dfr'"):
        reproduce("mimm-x", models=["erm", "dfr"])
    with pytest.raises(ValueError, match="hair"):
        reproduce("mimm-x", confounders=["hair"])
