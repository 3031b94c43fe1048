"""The MIMM-X experiment: several spurious factors at once, with its baselines and an oracle."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from xbl_kit.checkpoint import load_model, write_json
from xbl_kit.data import Dataset, open_dataset
from xbl_kit.methods import Bias, Erm, MimmX
from xbl_kit.models import MultiHead, build_multihead, cache_stem
from xbl_kit.run.confounded import find_confounded, make_confounded
from xbl_kit.run.content import content, spurious_accuracy
from xbl_kit.run.evaluate import evaluate
from xbl_kit.run.folder import Rows, Run, finished_run, open_folder, train_stage
from xbl_kit.run.report import draw_mimm, versions
from xbl_kit.storage import cache_folder

MODELS = ("erm", "reweighted", "multitask", "mimm-x", "oracle")
TESTS = ("iid", "balanced", "inverted")
# The method, whatever the data. `delay` and `ramp` are shares of all steps: before MI and prior
# count, and until they count in full.
METHOD = {"estimator": "dcor", "weight": 0.3, "spurious": 0.1, "correction": "both"}
CLOCK = {"delay": 0.6, "ramp": 0.2}
# What a kind of data is trained with. Data that are drawn to measure have `preferred`, the level of
# each factor that each class prefers, and `per_class`. Of the phantoms' factors each alone splits
# the classes two to two, any two name the class, and no factor tells of another.
PLANS = {
    "phantom": {
        "drawing": {"severity": 1.2, "proportions": 2.0},
        "size": 64,
        "backbone": "small_cnn",
        "weights": "none",
        "train": {"epochs": 12, "batch_size": 64, "lr": 3e-3, "warmup": 0.5},
        "preferred": {"age": [0, 0, 1, 1], "sex": [0, 1, 0, 1], "site": [0, 1, 1, 0]},
        "per_class": {"train": 3000, "val": 40, "test": 400},
    },
    "morphomnist": {
        "size": 28,
        "backbone": "digit_cnn",
        "weights": "none",
        "train": {"epochs": 8, "batch_size": 128, "lr": 3e-3, "warmup": 0.3},
        "preferred": {"stroke": [0, 1], "rotation": [0, 1]},
        "per_class": {"train": 12000, "val": 200, "test": 1500},
    },
    "table": {
        "size": 128,
        "backbone": "mobilenet_v2",
        "weights": "imagenet",
        "train": {"epochs": 30, "batch_size": 32, "lr": 3e-4, "warmup": 0.1},
    },
}
FEATURES = 4  # of each task


def reproduce_mimm(
    *,
    data: str = "phantom",
    root: str | Path | None = None,
    target: str = "label",
    labels: Sequence[str] = (),
    confounders: Sequence[str] = (),
    strength: float | None = 0.9,
    models: Sequence[str] = MODELS,
    weights: str | Path | None = None,
    plan: Mapping | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    **options,
) -> dict:
    """Train MIMM-X and its baselines on one biased sample, verify; returns results.json's content.

    All see the same images, but for the oracle, which trains on as many unbiased ones or, in a
    table, as many as it has. `erm` has no correction, `reweighted` importance weights, `multitask`
    the heads without MI. `strength` is P(a class's preferred level | class) of each of the
    `confounders`; None takes a table's own. `target` is a table's column to predict, `labels` the
    values of it to tell apart. `plan` replaces entries of the data's `PLANS`, `options` (to
    `MimmX`) those of `METHOD`.

    Raises ValueError for settings or data that are of no use.
    """
    if unknown := set(models) - set(MODELS):
        raise ValueError(f"models {sorted(unknown)}: expected some of {', '.join(MODELS)}")
    if data not in PLANS:
        raise ValueError(f"data {data!r}: expected one of {', '.join(PLANS)}")
    settings = {
        "experiment": "mimm-x",
        "data": data,
        "root": root and str(root),
        "target": target,
        "labels": list(labels),
        "confounders": list(confounders or PLANS[data].get("preferred", ())),
        "strength": strength,
        "models": list(models),
        "plan": PLANS[data] | dict(plan or {}) | ({"weights": str(weights)} if weights else {}),
        "seed": seed,
        "options": METHOD | options,
    }
    if resume and (finished := finished_run(out, settings)):
        return finished
    dataset, rows = _open(settings)
    factors = settings["confounders"]
    out = open_folder(out, settings, resume)
    found, trained = {}, {}
    for name in models:
        method = _method(name, dataset, rows["train"], settings)
        prefix = "oracle_" if name == "oracle" else ""
        own = {"train": rows[f"{prefix}train"], "val": rows[f"{prefix}val"]}
        how = settings["plan"]["train"] | {"keep": "last", "seed": seed, "device": device}
        training = train_stage(name, method, dataset, own, out=out, **how)
        trained[name] = method.model
        found[name] = {
            "train": {"images": len(own["train"])} | training,
            "splits": {
                test: evaluate(method.model, dataset, rows[test], factors)
                | spurious_accuracy(method.model, dataset, rows, test, factors)
                for test in TESTS
            },
        } | content(method.model, dataset, rows["balanced"], factors)
    results = {
        "schema": 1,
        **settings,
        "versions": versions(),
        "device": str(method.model.mean.device.type),
        "models": found,
    }
    if out:
        draw_mimm(results, trained, dataset, rows["balanced"], out)
        write_json(out / "results.json", results)
    return results


def open_mimm(out: Path, results: dict, settings: dict) -> Run:
    """What a finished run of this experiment left in `out`; see `run.open_run`."""
    data, rows = _open(settings)
    models = {name: _network(name, data, settings) for name in settings["models"]}
    for name, model in models.items():
        load_model(model, out / f"model-{name}.safetensors")
    return Run(results, data, rows, models)


def _open(settings: dict) -> tuple[Dataset, Rows]:
    """The data with a frozen prefix cached, and the rows of every split."""
    kind, factors, strength = (settings[key] for key in ("data", "confounders", "strength"))
    plan, root, seed = (settings[key] for key in ("plan", "root", "seed"))
    if not factors:
        raise ValueError(f"data {kind!r}: which columns are the confounders?")
    if known := plan.get("preferred"):
        if unknown := set(factors) - set(known):
            raise ValueError(f"confounders {sorted(unknown)}: expected some of {', '.join(known)}")
        if strength is None or settings["labels"] or settings["target"] != "label":
            raise ValueError(f"data {kind!r} are drawn: a strength, and no labels, are needed")
        data, rows = make_confounded(
            kind,
            root,
            preferred={factor: known[factor] for factor in factors},
            per_class=plan["per_class"],
            strength=strength,
            size=plan["size"],
            seed=seed,
            **plan.get("drawing", {}),
        )
    else:
        options = {"target": settings["target"], "labels": settings["labels"]}
        data = open_dataset(kind, root, size=plan["size"], confounders=factors, **options)
        rows = find_confounded(data, factors, strength=strength, seed=seed)
    stem = cache_stem(_network("erm", data, settings), data.images, cache_folder() / "stems")
    return dataclasses.replace(data, stem=stem), rows


def _network(name: str, data: Dataset, settings: Mapping) -> MultiHead:
    """All models have the same network, and the same start for the same heads."""
    several, plan = name in ("multitask", "mimm-x"), settings["plan"]
    return build_multihead(
        plan["backbone"],
        len(data.classes),
        {f: len(data.levels[f]) for f in settings["confounders"]} if several else {},
        size=FEATURES,
        weights=None if plan["weights"] == "none" else plan["weights"],
        seed=settings["seed"],
    )


def _method(name: str, data: Dataset, rows: Tensor, settings: Mapping) -> Erm | MimmX:
    model = _network(name, data, settings)
    if name == "multitask":
        return MimmX(model, weight=0.0)
    bias = Bias.measured(data, rows, settings["confounders"])
    if name == "mimm-x":
        how = settings["plan"]["train"]
        steps = how["epochs"] * max(1, len(rows) // how["batch_size"])
        clock = {key: max(1, round(share * steps)) for key, share in CLOCK.items()}
        options = clock | settings["options"]
        return MimmX(model, bias=bias, seed=settings["seed"], **options)
    return Erm(model, bias=bias, correction="weights" if name == "reweighted" else "none")
