"""The eXBL experiment: Unrefined, control, eXBL and, on phantoms, an oracle."""

import copy
import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from xbl_kit.checkpoint import load_model, write_json
from xbl_kit.data import Dataset, confound, open_dataset
from xbl_kit.exemplar import Exemplar, picked_by_person
from xbl_kit.methods import Erm, ExBL
from xbl_kit.models import Classifier, build_classifier, cache_stem
from xbl_kit.pick import Box, pick_automatically, region_pixels
from xbl_kit.run.evaluate import evaluate
from xbl_kit.run.folder import PICKS, Rows, Run, finished_run, open_folder, train_stage
from xbl_kit.run.report import draw_exbl, versions
from xbl_kit.storage import cache_folder
from xbl_kit.train import first_process_first, predict

PRESETS = {
    "classroom": {
        "size": 128,
        "backbone": "small_cnn",
        "hidden": 0,
        "weights": "none",
        "unrefined": {"epochs": 18, "lr": 3e-3, "warmup": 0.3},
        "refine": {"epochs": 14, "lr": 3e-3},
        "loss": {"weight": 1.0, "margin": 3.0, "score": "centred"},
    },
    "paper": {
        "size": 224,
        "backbone": "mobilenet_v2",
        "hidden": 256,
        "weights": "imagenet",
        "unrefined": {"epochs": 60, "lr": 1e-4, "patience": 5},
        "refine": {"epochs": 100, "lr": 1e-4, "patience": 5},
        "loss": {"weight": 1.0, "score": "log-odds"},
    },
}
FRACTIONS = {"train": 0.6, "val": 0.2, "test": 0.2}
# In the phantoms, as in the COVID-19 Radiography Database, every Viral Pneumonia is a child.
PHANTOM_BIAS = {"age": confound.biased((0, 0, 0, 1))}
PHANTOM_PER_CLASS = {"train": 400, "val": 100, "test": 100}
TESTS = ("iid", "balanced", "inverted", "counter")
MODELS = ("unrefined", "control", "exbl", "oracle")
OF_A_RUN = (
    *("results.json", PICKS, "maps.png"),
    *(f"{figure}.png" for figure in ("accuracy", "worst_group", "activation_precision")),
    *(f"model-{name}.safetensors" for name in MODELS),
    *(f"train-{name}.{kind}" for name in MODELS for kind in ("json", "pt")),
)


