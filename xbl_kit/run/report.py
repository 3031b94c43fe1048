"""Results as a person reads them: a table and a few figures."""

import platform
from collections.abc import Callable

import pandas as pd
import torch
import torchvision
from jaxtyping import Float
from torch import Tensor

from xbl_kit import __version__, plots
from xbl_kit.data import Dataset
from xbl_kit.data.describe import markdown
from xbl_kit.explain import upsample
from xbl_kit.metrics import tsne
from xbl_kit.models import Classifier
from xbl_kit.run.recipes import RECIPES
from xbl_kit.run.task import Task
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
Save = Callable[[str, bytes], None]  # a name, and what the file holds


def versions() -> dict[str, str]:
    """What the results were made with."""
    found = {"xbl_kit": __version__, "torch": torch.__version__}
    return found | {"torchvision": torchvision.__version__, "python": platform.python_version()}


def summary(results: dict) -> pd.DataFrame:
    """`results.json` as a table: a row for each split and model, a column for each figure."""
    models = results["models"]
    rows = {
        (split, model): {title: found["splits"][split].get(k) for k, title in COLUMNS.items()}
        for split in next(iter(models.values()))["splits"]
        for model, found in models.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(["split", "model"])
    return table.dropna(axis="columns", how="all")


def contents(results: dict) -> pd.DataFrame:
    """What f_y holds of each factor (mimm-x): probes beside their null, purity, held-out nats."""
    titles, models = CONTENTS.items(), results["models"]
    rows = {
        (model, factor): {
            title: found[m][factor][key] if key else found[m][factor]
            for title, (m, key) in titles
            if m in found
        }
        for model, found in models.items()
        for factor in next((found[m] for _, (m, _) in titles if m in found), ())
    }
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.rename_axis(["model", "factor"]) if rows else table


def draw_run(results: dict, models: dict[str, Classifier], task: Task, save: Save) -> None:
    """Write the figures of a run: bars by split, and with exemplars a grid of maps."""
    picks = results.get("exemplars")
    for key in TITLES if picks else ("accuracy", "worst_group"):
        values = by_split(results, key)
        if any(value is not None for splits in values.values() for value in splits.values()):
            save(f"{key}.png", plots.png(plots.split_bars(values, ylabel=TITLES[key])))
    if picks:
        bad = picks["bad"][0] if isinstance(picks["bad"], list) else picks["bad"]
        iid, suspect = task.rows["iid"], task.data.classes.index(bad["label"])
        of_suspect = iid[task.data.label[iid] == suspect]
        some = (of_suspect if len(of_suspect) else iid)[:4]
        shown = {name: models[name] for name in results["models"]}
        save("maps.png", plots.png(maps_of(shown, task.data, some)))


def draw_tsne(name: str, part: Float[Tensor, "n d"], task: Task, save: Save) -> None:
    """Write the t-SNE of a model's f_y on the balanced rows, coloured by label and factors."""
    data, rows = task.data, task.rows["balanced"]
    factors = {f: (data.levels[f], data.confounders[f][rows]) for f in task.settings.confounders}
    columns = {"label": (data.classes, data.label[rows])} | factors
    figure = plots.scatter(tsne(part), columns, title=RECIPES[name].title)
    save(f"tsne-{name}.png", plots.png(figure))


def by_split(results: dict, key: str) -> dict[str, dict[str, float | None]]:
    """One figure of `results.json` as {model: {split: value}}, for `plots.split_bars`."""
    return {
        RECIPES[model].title: {split: found.get(key) for split, found in content["splits"].items()}
        for model, content in results["models"].items()
    }


def maps_of(models: dict[str, Classifier], data: Dataset, rows: Tensor) -> plots.Figure:
    """The maps of a few images by every model, side by side, with what each model says."""
    size, batch = tuple(data.images.shape[1:]), data[rows]
    seen = {RECIPES[name].title: predict(model, data, rows) for name, model in models.items()}
    cams = {title: upsample(each.cam, size) for title, each in seen.items()}
    said = {title: data.names(each.label) for title, each in seen.items()}
    mask = next(iter(batch.masks.values()), None)
    return plots.map_grid(batch.image, cams, mask, titles=data.names(batch.label), notes=said)


def comparison(results: dict) -> pd.DataFrame:
    """`results.json` of compare as a table: a row for a method and what was given, by control.

    Accuracy by split, the worst group where the data are balanced, and in the counter-group the
    accuracy by source: mean ± standard deviation.
    """
    table = pd.DataFrame(results["table"])
    table["given"] = [_given(row) for row in results["table"]]
    whole, source = table["group"].isna(), table["group"].str.startswith("site=", na=False)
    table = table[
        (whole & (table["metric"] == "accuracy"))
        | (whole & (table["metric"] == "worst_group") & (table["split"] == "balanced"))
        | (source & (table["split"] == "counter"))
        | (table["group"] == f"label={results['biased']}") & (table["split"] == "iid")
    ]
    what = table["group"].where(table["group"].notna(), table["metric"].replace("accuracy", ""))
    column = (table["split"] + " " + what.str.replace("_", " ")).str.strip()
    figures = [f"{m:.2f} ± {s:.2f}" for m, s in table[["mean", "sd"]].to_numpy()]
    method = [RECIPES[name].title for name in table["method"]]
    control = table["control"].fillna("")
    columns = {"method": method, "given": table["given"], "control": control}
    long = pd.DataFrame(columns | {"column": column, "figure": figures})
    wide = long.pivot_table("figure", list(columns), "column", "first", sort=False)
    return wide.fillna("-").rename_axis(columns=None)


def _given(row: dict) -> str:
    """What a person gave, in words: "2 clicks"."""
    given = [(n, kind.rstrip("s") if n == 1 else kind) for kind, n in row["needs"].items() if n]
    return ", ".join(f"{n} {kind}" for n, kind in given) or "nothing"


def effect(
    results: dict, split: str = "", metric: str = "accuracy", group: str | None = None
) -> plots.Figure:
    """Effect against effort: a row for each method and what was given, least effort first.

    Without `split`: the accuracy of the counter-group, of those from the biased class's own source
    where that is known; where there is no counter-group the worst group, or else iid accuracy.
    Raises ValueError for what was not measured.
    """
    have = [(row["split"], row["metric"], row["group"]) for row in results["table"]]
    own = f"site={results.get('source')}"
    usual = [("counter", "accuracy", own), ("counter", "accuracy", None)]
    usual += [("balanced", "worst_group", None), ("iid", "accuracy", None)]
    shown = (split, metric, group) if split else next(each for each in usual if each in have)
    rows = [row for row, each in zip(results["table"], have, strict=True) if each == shown]
    if not rows:
        raise ValueError(f"{shown} was not measured; expected one of {list(dict.fromkeys(have))}")
    points = [
        (RECIPES[row["method"]].title, _given(row), row["control"] or "whole image",
         row["mean"], row["sd"])
        for row in sorted(rows, key=lambda row: sum(row["needs"].values()))
    ]  # fmt: skip
    label = ", ".join(filter(None, (TITLES[shown[1]], shown[0], shown[2])))
    return plots.dots(points, xlabel=label, chance=rows[0]["chance"])


def write_comparison(results: dict, figure: str) -> str:
    """The report in Markdown."""
    settings = results["settings"]
    table = comparison(results).reset_index().set_index("method")
    runs = max(row["n"] for row in results["table"])
    parts = (
        f"# Methods side by side: {results['data']}, preset {results['preset']}",
        f"Seeds {', '.join(map(str, settings['seeds']))}; what is given is drawn "
        f"{settings['draws']} times. Mean ± standard deviation of up to {runs} runs.",
        f"![Accuracy by method, from the least effort of a person to the most]({figure})",
        markdown(table),
    )
    return "\n\n".join(parts) + "\n"
