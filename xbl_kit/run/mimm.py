"""The MIMM-X experiment: several spurious factors at once, with its baselines and an oracle."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from xbl_kit.checkpoint import load_model, write_json
from xbl_kit.data import KINDS, Dataset, open_dataset
from xbl_kit.methods import Bias, Erm, MimmX
from xbl_kit.models import MultiHead, build_multihead, cache_stem
from xbl_kit.run.confounded import find_confounded, make_confounded
from xbl_kit.run.content import content, spurious_accuracy
from xbl_kit.run.evaluate import evaluate
from xbl_kit.run.folder import Folder, Rows, Run, finished_run, open_folder, train_stage
from xbl_kit.run.report import draw_mimm, versions
from xbl_kit.storage import cache_folder
from xbl_kit.train import first_process_first

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
    "on disk": {
        "size": 128,
        "backbone": "mobilenet_v2",
        "weights": "imagenet",
        "train": {"epochs": 30, "batch_size": 32, "lr": 3e-4, "warmup": 0.1},
    },
}
# Factors that join the plan only where they are named, so that the others' images stay the same.
# Tubes go with COVID: with intensive care, not with the disease.
FURTHER = {"phantom": {"line": [1, 0, 0, 0]}}
# The confounders of data on disk where none are named: the paper's own, where it has some.
USUAL = {"chexpert": ("sex", "age_group"), "mri": ("sex", "site")}
FEATURES = 4  # of each task


def reproduce_mimm(
    *,
    data: str = "phantom",
    root: str | Path | None = None,
    target: str = "label",
    labels: Sequence[str] = (),
    confounders: Sequence[str] = (),
    strength: float | None = 0.9,
    reading: Mapping | None = None,
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

    All see the same images, but for the oracle, which trains on as many unbiased ones or, of data
    on disk, as many as there are. `erm` has no correction, `reweighted` importance weights,
    `multitask` the heads without MI. `strength` is P(a class's preferred level | class) of each of
    the `confounders`; None takes data on disk as they are. Of these `target` is predicted, with the
    `labels` given, and read with the options `reading` of `open_dataset`. `plan` replaces those of
    the data's `PLANS`, and may name `content.MEASURES` to take instead of all with t-SNE:
    {"content": ["probe"]}; `options` (to `MimmX`) replace those of `METHOD`.

    Raises ValueError for settings or data that are of no use.
    """
    if not models or set(models) - set(MODELS):
        wrong = sorted(set(models) - set(MODELS))
        raise ValueError(f"models {wrong}: expected some of {', '.join(MODELS)}")
    if data not in KINDS:
        raise ValueError(f"data {data!r}: expected one of {', '.join(KINDS)}")
    settings = {
        "experiment": "mimm-x",
        "data": data,
        "root": root and str(root),
        "target": target,
        "labels": list(labels),
        "confounders": list(
            confounders or PLANS.get(data, {}).get("preferred", USUAL.get(data, ()))
        ),
        "strength": strength,
        "reading": dict(reading or {}),
        "models": list(models),
        "plan": _planned(data, confounders, plan, weights),
        "seed": seed,
        "options": METHOD | options,
    }
    if resume and (finished := finished_run(out, settings)):
        return finished
    return _run(settings, out, resume=resume, device=device)


def open_mimm(out: Path, results: dict, settings: dict) -> Run:
    """What a finished run of this experiment left in `out`; see `run.open_run`."""
    data, rows = _open(settings)
    models = {name: _network(name, data, settings) for name in settings["models"]}
    for name, model in models.items():
        load_model(model, out / f"model-{name}.safetensors")
    return Run(results, data, rows, models)


def _run(settings: dict, out: str | Path | None, *, resume: bool, device: str) -> dict:
    """Train and measure every model of `settings`; write results and figures."""
    with first_process_first(device):
        dataset, rows = _open(settings)
        folder = open_folder(out, settings, of_a_run(settings["models"]), resume)
    found, trained = {}, {}
    for name in settings["models"]:
        trained[name], training = _train(name, dataset, rows, settings, out=folder, device=device)
        found[name] = {"train": training} | _measure(trained[name], dataset, rows, settings)
    results = {
        "schema": 1,
        **settings,
        "versions": versions(),
        "device": str(trained[name].mean.device.type),
        "models": found,
    }
    if folder:
        drawn = {} if "content" in settings["plan"] else trained
        draw_mimm(results, drawn, dataset, rows["balanced"], folder.write)
        write_json(folder.own("results.json"), results)
    return results