def reproduce_exbl(
    *,
    data: str = "phantom",
    root: str | Path | None = None,
    preset: str = "classroom",
    weights: str | Path | None = None,
    exemplars: str | Path = "auto",
    region: str | Box = "lungs",
    confounders: Sequence[str] = (),
    reading: Mapping | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
) -> dict:
    """Train Unrefined, pick exemplars, refine with eXBL, verify; returns what results.json holds.

    The control is Unrefined trained as many epochs more as eXBL, without the explanation loss; the
    oracle, on phantoms alone, is trained as long as both on as many unbiased images. `weights`
    (imagenet, none or a file) defaults to the preset's, `region` is where a good map lies for the
    automatic choice, `confounders` are the columns that make groups, `reading` are options of
    `open_dataset`. `out` gets results, weights, exemplar and figures; with `resume` nothing that
    stands there is computed again.

    Raises ValueError for settings or data that are of no use.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset {preset!r}: expected one of {', '.join(PRESETS)}")
    plan = PRESETS[preset]
    weights = str(weights or plan["weights"])
    settings = {
        "experiment": "exbl",
        "data": data,
        "root": root and str(root),
        "preset": preset,
        "weights": weights,
        "exemplars": str(exemplars),
        "region": region if isinstance(region, str) else list(region),
        "confounders": list(confounders),
        "reading": dict(reading or {}),
        "seed": seed,
    }
    if resume and (finished := finished_run(out, settings)):
        return finished
    picked = None if exemplars == "auto" else Exemplar.load(exemplars)
    with first_process_first(device):
        dataset, rows, model = _open(settings)
        if not picked:
            region_pixels(dataset[0], region)  # one of no use is said before hours of training
        folder = open_folder(out, settings, OF_A_RUN, resume)
        person = folder and picked_by_person(folder / PICKS)
        if person and picked and picked.summary() != person.summary():
            folder.set_aside(PICKS)
        elif person and not picked:
            warnings.warn(f"{folder / PICKS}: picked by a person; kept, and used", stacklevel=2)
            picked = person
            folder.remove(["train-exbl.json", "train-control.json"])  # trained with another pick
    models, trained, exemplar = _train(
        model, dataset, rows, plan, picked, region, out=folder, seed=seed, device=device
    )
    factors = tuple(PHANTOM_BIAS) if data == "phantom" else tuple(confounders)
    tests = {name: rows[name] for name in TESTS if name in rows}
    results = {
        "schema": 1,
        **{key: settings[key] for key in ("experiment", "data", "preset", "seed")},
        "versions": versions(),
        "device": str(model.mean.device.type),
        "exemplars": exemplar.summary(),
        "models": {
            name: {
                "train": trained[name],
                "splits": {t: evaluate(models[name], dataset, tests[t], factors) for t in tests},
            }
            for name in models
        },
    }
    if folder:
        draw_exbl(results, models, dataset, rows, folder.write)
        write_json(folder.own("results.json"), results)
    return results


def open_exbl(out: Path, results: dict, settings: dict) -> Run:
    """What a finished run of this experiment left in `out`; see `run.open_run`."""
    data, rows, model = _open(settings)
    models = {name: copy.deepcopy(model) for name in results["models"]}
    for name, one in models.items():
        load_model(one, out / f"model-{name}.safetensors")
    return Run(results, data, rows, models, Exemplar.load(out / "exemplar.npz"))


def _open(settings: dict) -> tuple[Dataset, Rows, Classifier]:
    """The data with its frozen prefix cached, the rows, and the untrained model of a run."""
    plan = PRESETS[settings["preset"]]
    given = {key: settings[key] for key in ("confounders", "seed")} | settings["reading"]
    data, rows = prepare(settings["data"], settings["root"], size=plan["size"], **given)
    model = build_classifier(
        plan["backbone"],
        len(data.classes),
        weights=None if settings["weights"] == "none" else settings["weights"],
        hidden=plan["hidden"],
        seed=settings["seed"],
    )
    stem = cache_stem(model, data.images, cache_folder() / "stems")
    return dataclasses.replace(data, stem=stem), rows, model


def prepare(
    kind: str = "phantom",
    root: str | Path | None = None,
    *,
    size: int = 128,
    confounders: Sequence[str] = (),
    seed: int = 0,
    **reading,
) -> tuple[Dataset, Rows]:
    """The data of the experiment, and its rows by name: train, val, and the splits to test on.

    Phantoms are trained on with every Viral Pneumonia a child and all others adults; "iid" has the
    same bias, "balanced" has none, "inverted" the opposite, "counter" are healthy children, and
    the oracle trains on "oracle_train". Of data on disk the given splits are taken where they have
    them, patients are kept apart, and "counter" are the rows so marked. `reading` are options of
    `open_dataset`.
    """
    if kind == "phantom":
        if reading:
            raise ValueError("data 'phantom' are drawn by a plan: expected no options of reading")
        data = open_dataset("phantom", size=size, seed=seed)
        pool = confound.split_patients(data, FRACTIONS)
        even = {"age": confound.balanced(len(data.classes))}
        wanted = {
            "train": ("train", PHANTOM_BIAS),
            "val": ("val", PHANTOM_BIAS),
            "oracle_train": ("train", even),
            "oracle_val": ("val", even),
            "iid": ("test", PHANTOM_BIAS),
            "balanced": ("test", even),
            "inverted": ("test", {"age": confound.inverted(PHANTOM_BIAS["age"])}),
        }
        rows = {
            name: confound.sample_rows(
                data, pool[split], PHANTOM_PER_CLASS[split], table, seed=seed
            )
            for name, (split, table) in wanted.items()
        }
        return data, rows | {"counter": _healthy_children(data, pool["test"])}
    data = open_dataset(kind, root, size=size, confounders=confounders or None, **reading)
    rows = confound.split_patients(data, FRACTIONS, seed=seed)
    rows["iid"] = rows.pop("test")
    if data.counter is not None and data.counter.any():
        rows["counter"] = data.counter.nonzero()[:, 0]
    return data, rows


def _healthy_children(data: Dataset, pool: Tensor) -> Tensor:
    normal = data.label[pool] == data.classes.index("Normal")
    return pool[normal & (data.confounders["age"][pool] == data.levels["age"].index("child"))]


def _train(
    model: Classifier,
    data: Dataset,
    rows: Rows,
    plan: dict,
    picked: Exemplar | None,
    region: str | Box,
    **options,
) -> tuple[dict[str, Classifier], dict[str, dict], Exemplar]:
    """Every model of the experiment, its numbers of training, and the exemplar used."""
    models = {"unrefined": model}
    fresh = copy.deepcopy(model)
    trained = {
        "unrefined": train_stage(
            "unrefined", Erm(model), data, rows, **plan["unrefined"], **options
        )
    }
    exemplar = picked or _pick(model, data, rows["train"], region)
    if (folder := options["out"]) and not picked_by_person(folder / PICKS):
        folder.write(PICKS, exemplar.save)
    models["exbl"] = copy.deepcopy(model)
    method = ExBL(models["exbl"], exemplar, **plan["loss"])
    trained["exbl"] = train_stage("exbl", method, data, rows, **plan["refine"], **options)
    models["control"] = copy.deepcopy(model)
    as_long = plan["refine"] | {
        "epochs": trained["exbl"]["kept"],
        "horizon": plan["refine"]["epochs"],
        "patience": None,
        "keep": "last",
    }
    trained["control"] = train_stage(
        "control", Erm(models["control"]), data, rows, **as_long, **options
    )
    if "oracle_train" in rows:
        models["oracle"] = fresh
        unbiased = {"train": rows["oracle_train"], "val": rows["oracle_val"]}
        as_long = plan["unrefined"] | {
            "epochs": plan["unrefined"]["epochs"] + plan["refine"]["epochs"]
        }
        trained["oracle"] = train_stage("oracle", Erm(fresh), data, unbiased, **as_long, **options)
    order = [name for name in ("unrefined", "control", "exbl", "oracle") if name in models]
    return {name: models[name] for name in order}, trained, exemplar


def _pick(model: Classifier, data: Dataset, rows: Tensor, region: str | Box) -> Exemplar:
    prediction = predict(model, data, rows)
    return pick_automatically(data, rows, prediction.cam, prediction.label, region=region)
