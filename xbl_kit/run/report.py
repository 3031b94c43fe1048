"""Results as a person reads them: a table and a few figures."""

import platform
from pathlib import Path

import pandas as pd
import torch
import torchvision

from xbl_kit import __version__, plots
from xbl_kit.checkpoint import write_whole
from xbl_kit.data import Dataset
from xbl_kit.explain import upsample
from xbl_kit.models import Classifier
from xbl_kit.train import predict

COLUMNS = {
    "accuracy": "accuracy",
    "worst_group": "worst group",
    "activation_precision": "AP",
    "activation_precision_chance": "AP chance",
}
NAMES = {"unrefined": "Unrefined", "control": "Control", "exbl": "eXBL", "oracle": "Oracle"}
SHOWN = 4


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


def draw_figures(
    results: dict, models: dict[str, Classifier], data: Dataset, rows: dict, out: Path
) -> None:
    """Write the figures of a run: accuracy and Activation Precision by split, a grid of maps."""
    for key, title in (
        ("accuracy", "accuracy"),
        ("worst_group", "accuracy of the worst group"),
        ("activation_precision", "Activation Precision"),
    ):
        values = by_split(results, key)
        if any(value is not None for splits in values.values() for value in splits.values()):
            _save(plots.split_bars(values, ylabel=title), out / f"{key}.png")
    bad = results["exemplars"]["bad"]
    suspect = (bad[0] if isinstance(bad, list) else bad)["label"]
    of_suspect = [row for row in rows["iid"] if data.classes[data.label[row]] == suspect]
    some = of_suspect or list(rows["iid"])
    _save(maps_of(models, data, torch.stack(some[:SHOWN])), out / "maps.png")


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


def _save(figure, path: Path) -> None:
    write_whole(path, lambda partial: figure.savefig(partial, format="png", dpi=110))
