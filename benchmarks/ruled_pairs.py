"""Can a person follow a rule? eXBL refined with pairs drawn by a rule of choosing alone.

The rule uses class names, the heat map, and fixed places of the picture, as an eye would; no mask.
Bad: an image of the class you suspect whose brightest spot lies at a shoulder. Good: an image of
another class with a bright spot in each lung, and none anywhere else. Everything else is drawn at
random. The `lungs_share` of each map is recorded and decides nothing.

    python benchmarks/ruled_pairs.py [--pairs 20] [--seed 0] [--margin 6] [--several 3]

writes ruled_pairs.json. With `--several` each run has so many good and so many bad ones.
"""

import argparse
from pathlib import Path

import torch
from random_pairs import COLUMNS, measure

from xbl_kit.exemplar import Exemplar
from xbl_kit.explain import normalise, upsample
from xbl_kit.models import build_classifier
from xbl_kit.pick import explained
from xbl_kit.run import PRESETS, prepare, reproduce
from xbl_kit.storage import load_json, load_model, write_json
from xbl_kit.train import predict

HERE = Path(__file__).parent
FILE = HERE / "ruled_pairs.json"
SUSPECT = "Viral Pneumonia"
LIT = 0.5  # of a map's maximum: what a heat map shows in green, yellow and red
# Left, top, right, bottom, in shares of the picture.
SHOULDERS = ((0, 0.15, 0.25, 0.5), (0.75, 0.15, 1, 0.5))
LUNGS = ((0.2, 0.2, 0.48, 0.85), (0.52, 0.2, 0.85, 0.85))
CHEST = (0.2, 0.2, 0.85, 0.85)


def main() -> None:
    usual = PRESETS["classroom"]["options"]["exbl"]["margin"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--margin", type=float, default=usual)
    parser.add_argument("--several", type=int, default=1)
    options = parser.parse_args()
    seed, margin = options.seed, options.margin
    run = HERE.parent / "build" / f"unrefined-{seed}"
    reproduce("exbl", models=("unrefined",), data="phantom", seed=seed, out=run, resume=True)
    data, rows = prepare("phantom", seed=seed)
    model = build_classifier("small_cnn", hidden=0)
    load_model(model, run / "model-unrefined.safetensors")
    columns = ("seed", "margin", "several", *COLUMNS, "spot_good", "spot_bad")
    print(" | ".join(columns))
    drawn = ruled_pairs(model, data, rows["train"], options.pairs, options.several, seed)
    for name, exemplar in drawn.items():
        key = {"pair": name, "seed": seed, "margin": margin, "several": options.several}
        done = [
            row for row in load_json(FILE) or [] if key.items() <= ({"several": 1} | row).items()
        ]
        if not done:
            spots = {"spot_good": spot(exemplar.good.cam), "spot_bad": spot(exemplar.bad.cam)}
            found = measure(model, data, rows, exemplar, seed, margin=margin)
            done = [key | found | spots]  # share and spot are those of the first of several
            write_json(FILE, (load_json(FILE) or []) + done)
        print(" | ".join(str(done[0].get(column, 1)) for column in columns), flush=True)


def ruled_pairs(model, data, rows, pairs: int, several: int, seed: int) -> dict[str, Exemplar]:
    """Pairs, or `several` at a time, of right predictions by the rule, random otherwise."""
    prediction, suspect = predict(model, data, rows), data.classes.index(SUSPECT)
    label, maps = data.label[rows], normalise(upsample(prediction.cam, data.images.shape[1:]))
    right = prediction.label == label
    bad = right & (label == suspect) & torch.stack([peak(maps, b) == 1 for b in SHOULDERS]).any(0)
    good = right & (label != suspect) & torch.stack([peak(maps, b) >= LIT for b in LUNGS]).all(0)
    good &= peak(maps, CHEST, outside=True) < LIT
    print(f"by the rule {int(good.sum())} maps are good and {int(bad.sum())} bad")
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for side in (good, bad):
        places = side.nonzero()[:, 0]
        order = torch.randperm(len(places), generator=generator)[: pairs * several]
        drawn.append(places[order].split(several))
    return {
        f"ruled {number}": Exemplar(
            *(explained(data, rows, prediction.cam, at) for at in both), picked_by="rule"
        )
        for number, both in enumerate(zip(*drawn, strict=True), start=1)
    }


def peak(maps, box, *, outside: bool = False):
    """The highest value of each map inside a box, or outside."""
    left, top, right, bottom = (round(edge * maps.shape[-1]) for edge in box)
    inside = torch.zeros(maps.shape[1:], dtype=torch.bool)
    inside[top:bottom, left:right] = True
    return maps[:, inside ^ outside].amax(dim=1)


def spot(cam) -> list[float]:
    """Where a map is brightest, in shares of the picture from the left and from the top."""
    y, x = divmod(cam[0].argmax().item(), cam.shape[2])
    return [round((x + 0.5) / cam.shape[2], 2), round((y + 0.5) / cam.shape[1], 2)]


if __name__ == "__main__":
    main()
