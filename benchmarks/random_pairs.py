"""How much does the choice of exemplars matter? eXBL refined with pairs drawn at random.

Draws pairs from the right predictions of the Unrefined model (phantom, classroom preset), refines
the same model with each, and measures worst group, Activation Precision and accuracy on the
balanced test set. The first two rows are the automatic pick and the same pair the wrong way round.

    python benchmarks/random_pairs.py [--pairs 20] [--seed 0]     writes random_pairs.json
"""

import argparse
import copy
import dataclasses
from pathlib import Path

import torch

from xbl_kit.batch import region_pixels
from xbl_kit.exemplar import Exemplar
from xbl_kit.explain import upsample
from xbl_kit.methods import ExBL
from xbl_kit.metrics import region_share
from xbl_kit.models import build_classifier
from xbl_kit.pick import explained
from xbl_kit.run import PRESETS, evaluate, prepare, reproduce
from xbl_kit.storage import load_json, load_model, write_json
from xbl_kit.train import fit, predict

HERE = Path(__file__).parent
COLUMNS = ("pair", "good", "bad", "share_good", "share_bad", "worst_group", "ap", "accuracy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    run = HERE.parent / "build" / ("start-here" if options.seed == 0 else f"seed-{options.seed}")
    reproduce("exbl", data="phantom", seed=options.seed, out=run, resume=True)
    data, rows = prepare("phantom", seed=options.seed)
    model = build_classifier("small_cnn", hidden=0)
    load_model(model, run / "model-unrefined.safetensors")
    rank = Exemplar.load(run / "exemplar.npz")
    pairs = {"automatic": rank, "automatic, swapped": swapped(rank)}
    pairs |= random_pairs(model, data, rows["train"], options.pairs, options.seed)
    file = HERE / "random_pairs.json"
    measured = load_json(file) or []
    print(" | ".join(COLUMNS))
    for name, exemplar in pairs.items():
        if name not in {row["pair"] for row in measured}:
            measured.append({"pair": name} | measure(model, data, rows, exemplar, options.seed))
            write_json(file, measured)
        row = next(row for row in measured if row["pair"] == name)
        print(" | ".join(str(row[column]) for column in COLUMNS), flush=True)


def random_pairs(model, data, rows, pairs: int, seed: int) -> dict[str, Exemplar]:
    """Pairs of different images, both rightly predicted and with a map that is not empty."""
    prediction = predict(model, data, rows)
    usable = (prediction.label == data.label[rows]) & (prediction.cam.amax(dim=(1, 2)) > 0)
    generator = torch.Generator().manual_seed(seed)
    places = usable.nonzero()[:, 0]
    drawn = places[torch.randperm(len(places), generator=generator)[: 2 * pairs]].view(-1, 2)
    return {
        f"random {number}": Exemplar(
            good=explained(data, rows, prediction.cam, good[None]),
            bad=explained(data, rows, prediction.cam, bad[None]),
            picked_by="random",
        )
        for number, (good, bad) in enumerate(drawn, start=1)
    }


def swapped(exemplar: Exemplar) -> Exemplar:
    return dataclasses.replace(exemplar, good=exemplar.bad, bad=exemplar.good)


def measure(model, data, rows, exemplar: Exemplar, seed: int, **options) -> dict:
    """What one pair makes of the Unrefined model, and where its two maps lay."""
    plan = PRESETS["classroom"]
    refined = copy.deepcopy(model)
    method = ExBL(refined, exemplar, **plan["options"]["exbl"] | options)
    fit(method, data, rows["train"], rows["val"], seed=seed, **plan["refine"])
    found = evaluate(refined, data, rows["balanced"], ("age",))
    return {
        "good": exemplar.good.label[0],
        "bad": exemplar.bad.label[0],
        "share_good": lungs_share(data, exemplar.good),
        "share_bad": lungs_share(data, exemplar.bad),
        "worst_group": found["worst_group"],
        "ap": found["activation_precision"],
        "accuracy": found["accuracy"],
    }


def lungs_share(data, side) -> float:
    batch = data[list(side.index)]
    cam = upsample(side.cam, tuple(batch.image.shape[2:]))
    return round(region_share(cam, region_pixels(batch, "lungs"))[0].item(), 3)


if __name__ == "__main__":
    main()
