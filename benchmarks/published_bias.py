"""How much of the bias is left as published, with healthy children in training?

By its authors' description 1,341 of the 10,192 Normal images of the COVID-19 Radiography Database
come from the collection that every Viral Pneumonia comes from: 13 %, which are trained on. A table
data set with such a counter-group is copied with that share of it moved into the data to be split,
and models are trained on it; the rest of the group, another one in each seed, is tested on.

    python benchmarks/published_bias.py --root FOLDER --weights FILE [--share 0.13]
        [--methods unrefined] [--seeds 0,1,2]                          writes published_bias.json
"""

import argparse
import csv
import shutil
from pathlib import Path

import numpy as np

from xbl_kit.run import compare, comparison
from xbl_kit.storage import load_json, write_json

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--share", type=float, default=0.13)
    parser.add_argument("--methods", default="unrefined")
    parser.add_argument("--seeds", default="0,1,2")
    options = parser.parse_args()
    rows = []
    for seed in map(int, options.seeds.split(",")):
        folder = HERE.parent / "build" / f"published-{options.share:g}-{seed}"
        moved = copy(options.root, folder / "data", options.share, seed)
        how = {"data": "table", "preset": "paper", "weights": options.weights}
        how |= {"confounders": ("age_group",), "biased": "Viral Pneumonia", "device": "cpu"}
        methods = [name for name in options.methods.split(",") if name]
        where = {"root": folder / "data", "out": folder / "run", "resume": True}
        results = compare(methods, seeds=[seed], **how, **where)
        print(f"share {options.share:g}, seed {seed}: {moved} images moved into training")
        print(comparison(results).to_string(), flush=True)
        rows += [{"share": options.share, "seed": seed} | row for row in results["table"]]
    others = [
        r for r in load_json(HERE / "published_bias.json") or [] if r["share"] != options.share
    ]
    write_json(HERE / "published_bias.json", others + rows)


def copy(root: Path, to: Path, share: float, seed: int) -> int:
    """Copy a table data set, `share` of the Normal images from the children's source; how many."""
    if not to.exists():
        shutil.copytree(root, to)
    with (root / "metadata.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    ill = {row["site"] for row in rows if row["label"] == "Viral Pneumonia"}
    normal = [row for row in rows if row["label"] == "Normal" and row["counter"] != "1"]
    children = [row for row in rows if row["counter"] == "1" and row["site"] in ill]
    patients = sorted({row["patient"] for row in children})
    order = np.random.default_rng(seed).permutation(patients)
    wanted, moved = round(share / (1 - share) * len(normal)), 0
    for patient in order:
        own = [row for row in children if row["patient"] == patient]
        if moved + len(own) <= wanted:
            moved += len(own)
            for row in own:
                row["counter"] = "0"
    with (to / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return moved


if __name__ == "__main__":
    main()
