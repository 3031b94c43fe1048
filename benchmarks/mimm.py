"""Balanced dCor, MIMM-X and baselines: over seeds, options (ablation), factors and strengths.

python benchmarks/mimm.py phantom                         every model
python benchmarks/mimm.py morphomnist --root DIR          the same on digits
python benchmarks/mimm.py table --root DIR --labels A,B --confounders C,D [--strength natural]
python benchmarks/mimm.py ablation                        scaling x attention x conditional, MINE
python benchmarks/mimm.py factors                         1 to 4 factors at .8, .9 and .98
python benchmarks/mimm.py thesis --root DIR               MIMM's two-factor extension, on digits

Ablation and factors are on small data, so that a hundred models take an hour or two. Runs are kept
in build/benchmarks and taken up again. Prints a table, mean +- standard deviation over the seeds,
and writes mimm_<study>.json beside this file after each run. In the saved files "mimm-x", the
reconstruction, has rows for three factors at .9 alone: it trains three times as long as others.
"""

import json
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from itertools import product
from pathlib import Path

import pandas as pd

from xbl_kit.run import reproduce

HERE = Path(__file__).resolve().parent
FACTORS = ("age", "sex", "site", "line")
SMALL = {
    "per_class": {"train": 600, "val": 40, "test": 200},
    "train": {"epochs": 12, "batch_size": 64, "lr": 3e-3, "warmup": 0.3, "keep": "last"},
    "content": {"probe": {}},
}
ATTENTION = ("none", "weights", "summary")
# As far as it is published: information and heads count in full from the first step on, measured
# on the batch alone, and the classification loss is plain. No weight or critic was tuned for it.
PUBLISHED = {"scaling": "gradnorm", "attention": "weights", "conditional": False}
UNTUNED = {"weight": 0.3, "spurious": 1.0, "critic_steps": 1, "hidden": 32}
AT_ONCE = {"memory": 0, "delay": 0, "ramp": 1}

Study = list[tuple[dict, dict]]  # of each row: what the table calls it, what `reproduce` is given


def as_given(given: Namespace) -> Study:
    """One row: a kind of data, with the options of the command line."""
    options = {
        "data": given.study,
        "root": given.root,
        "weights": given.weights,
        "labels": [name for name in given.labels.split(",") if name],
        "confounders": [name for name in given.confounders.split(",") if name],
        "strength": None if given.strength == "natural" else float(given.strength),
    }
    return [({}, options)]


def ablation(given: Namespace) -> Study:
    """Our recipe with MINE, with and without each option, what is published, and the baselines."""
    keys = ("scaling", "attention", "conditional")
    grid = product(("none", "clip", "equal", "gradnorm"), ATTENTION, (False, True))

    def one(model: str, **options) -> dict:
        return {"models": [model], "plan": SMALL, "options": {model: options}}

    mine = {"estimator": "mine", "memory": 64}
    rows = [
        ({"variant": "MINE"} | values, one("balanced-dcor", **mine | values))
        for values in (dict(zip(keys, each, strict=True)) for each in grid)
    ]
    recipe = dict(zip(keys, ("none", "none", True), strict=True))
    return [
        ({"variant": "recipe"} | recipe, {"plan": SMALL}),
        ({"variant": "published"} | PUBLISHED, one("mimm-x", **PUBLISHED, **UNTUNED, **AT_ONCE)),
        *rows,
    ]


def factors(given: Namespace) -> Study:
    """Every model with more and more factors, at three strengths."""
    return [
        (
            {"factors": n, "strength": strength},
            {"confounders": FACTORS[:n], "strength": strength, "plan": SMALL},
        )
        for n, strength in product((1, 2, 3, 4), (0.8, 0.9, 0.98))
    ]


# MIMM's extension to two factors: MINE over all pairs of a batch, z-z pairs too, gradient clipped
# to that of the class, everything in full from the first step on.
TWO_FACTORS = {"estimator": "mine", "conditional": False, "between": True, "attention": "none"}
TWO_FACTORS |= {"scaling": "clip", "weight": 1.0, "spurious": 1.0, "critic_steps": 3, "hidden": 24}


def thesis(given: Namespace) -> Study:
    """The heads without information, and with it, by the protocol of MIMM's two-factor extension.

    Two features a task, batches of 500. Theirs are another network, and 200 epochs at a rate that
    is not known; here ten, at a rate set on seed 100 so that the heads alone give their figures.
    They take five steps of the critic to two of the encoder, here three to one.
    """
    plan = {"features": 2, "content": {"probe": {}}}
    plan |= {"per_class": {"train": 12_000, "val": 200, "test": 1500}}
    plan |= {"train": {"epochs": 10, "batch_size": 500, "lr": 3e-4, "keep": "last"}}
    common = {"data": "morphomnist", "root": given.root, "plan": plan}
    mine = {"models": ["mimm-x"], "options": {"mimm-x": TWO_FACTORS | AT_ONCE}}
    return [
        ({"variant": "no information"}, common | {"models": ["multitask", "erm"]}),
        ({"variant": "MINE, clipped"}, common | mine),
    ]


STUDIES = {
    "thesis": thesis,
    "phantom": as_given,
    "morphomnist": as_given,
    "table": as_given,
    "ablation": ablation,
    "factors": factors,
}


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


def arguments() -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=tuple(STUDIES))
    parser.add_argument("--seeds", default="10,11,12,13,14")
    parser.add_argument("--root")
    parser.add_argument("--weights")
    parser.add_argument("--labels", default="")
    parser.add_argument("--confounders", default="")
    parser.add_argument("--strength", default="0.9")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    name = given.study + ("_natural" if given.strength == "natural" else "")
    study, rows = STUDIES[given.study](given), []
    # Seeds outside, so that a study that is stopped has as many of each row.
    for seed, (number, (names, options)) in product(given.seeds.split(","), enumerate(study)):
        out = HERE.parent / "build" / "benchmarks" / f"{name}-{number}-{seed}"
        results = reproduce("mimm-x", **options, seed=int(seed), out=out, resume=True)
        for model, content in results["models"].items():
            rows.append(names | {"model": model, "seed": int(seed)} | figures(content))
        write(name, rows, results)


def write(name: str, rows: list[dict], results: dict) -> None:
    """Print the table so far and write it."""
    table = pd.DataFrame(rows)
    keys = [*table.columns[: table.columns.get_loc("model")], "model"]
    numbers = table.columns[table.columns.get_loc("seed") + 1 :]
    groups = table.groupby(keys, sort=False)[list(numbers)]
    mean, spread = groups.mean(), groups.std().fillna(0)
    text = mean.map("{:.3f}".format) + " +- " + spread.map("{:.3f}".format)
    print(text.assign(seeds=groups.size()).to_string(), flush=True)
    plan = results["settings"]["plan"]
    plan |= {"weights": Path(plan["weights"]).name}
    content = {"versions": results["versions"], "plan": plan, "rows": rows}
    (HERE / f"mimm_{name}.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
