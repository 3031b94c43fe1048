"""Two clicks on real X-rays: how often does Activation Precision rise, and by how much?

For each seed, which splits the patients anew and trains anew, Unrefined is refined with the pair
that the kit picks, with pairs drawn from its right predictions, and with several pairs; and as a
control with none. Each row has the figures on the same test patients before and after.

    python benchmarks/two_clicks.py --root FOLDER --weights FILE [--seeds 0,1,2,3,4]
        [--kinds control,automatic,random] [--pairs 1,3,10] [--draws 2] [--options JSON]

appends to two_clicks.json what it does not hold yet, and prints medians and quartiles by kind.
"""

import argparse
import copy
import json
from pathlib import Path

import pandas as pd
import torch

from xbl_kit.batch import region_pixels
from xbl_kit.exemplar import Exemplar
from xbl_kit.explain import upsample
from xbl_kit.methods import Erm, ExBL
from xbl_kit.metrics import region_share
from xbl_kit.pick import explained, pick_automatically
from xbl_kit.run import PRESETS, evaluate, open_run, reproduce
from xbl_kit.storage import load_json, write_json
from xbl_kit.train import fit, predict

HERE = Path(__file__).parent
FILE = HERE / "two_clicks.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--kinds", default="control,automatic,random")
    parser.add_argument("--pairs", default="1,3,10")
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--options", type=json.loads, default={})
    given = parser.parse_args()
    for seed in map(int, given.seeds.split(",")):
        out = HERE.parent / "build" / f"two-clicks-{seed}"
        how = {"data": "table", "root": given.root, "preset": "paper", "weights": given.weights}
        how |= {"models": ("unrefined",), "confounders": ("age_group",), "device": "cpu"}
        reproduce("exbl", **how, seed=seed, out=out, resume=True)
        one_seed(open_run(out), seed, given)
    print(summary(load_json(FILE)).to_string())


def one_seed(run, seed: int, given) -> None:
    """All kinds of pairs on one split of the patients, but for what is written already."""
    model, rows = run.models["unrefined"], run.rows["train"]
    before = measured(model, run)
    seen = predict(model, run.data, rows)
    for kind in given.kinds.split(","):
        counts = [0] if kind == "control" else map(int, given.pairs.split(","))
        for pairs in counts:
            for draw in range(given.draws if kind != "control" and kind != "automatic" else 1):
                key = {"seed": seed, "kind": kind, "pairs": pairs, "draw": draw}
                key |= {"options": given.options}
                if any(key.items() <= row.items() for row in load_json(FILE) or []):
                    continue
                exemplar = picked(kind, pairs, draw, run, seen)
                after = refined(model, run, exemplar, seed, given.options)
                row = key | sides(run.data, exemplar) | {"before": before, "after": after}
                write_json(FILE, (load_json(FILE) or []) + [row])
                print(row, flush=True)


def picked(kind: str, pairs: int, draw: int, run, seen) -> Exemplar | None:
    """The exemplars of one kind; the good ones are of one draw, the bad ones of another."""
    data, rows = run.data, run.rows["train"]
    if kind == "control":
        return None
    if kind == "automatic":
        return pick_automatically(data, rows, seen.cam, seen.label, pairs=pairs)
    usable = (seen.label == data.label[rows]) & (seen.cam.amax(dim=(1, 2)) > 0)
    generator = torch.Generator().manual_seed(draw)
    places = usable.nonzero()[:, 0]
    drawn = places[torch.randperm(len(places), generator=generator)[: 2 * pairs]]
    sides = (explained(data, rows, seen.cam, at) for at in drawn.split(pairs))
    return Exemplar(*sides, picked_by=kind)


def refined(model, run, exemplar: Exemplar | None, seed: int, options: dict) -> dict:
    """The model trained on, with the exemplars' loss or without any, and measured."""
    refined, plan = copy.deepcopy(model), PRESETS["paper"]
    method = Erm(refined)
    if exemplar:
        method = ExBL(refined, exemplar, **plan["options"]["exbl"] | options)
    schedule = {"seed": seed, "device": "cpu"} | plan["refine"]
    epochs = len(fit(method, run.data, run.rows["train"], run.rows["val"], **schedule))
    return measured(refined, run) | {"epochs": epochs}


def measured(model, run) -> dict:
    """Accuracy and Activation Precision on the test patients and on the counter-group, in parts."""
    found = {}
    for test in ("iid", "counter"):
        scores = evaluate(model, run.data, run.rows[test])
        parts = {name: part["accuracy"] for name, part in scores["parts"].items()}
        found[test] = {"accuracy": scores["accuracy"], "ap": scores["activation_precision"]}
        found[test] |= {"lungs": scores["region_share"]["lungs"], "parts": parts}
    return found


def sides(data, exemplar: Exemplar | None) -> dict:
    """Class and share inside the lungs of each exemplar."""
    if exemplar is None:
        return {}
    found = {}
    for name in ("good", "bad"):
        side = getattr(exemplar, name)
        batch = data[list(side.index)]
        cam = upsample(side.cam, tuple(batch.image.shape[2:]))
        share = region_share(cam, region_pixels(batch, "lungs"))
        found[name] = {"label": list(side.label), "share": [round(s, 3) for s in share.tolist()]}
    return found


def summary(rows: list[dict]) -> pd.DataFrame:
    """By kind: runs, how many raised AP, quartiles of the change, and the change of accuracy."""
    table = pd.DataFrame(
        {key: row[key] for key in ("kind", "pairs")}
        | {"options": json.dumps(row["options"])}
        | {f"ap {when}": row[when]["iid"]["ap"] for when in ("before", "after")}
        | {key: row["after"]["iid"][key] - row["before"]["iid"][key] for key in ("ap", "accuracy")}
        | {"counter": row["after"]["counter"]["accuracy"] - row["before"]["counter"]["accuracy"]}
        for row in rows
    )
    groups = table.groupby(["options", "kind", "pairs"], sort=False)
    quartiles = groups["ap"].quantile([0.25, 0.5, 0.75]).unstack().round(3)
    raised = groups["ap"].agg(lambda change: (change > 0).mean())
    means = groups[["ap before", "ap after", "accuracy", "counter"]].mean().round(3)
    runs = groups.size().rename("runs")
    return pd.concat([runs, raised.rename("raised"), quartiles, means], axis=1)


if __name__ == "__main__":
    main()
