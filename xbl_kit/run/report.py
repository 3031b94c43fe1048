"""Results as a person reads them: a table and a few figures."""

import platform
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch
import torchvision
from torch import Tensor

from xbl_kit import __version__, plots
from xbl_kit.data import Dataset
from xbl_kit.explain import upsample
from xbl_kit.metrics import tsne
from xbl_kit.models import Classifier, MultiHead
from xbl_kit.run.content import read_parts
from xbl_kit.train import predict

COLUMNS = {
    "accuracy": "accuracy",
    "worst_group": "worst group",
    "worst_group_n": "n",
    "activation_precision": "AP",
    "activation_precision_chance": "AP chance",
}
CONTENTS = {
    "probe": ("probe", "accuracy"),
    "null 95 %": ("probe", "null_95"),
    "MLP probe": ("probe_mlp", "accuracy"),
    "MLP null": ("probe_mlp", "null_95"),
    "purity": ("purity", "purity"),
    "chance": ("purity", "chance"),
    "nats": ("information", None),
}
TITLES = {
    "accuracy": "accuracy",
    "worst_group": "accuracy of the worst group",
    "activation_precision": "Activation Precision",
}
NAMES = {
    "unrefined": "Unrefined",
    "control": "Control",
    "exbl": "eXBL",
    "erm": "ERM",
    "reweighted": "Reweighted ERM",
    "multitask": "Multitask",
    "mimm-x": "MIMM-X",
    "oracle": "Oracle",
}
SHOWN = 4
Save = Callable[[str, Callable[[Path], object]], None]  # a name, and what fills the file


def versions() -> dict[str, str]:
    """What the results were made with."""
    return {
        "xbl_kit": __version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "python": platform.python_version(),
    }


def summary(results: dict) -> pd.DataFrame:
    """`results.json` as a table: a row for each split and model, a column for each figure."""
    rows = [
        {"split": split, "model": model}
        | {title: content["splits"][split].get(key) for key, title in COLUMNS.items()}
        for split in next(iter(results["models"].values()))["splits"]
        for model, content in results["models"].items()
    ]
    return pd.DataFrame(rows).set_index(["split", "model"]).dropna(axis="columns", how="all")


def contents(results: dict) -> pd.DataFrame:
    """What f_y holds of each factor (mimm-x): probes beside their null, purity, held-out nats."""
    rows = [
        {"model": model, "factor": factor}
        | {
            title: content[measure][factor] if key is None else content[measure][factor][key]
            for title, (measure, key) in CONTENTS.items()
            if measure in content
        }
        for model, content in results["models"].items()
        for factor in results["confounders"]
    ]
    return pd.DataFrame(rows).set_index(["model", "factor"])


def draw_exbl(
    results: dict, models: dict[str, Classifier], data: Dataset, rows: dict, save: Save
) -> None:
    """Write the figures of a run: accuracy and Activation Precision by split, a grid of maps."""
    _draw_bars(results, ("accuracy", "worst_group", "activation_precision"), save)
    bad = results["exemplars"]["bad"]
    suspect = (bad[0] if isinstance(bad, list) else bad)["label"]
    of_suspect = [row for row in rows["iid"] if data.classes[data.label[row]] == suspect]
    some = of_suspect or list(rows["iid"])
    save("maps.png", _png(maps_of(models, data, torch.stack(some[:SHOWN]))))


def draw_mimm(
    results: dict, models: dict[str, MultiHead], data: Dataset, rows: Tensor, save: Save
) -> None:
    """Write the figures of a run: accuracy by split, and t-SNE of every model's f_y on `rows`."""
    _draw_bars(results, ("accuracy", "worst_group"), save)
    columns = {"label": (data.classes, data.label[rows])} | {
        factor: (data.levels[factor], data.confounders[factor][rows])
        for factor in results["confounders"]
    }
    for name, model in models.items():
        points = tsne(read_parts(model, data, rows)[0][0])
        save(f"tsne-{name}.png", _png(plots.scatter(points, columns, title=NAMES[name])))


def _draw_bars(results: dict, keys: Sequence[str], save: Save) -> None:
    for key in keys:
        values = by_split(results, key)
        if any(value is not None for splits in values.values() for value in splits.values()):
            save(f"{key}.png", _png(plots.split_bars(values, ylabel=TITLES[key])))


def by_split(results: dict, key: str) -> dict[str, dict[str, float | None]]:
    """One figure of `results.json` as {model: {split: value}}, for `plots.split_bars`."""
    return {
        NAMES[model]: {split: found.get(key) for split, found in content["splits"].items()}
        for model, content in results["models"].items()
    }


def maps_of(models: dict[str, Classifier], data: Dataset, rows: torch.Tensor):
    """The maps of a few images by every model, side by side, with what each model says."""
    predictions = {name: predict(model, data, rows) for name, model in models.items()}
    size = tuple(data.images.shape[1:])
    batch = data[rows]
    return plots.map_grid(
        batch.image,
        {NAMES[name]: upsample(prediction.cam, size) for name, prediction in predictions.items()},
        batch.masks.get("lungs"),
        titles=[data.classes[i] for i in batch.label.tolist()],
        notes={
            NAMES[name]: [data.classes[i] for i in prediction.label.tolist()]
            for name, prediction in predictions.items()
        },
    )


def _png(figure) -> Callable[[Path], object]:
    return lambda path: figure.savefig(path, format="png", dpi=110)
