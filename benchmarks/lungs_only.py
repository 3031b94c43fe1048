"""Second opinions on lungs alone: which view of them holds enough to tell ill from healthy?

Each view makes other images of a table data set with lung masks. On each, the frozen network's
layer statistics are taken, a logistic regression stands for Unrefined, and the second opinion
corrects it with k healthy children of the source of the biased class: 20 draws of k, three splits
of the patients. Images to give, and those to test on, come from one half of the counter patients
for choosing ("choose", splits 10 to 12) and from the other for reporting ("report", 0 to 2). Each
view has a control, the same processing of images whose lungs were blackened first. What a control
reaches as well was not learned from the lungs.

    python benchmarks/lungs_only.py --root FOLDER --weights FILE [--views lungs,aligned,...]

writes lungs_only.json.
"""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import find_objects, zoom
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from xbl_kit.batch import Prediction
from xbl_kit.data import Dataset
from xbl_kit.methods import Known
from xbl_kit.methods.second_opinion import second_opinion
from xbl_kit.models import build_classifier, layer_statistics
from xbl_kit.run import prepare
from xbl_kit.storage import load_json, write_json

FILE = Path(__file__).with_name("lungs_only.json")
BIASED, SOURCE, COUNTS, DRAWS = "Viral Pneumonia", "Kermany", (1, 3, 10, 20), 20
BOX = (24, 200)  # where the lungs' bounding box is stretched to, in pixels of 224, on both axes
Image = Float[np.ndarray, "h w"]  # from 0 to 1
Mask = Bool[np.ndarray, "h w"]
View = Callable[[Image, Mask, Image], Image]  # of an image, its lungs, a typical amplitude spectrum


def lungs(image: Image, mask: Mask, amplitude: Image) -> Image:
    return image * mask


def stretched(image: Image, mask: Mask) -> tuple[Image, Mask]:
    """Image and mask with the lungs' bounding box stretched to `BOX`, black around it."""
    (box,), size = find_objects(mask.astype(int)), BOX[1] - BOX[0]
    scale = [size / side for side in mask[box].shape]
    wide, lit = np.zeros_like(image), np.zeros_like(mask)
    inner = (slice(*BOX),) * 2
    wide[inner] = zoom(image[box], scale, order=1)[:size, :size]
    lit[inner] = zoom(mask[box].astype(np.float32), scale, order=1)[:size, :size] > 0.5
    return wide, lit


def standard(image: Image, mask: Mask) -> Image:
    """Mean .5 and standard deviation .2 inside the mask, black outside."""
    inside = image[mask]
    scaled = 0.5 + 0.2 * (image - inside.mean()) / (inside.std() + 1e-6)
    return scaled.clip(0, 1) * mask


def aligned(image: Image, mask: Mask, amplitude: Image) -> Image:
    return standard(*stretched(image, mask))


def ranked(image: Image, mask: Mask, amplitude: Image) -> Image:
    """Aligned lungs whose grey values are replaced by their ranks."""
    wide, lit = stretched(image, mask)
    out = np.zeros_like(wide)
    out[lit] = wide[lit].argsort().argsort() / max(1, lit.sum() - 1)
    return out


def fda(share: float) -> View:
    """Lungs with the lowest frequencies' amplitude that images have on average (Yang and Soatto
    2020, with one spectrum for all); `share` of each side."""

    def view(image: Image, mask: Mask, amplitude: Image) -> Image:
        spectrum = np.fft.fftshift(np.fft.fft2(image))
        half, centre = max(1, round(share * len(image))), len(image) // 2
        low = (slice(centre - half, centre + half + 1),) * 2
        spectrum[low] *= amplitude[low] / (np.abs(spectrum[low]) + 1e-6)
        return np.fft.ifft2(np.fft.ifftshift(spectrum)).real.clip(0, 1) * mask

    return view


def whole(image: Image, mask: Mask, amplitude: Image) -> Image:
    return image


def outline(image: Image, mask: Mask, amplitude: Image) -> Image:
    return mask.astype(np.float32)


VIEWS = {
    "whole": (whole,),
    "outline": (outline,),
    "lungs": (lungs,),
    "aligned": (aligned,),
    "ranked": (ranked,),
    "FDA .01": (fda(0.01),),
    "FDA .05": (fda(0.05),),
    "FDA .09": (fda(0.09),),
    "lungs + aligned": (lungs, aligned),
}


