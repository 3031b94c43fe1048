"""A model measured on every split: right or wrong, for whom, and looking where."""

from collections.abc import Mapping, Sequence
from math import isnan

import torch
from jaxtyping import Int
from torch import Tensor

from xbl_kit import metrics
from xbl_kit.data import Dataset
from xbl_kit.explain import upsample
from xbl_kit.models import Classifier
from xbl_kit.train import predict

FEW = 10  # images; in a smaller group one of them moves the accuracy by more than .1


def evaluate(
    model: Classifier, data: Dataset, rows: Int[Tensor, " n"], factors: Sequence[str] = ()
) -> dict:
    """What `results.json` holds of one model on one split; groups are class x `factors`.

    The worst group is one of those whose every level is known, and its n stands beside it; groups
    of fewer than `FEW` images are marked "few".

    The maps explain the predicted class. Where the data have no masks there is nothing on maps.
    """
    prediction = predict(model, data, rows)
    label = data.label[rows]
    confounders = {factor: data.confounders[factor][rows] for factor in factors}
    groups = metrics.group_accuracy(
        prediction.label, label, confounders, classes=data.classes, levels=data.levels
    )
    group = metrics.group_numbers(label, confounders, levels=data.levels)
    worst, n = metrics.worst_group(prediction.label, label, group)
    counts = prediction.label.bincount(minlength=len(data.classes)).tolist()
    return {
        "n": len(rows),
        "accuracy": _rounded(metrics.accuracy(prediction.label, label)),
        "worst_group": _rounded(worst),
        "worst_group_n": n,
        "groups": {
            name: own
            | {"accuracy": _rounded(own["accuracy"])}
            | ({"few": True} if own["n"] < FEW else {})
            for name, own in groups.items()
        },
        "predicted": dict(zip(data.classes, counts, strict=True)),
        **_where(prediction.cam, data, rows),
    }


def _where(cam: Tensor, data: Dataset, rows: Tensor) -> dict:
    if not data.masks:
        return {}
    masks = {name: torch.from_numpy(mask[rows.numpy()]) for name, mask in data.masks.items()}
    cam = upsample(cam, tuple(data.images.shape[1:]))
    shares = {name: metrics.region_share(cam, mask).nanmean() for name, mask in masks.items()}
    found: Mapping = {"region_share": {name: _rounded(s.item()) for name, s in shares.items()}}
    if "lungs" in masks:
        found = {
            "activation_precision": _rounded(metrics.activation_precision(cam, masks["lungs"])),
            "activation_precision_chance": _rounded(
                metrics.activation_precision_chance(masks["lungs"])
            ),
            **found,
        }
    return found


def _rounded(value: float) -> float | None:
    return None if isnan(value) else round(value, 4)