def of_a_run(models: Sequence[str]) -> list[str]:
    """The files that a run of these models may write."""
    names = ["results.json", "accuracy.png", "worst_group.png"]
    of_each = ("model-{}.safetensors", "train-{}.json", "train-{}.pt", "tsne-{}.png")
    return names + [name.format(model) for model in models for name in of_each]


def _planned(
    data: str, confounders: Sequence[str], plan: Mapping | None, weights: str | Path | None
) -> dict:
    """The data's plan with what was given; the further factors are in it only where named."""
    usual = PLANS[data if data in PLANS else "on disk"]
    planned = usual | dict(plan or {}) | ({"weights": str(weights)} if weights else {})
    named = {f: levels for f, levels in FURTHER.get(data, {}).items() if f in confounders}
    return planned | ({"preferred": planned["preferred"] | named} if named else {})


def _open(settings: dict) -> tuple[Dataset, Rows]:
    """The data with a frozen prefix cached, and the rows of every split."""
    if not settings["confounders"]:
        raise ValueError(f"data {settings['data']!r}: which columns are the confounders?")
    data, rows = (_draw if "preferred" in settings["plan"] else _read)(settings)
    stem = cache_stem(_network("erm", data, settings), data.images, cache_folder() / "stems")
    return dataclasses.replace(data, stem=stem), rows


def _draw(settings: dict) -> tuple[Dataset, Rows]:
    """Data that are made to measure."""
    kind, factors, plan = (settings[key] for key in ("data", "confounders", "plan"))
    known = plan["preferred"] | FURTHER.get(kind, {})
    if unknown := set(factors) - set(known):
        raise ValueError(f"confounders {sorted(unknown)}: expected some of {', '.join(known)}")
    if settings["strength"] is None or settings["labels"] or settings["target"] != "label":
        raise ValueError(f"data {kind!r} are drawn: a strength, and no labels, are needed")
    if settings["reading"]:
        raise ValueError(f"data {kind!r} are drawn by a plan: expected no options of reading")
    return make_confounded(
        kind,
        settings["root"],
        preferred={factor: known[factor] for factor in factors},
        per_class=plan["per_class"],
        strength=settings["strength"],
        size=plan["size"],
        seed=settings["seed"],
        **plan.get("drawing", {}),
    )


def _read(settings: dict) -> tuple[Dataset, Rows]:
    """Data that are as they are, of any kind that has `confounders`."""
    factors, size = settings["confounders"], settings["plan"]["size"]
    options = {"target": settings["target"], "labels": settings["labels"]} | settings["reading"]
    data = open_dataset(
        settings["data"], settings["root"], size=size, confounders=factors, **options
    )
    strength, seed = settings["strength"], settings["seed"]
    return data, find_confounded(data, factors, strength=strength, seed=seed)


def _train(
    name: str, data: Dataset, rows: Rows, settings: dict, *, out: Folder | None, device: str
) -> tuple[MultiHead, dict]:
    """One of `MODELS`, trained on its own rows, and the numbers of its training."""
    prefix = "oracle_" if name == "oracle" else ""
    own = {"train": rows[f"{prefix}train"], "val": rows[f"{prefix}val"]}
    how = settings["plan"]["train"] | {"keep": "last", "seed": settings["seed"], "device": device}
    method = _method(name, data, rows["train"], settings)
    training = train_stage(name, method, data, own, out=out, **how)
    return method.model, {"images": len(own["train"])} | training


def _measure(model: MultiHead, data: Dataset, rows: Rows, settings: dict) -> dict:
    """Every test split, and what the features hold."""
    factors = settings["confounders"]
    splits = {
        test: evaluate(model, data, rows[test], factors)
        | spurious_accuracy(model, data, rows, test, factors)
        for test in TESTS
    }
    measures = settings["plan"].get("content")
    return {"splits": splits} | content(model, data, rows["balanced"], factors, measures=measures)


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