def statistics(
    model, images: UInt8[np.ndarray, "n h w"], masks: Mask, views: Iterable[View], control: bool
) -> Float[np.ndarray, "n p"]:
    """Layer statistics of every view of all images, side by side; without lungs for a `control`."""
    scaled = images.astype(np.float32) / 255
    sample = scaled[:: max(1, len(scaled) // 100)]
    amplitude = np.fft.fftshift(np.abs(np.fft.fft2(sample)).mean(axis=0))
    found = []
    for view in views:
        # The control sees what is around the lungs, in the frame that the lungs' box sets.
        pairs = zip(scaled, masks, strict=True)
        around = [(image * ~mask, np.ones_like(mask)) if control and view in (whole, lungs) else
                  (image * ~mask, boxed(mask)) if control else (image, mask)
                  for image, mask in pairs]  # fmt: skip
        made = np.stack([view(image, mask, amplitude) for image, mask in around])
        found.append(layer_statistics(model, (255 * made).round().astype(np.uint8)))
    return np.concatenate(found, axis=1)


def boxed(mask: Mask) -> Mask:
    """The lungs' bounding box."""
    out = np.zeros_like(mask)
    out[find_objects(mask.astype(int))[0]] = True
    return out


def one_split(
    data: Dataset, z: Float[np.ndarray, "n p"], half: str, seed: int, root: str
) -> list[dict]:
    """Figures of all counts, drawn at random or as medoids, in one split of the patients."""
    _, rows = prepare("table", root, seed=seed, confounders=("age_group",), plan=PLAN)
    z = StandardScaler().fit(z[rows["train"]]).transform(z)
    base = LogisticRegression(C=1e-3, max_iter=2000).fit(
        z[rows["train"]], data.label[rows["train"]]
    )
    before = Prediction(torch.from_numpy(base.decision_function(z)).float(), None, [], {})
    site, biased = data.confounders["site"], data.classes.index(BIASED)
    own = rows["counter"][site[rows["counter"]] == data.levels["site"].index(SOURCE)]
    own = own[data.patient[own] % 2 == (half == "report")]
    common = {"half": half, "seed": seed}
    found = [common | {"k": 0, "which": "none"} | figures(before.logits, data, own, rows["iid"])]
    for k in COUNTS:
        for draw in range(DRAWS):
            for which in ("random", "medoids") if 1 < k < 20 else ("random",):
                given = choose(own, z, k, which, 1000 * seed + draw, data)
                known = Known(
                    data, torch.cat([rows["train"], given]), held_out=rows["val"], before=before,
                    images=given, biased=biased, counter_class=data.classes.index("Normal"),
                    statistics=lambda: z,
                )  # fmt: skip
                logits = second_opinion(None, known)
                left = own[~torch.isin(data.patient[own], data.patient[given])]
                row = common | {"k": k, "which": which, "draw": draw}
                found.append(row | figures(logits, data, left, rows["iid"]))
    return found


def choose(own, z, k: int, which: str, seed: int, data: Dataset):
    """k images, one a patient: drawn, or those nearest to the centres of k clusters of 80 drawn."""
    order = own[torch.randperm(len(own), generator=torch.Generator().manual_seed(seed))]
    _, first = np.unique(data.patient[order].numpy(), return_index=True)
    order = order[np.sort(first)]
    if which == "random":
        return order[:k]
    pool = order[:80]
    clusters = KMeans(k, n_init=3, random_state=seed).fit(z[pool])
    nearest = np.unique(clusters.transform(z[pool]).argmin(axis=0))
    return pool[nearest]


def figures(logits, data: Dataset, own, iid) -> dict[str, float]:
    said, ill = logits.argmax(dim=1), data.label[iid] == data.classes.index(BIASED)
    right = (said == data.label).float()
    parts = {"counter": right[own], "recall": right[iid][ill], "iid": right[iid]}
    return {name: round(part.mean().item(), 4) for name, part in parts.items()}


PLAN = {"size": 224, "backbone": "mobilenet_v2", "weights": "none"}  # split, not trained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--views", default=",".join(VIEWS))
    given = parser.parse_args()
    data, _ = prepare("table", given.root, confounders=("age_group",), plan=PLAN)
    model = build_classifier("mobilenet_v2", len(data.classes), weights=given.weights)
    images, masks = np.array(data.images), np.array(data.masks["lungs"])
    for name in given.views.split(","):
        for control in (False, True)[: 1 + (name != "outline")]:
            key = {"view": name, "control": control}
            if any(key.items() <= row.items() for row in load_json(FILE) or []):
                continue
            z = statistics(model, images, masks, VIEWS[name], control)
            rows = []
            for half, seeds in (("choose", (10, 11, 12)), ("report", (0, 1, 2))):
                for seed in seeds:
                    rows += one_split(data, z, half, seed, given.root)
            table = summary([key | row for row in rows])
            write_json(FILE, (load_json(FILE) or []) + table.reset_index().to_dict("records"))
            print(table.to_string(), flush=True)


def summary(rows: list[dict]) -> pd.DataFrame:
    keys = ["half", "view", "control", "which", "k"]
    groups = pd.DataFrame(rows).groupby(keys, sort=False)[["counter", "recall", "iid"]]
    return groups.mean().round(3).join(groups.std()["counter"].round(3).rename("sd"))


if __name__ == "__main__":
    main()
