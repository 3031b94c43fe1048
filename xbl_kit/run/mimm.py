"""The MIMM-X experiment: several spurious factors at once, with its baselines and an oracle."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from xbl_kit import metrics
from xbl_kit.checkpoint import write_json
from xbl_kit.data import Dataset, confound, open_dataset
from xbl_kit.losses import held_out_information
from xbl_kit.methods import Bias, Erm, MimmX
from xbl_kit.models import MultiHead, build_multihead
from xbl_kit.run.evaluate import evaluate
from xbl_kit.run.folder import open_folder, train_stage
from xbl_kit.run.report import versions

Rows = dict[str, Int[Tensor, " n"]]

# The class's preferred level of each factor. Each factor alone splits the classes two to two, any
# two of them name the class, and no factor tells of another.
PHANTOM_PREFERRED = {"age": (0, 0, 1, 1), "sex": (0, 1, 0, 1), "site": (0, 1, 1, 0)}
# Children's bodies differ much, so that age can be taken for the disease.
PHANTOM_DRAWING = {"severity": 1.2, "proportions": 2.0}
PHANTOM_PER_CLASS = {"train": 3000, "val": 40, "test": 400}
PLAN = {
    "size": 64,
    "backbone": "small_cnn",
    "features": 4,
    "train": {"epochs": 9, "batch_size": 64, "lr": 3e-3, "warmup": 0.5, "keep": "last"},
    "mimm-x": {"estimator": "dcor", "weight": 0.3, "spurious": 0.1, "correction": "both"},
    "delay": 0.6,  # share of all steps before MI and prior count, and until in full
    "ramp": 0.2,
}
MODELS = ("erm", "reweighted", "multitask", "mimm-x", "oracle")
TESTS = ("iid", "balanced", "inverted")
PERMUTATIONS = {"linear": 100, "mlp": 10}


def reproduce_mimm(
    *,
    data: str = "phantom",
    strength: float = 0.9,
    confounders: Sequence[str] = tuple(PHANTOM_PREFERRED),
    models: Sequence[str] = MODELS,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    **options,
) -> dict:
    """Train MIMM-X and its baselines on one biased sample, verify; returns results.json's content.

    All see the same images, but for the oracle, which trains on as many unbiased ones. `erm` has
    no correction, `reweighted` importance weights, `multitask` the heads without MI. `strength` is
    P(a class's preferred level | class) of each of the `confounders`. `options` go to `MimmX`.

    Raises ValueError for settings or data that are of no use.
    """
    unknown = set(models) - set(MODELS)
    if data != "phantom" or unknown:
        raise ValueError(
            f"data {data!r}, models {sorted(unknown) or list(models)}: expected 'phantom' and "
            f"some of {', '.join(MODELS)}"
        )
    settings = {
        "experiment": "mimm-x",
        "data": data,
        "strength": strength,
        "confounders": list(confounders),
        "seed": seed,
        "options": options,
    }
    dataset, rows = prepare_phantoms(confounders, strength, seed=seed)
    out = open_folder(out, settings, resume)
    found = {}
    for name in models:
        method = _method(name, dataset, rows["train"], confounders, seed, options)
        prefix = "oracle_" if name == "oracle" else ""
        own = {"train": rows[f"{prefix}train"], "val": rows[f"{prefix}val"]}
        trained = train_stage(
            name, method, dataset, own, out=out, seed=seed, device=device, **PLAN["train"]
        )
        found[name] = {"train": trained} | _verify(method.model, dataset, rows, confounders)
    results = {
        "schema": 1,
        **settings,
        "versions": versions(),
        "device": str(method.model.mean.device.type),
        "models": found,
    }
    if out:
        write_json(out / "results.json", results)
    return results


def prepare_phantoms(
    factors: Sequence[str], strength: float, *, seed: int = 0
) -> tuple[Dataset, Rows]:
    """Phantoms with every factor biased at `strength`, and the rows of each split by name.

    No more is drawn than is used. "inverted" has each class's preferred levels turned round.
    """
    unknown = set(factors) - set(PHANTOM_PREFERRED)
    if unknown or not factors:
        raise ValueError(
            f"confounders {list(factors)}: expected some of {', '.join(PHANTOM_PREFERRED)}"
        )
    bias = {f: confound.biased(PHANTOM_PREFERRED[f], strength=strength) for f in factors}
    even = {f: confound.balanced(len(table)) for f, table in bias.items()}
    wanted = {
        "train": ("train", bias),
        "val": ("val", bias),
        "oracle_train": ("train", even),
        "oracle_val": ("val", even),
        "iid": ("test", bias),
        "balanced": ("test", even),
        "inverted": ("test", {f: confound.inverted(table) for f, table in bias.items()}),
    }
    per_cell: dict[str, np.ndarray] = {}
    for split, tables in wanted.values():
        counts = confound.cell_counts(PHANTOM_PER_CLASS[split], tables)
        per_cell[split] = np.maximum(per_cell.get(split, 0), counts)
    data = open_dataset(
        "phantom",
        per_cell=per_cell,
        crossed=tuple(factors),
        size=PLAN["size"],
        seed=seed,
        **PHANTOM_DRAWING,
    )
    pool = confound.split_patients(data, dict.fromkeys(per_cell, 1 / 3))
    rows = {
        name: confound.sample_rows(data, pool[split], PHANTOM_PER_CLASS[split], tables, seed=seed)
        for name, (split, tables) in wanted.items()
    }
    return data, rows


def _method(
    name: str, data: Dataset, rows: Tensor, factors: Sequence[str], seed: int, options: Mapping
) -> Erm | MimmX:
    """The method of a model: all have the same network, and the same start for the same heads."""
    several = name in ("multitask", "mimm-x")
    levels = {factor: len(data.levels[factor]) for factor in factors}
    model = build_multihead(
        PLAN["backbone"],
        len(data.classes),
        levels if several else {},
        size=PLAN["features"],
        seed=seed,
    )
    bias = Bias.measured(data, rows, factors)
    if name == "multitask":
        return MimmX(model, weight=0.0)
    if name == "mimm-x":
        steps = PLAN["train"]["epochs"] * (len(rows) // PLAN["train"]["batch_size"])
        clock = {key: max(1, round(PLAN[key] * steps)) for key in ("delay", "ramp")}
        return MimmX(model, bias=bias, seed=seed, **(PLAN["mimm-x"] | clock | options))
    return Erm(model, bias=bias, correction="weights" if name == "reweighted" else "none")


def _verify(model: MultiHead, data: Dataset, rows: Rows, factors: Sequence[str]) -> dict:
    splits = {test: evaluate(model, data, rows[test], factors) for test in TESTS}
    for test in TESTS if model.factors else ():
        _, logits = read_parts(model, data, rows[test])
        splits[test]["spurious_accuracy"] = {
            factor: round(
                metrics.accuracy(z.argmax(dim=1), data.confounders[factor][rows[test]]), 4
            )
            for factor, z in zip(model.factors, logits[1:], strict=True)
        }
    return {"splits": splits} | content(model, data, rows["balanced"], factors)


def content(model: MultiHead, data: Dataset, rows: Tensor, factors: Sequence[str]) -> dict:
    """What f_y holds of each factor in `rows`, where none tells of the class.

    Linear and MLP probes, the purity of its neighbourhoods, and I(f_y; z) in nats by a critic
    fitted on one half of the patients and read on the other.
    """
    part = read_parts(model, data, rows)[0][0]
    found: dict[str, dict] = {"probe": {}, "probe_mlp": {}, "purity": {}, "information": {}}
    half = data.patient[rows] % 2 == 0
    for factor in factors:
        level = data.confounders[factor][rows]
        one_hot = F.one_hot(level, len(data.levels[factor])).float()
        for key, kind in (("probe", "linear"), ("probe_mlp", "mlp")):
            options = {"patient": data.patient[rows], "permutations": PERMUTATIONS[kind]}
            found[key][factor] = _rounded(metrics.probe(part, level, kind=kind, **options))
        found["purity"][factor] = _rounded(metrics.neighbour_purity(part, level))
        sides = [(part[side], one_hot[side]) for side in (half, ~half)]
        nats = held_out_information(*sides, steps=300, batch_size=256, hidden=64)
        found["information"][factor] = round(nats.item(), 4)
    return found


@torch.no_grad()
def read_parts(
    model: MultiHead, data: Dataset, rows: Int[Tensor, " n"], *, batch_size: int = 256
) -> tuple[list[Float[Tensor, "n d"]], list[Float[Tensor, "n _"]]]:
    """Every task's part and logits for `rows`, on the CPU, in eval mode; the mode is kept."""
    was_training, device = model.training, model.mean.device
    model.eval()
    batches = [data[some].to(device) for some in rows.split(batch_size)]
    read = [model.tasks(model.encode(batch.image, batch.stem)) for batch in batches]
    model.train(was_training)
    parts, logits = zip(*read, strict=True)
    return tuple(
        [torch.cat(each).cpu() for each in zip(*side, strict=True)] for side in (parts, logits)
    )


def _rounded(found: Mapping[str, float]) -> dict[str, float]:
    return {key: round(value, 4) for key, value in found.items()}
