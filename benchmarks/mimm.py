"""MIMM-X beside its baselines: over seeds, over options (ablation), over factors and strengths.

python benchmarks/mimm.py phantom                         five seeds, every model
python benchmarks/mimm.py morphomnist --root DIR          the same on digits
python benchmarks/mimm.py table --root DIR --labels A,B --confounders C,D [--strength natural]
python benchmarks/mimm.py ablation                        scaling x attention x conditional, MINE
python benchmarks/mimm.py factors                         1 to 3 factors at .8 to .98

Runs are kept in build/benchmarks and taken up again. Prints a table, mean +- standard deviation
over the seeds, and writes mimm_<study>.json beside this file.
"""

import json
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from itertools import product
from pathlib import Path

import pandas as pd

from xbl_kit.run import reproduce

HERE = Path(__file__).resolve().parent
FACTORS = ("age", "sex", "site")
# Smaller than the experiment itself, so that dozens of runs take an hour and not a day.
SMALL = {
    "per_class": {"train": 1000, "val": 40, "test": 200},
    "train": {"epochs": 12, "batch_size": 64, "lr": 3e-3, "warmup": 0.3},
}


def studied(name: str, shared: dict) -> list[dict]:
    """What each row of a study gives to `reproduce`."""
    if name == "ablation":
        small = {"models": ["mimm-x"], "plan": SMALL, "estimator": "mine"}
        return [
            small | {"scaling": scaling, "attention": attention, "conditional": conditional}
            for scaling, attention, conditional in product(
                ("none", "clip", "gradnorm"), (False, True), (False, True)
            )
        ]
    if name == "factors":
        return [
            {"confounders": FACTORS[:n], "strength": strength, "plan": SMALL}
            for n, strength in product((1, 2, 3), (0.8, 0.9, 0.95, 0.98))
        ]
    return [{"data": name} | shared]


def figures(model: dict) -> dict[str, float]:
    """The figures of one model that are averaged over seeds."""
    found = {split: each["accuracy"] for split, each in model["splits"].items()}
    found["worst group"] = model["splits"]["balanced"]["worst_group"]
    for factor, probe in model["probe"].items():
        found[f"probe {factor}"] = probe["accuracy"]
        found[f"above null {factor}"] = probe["accuracy"] - probe["null_95"]
    return {key: round(value, 4) for key, value in found.items()} | {
        "seconds": model["train"]["seconds"]
    }


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=("phantom", "morphomnist", "table", "ablation", "factors"))
    parser.add_argument("--seeds", default="10,11,12,13,14")
    parser.add_argument("--root")
    parser.add_argument("--weights")
    parser.add_argument("--labels", default="")
    parser.add_argument("--confounders", default="")
    parser.add_argument("--strength", default="0.9")
    given = parser.parse_args()
    natural = given.strength == "natural"
    shared = {
        "root": given.root,
        "weights": given.weights,
        "labels": [name for name in given.labels.split(",") if name],
        "confounders": [name for name in given.confounders.split(",") if name],
        "strength": None if natural else float(given.strength),
    }
    name = given.study + ("_natural" if natural else "")
    rows = []
    for number, options in enumerate(studied(given.study, shared)):
        for seed in map(int, given.seeds.split(",")):
            out = HERE.parent / "build" / "benchmarks" / f"{name}-{number}-{seed}"
            results = reproduce("mimm-x", **options, seed=seed, out=out, resume=True)
            shown = {key: options[key] for key in options if key not in ("plan", "models", "root")}
            if given.study in ("phantom", "morphomnist", "table"):
                shown = {}
            for model, content in results["models"].items():
                shown["confounders"] = len(results["confounders"])
                rows.append(shown | {"model": model, "seed": seed} | figures(content))
            write(name, rows, results)


def write(name: str, rows: list[dict], results: dict) -> None:
    """Print the table so far and write it, so that a study that is stopped is not lost."""
    table = pd.DataFrame(rows)
    numbers = list(figures(next(iter(results["models"].values()))))
    keys = [column for column in table if column not in {*numbers, "seed"}]
    groups = table.groupby(keys, sort=False)[numbers]
    mean, spread = groups.mean(), groups.std().fillna(0)
    text = mean.map("{:.3f}".format) + " +- " + spread.map("{:.3f}".format)
    print(text.assign(seeds=groups.size()).to_string(), flush=True)
    plan = results["plan"] | {"weights": Path(results["plan"]["weights"]).name}
    content = {"versions": results["versions"], "plan": plan, "rows": rows}
    (HERE / f"mimm_{name}.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
