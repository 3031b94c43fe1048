"""A model measured: right or wrong, for whom, looking where, and what its features hold."""

from collections.abc import Mapping, Sequence
from functools import partial
from math import isnan

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from xbl_kit import metrics
from xbl_kit.data import Dataset, confound
from xbl_kit.explain import upsample
from xbl_kit.losses import held_out_information
from xbl_kit.models import Classifier
from xbl_kit.run.splits import Rows
from xbl_kit.train import Prediction, predict

FEW = 10  # images; in a smaller group one of them moves the accuracy by more than .1


def evaluate(
    model: Classifier, data: Dataset, rows: Int[Tensor, " n"], factors: Sequence[str] = ()
) -> dict:
    """What `results.json` holds of one model on one split; groups are class x `factors`.

    The worst group is one of those whose every level is known, and its n stands beside it; groups
    of fewer than `FEW` images are marked "few". The maps explain the predicted class. Where the
    data have no masks there is nothing on maps.
    """
    return score(predict(model, data, rows), data, rows, factors)


def score(prediction: Prediction, data: Dataset, rows: Tensor, factors: Sequence[str]) -> dict:
    """`evaluate` of what was predicted for `rows`."""
    label, said = data.label[rows], prediction.label
    confounders = {factor: data.confounders[factor][rows] for factor in factors}
    groups = metrics.group_accuracy(
        said, label, confounders, classes=data.classes, levels=data.levels
    )
    group = metrics.group_numbers(label, confounders, levels=data.levels)
    worst, n = metrics.worst_group(said, label, group)
    for own in groups.values():
        own["accuracy"] = _rounded(own["accuracy"])
        if own["n"] < FEW:
            own["few"] = True
    counts = said.bincount(minlength=len(data.classes)).tolist()
    return {
        "n": len(rows),
        "accuracy": _rounded(metrics.accuracy(said, label)),
        "worst_group": _rounded(worst),
        "worst_group_n": n,
        "groups": groups,
        "predicted": dict(zip(data.classes, counts, strict=True)),
        **_where(prediction.cam, data, rows),
    }


def _where(cam: Tensor, data: Dataset, rows: Tensor) -> dict:
    """How much of the maps lies in each region, and their precision in the first."""
    if not data.masks:
        return {}
    masks = {name: torch.from_numpy(mask[rows.numpy()]) for name, mask in data.masks.items()}
    cam = upsample(cam, tuple(data.images.shape[1:]))
    shares = {name: metrics.region_share(cam, mask).nanmean() for name, mask in masks.items()}
    first = next(iter(masks.values()))
    return {
        "activation_precision": _rounded(metrics.activation_precision(cam, first)),
        "activation_precision_chance": _rounded(metrics.activation_precision_chance(first)),
        "region_share": {name: _rounded(share.item()) for name, share in shares.items()},
    }


def told(
    predictions: Mapping[str, Prediction], data: Dataset, rows: Rows, factors: Sequence[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """How often each factor is told in each split: by its own head, and by "switched labels".

    "switched" is the test of MIMM's two-factor extension: the label's answer, read as the level
    that the answered class most often has in training, is scored against the factor. No probe:
    right answers are right half of the time, and the features may still hold the whole factor.
    """
    often = {
        factor: torch.from_numpy(confound.measured(data, rows["train"], factor).argmax(axis=1))
        for factor in factors
    }

    def right(test: str, answers: Mapping[str, Tensor]) -> dict[str, float]:
        level = {factor: data.confounders[factor][rows[test]] for factor in answers}
        return {f: _rounded(metrics.accuracy(z, level[f])) for f, z in answers.items()}

    return {
        test: {
            "spurious_accuracy": right(
                test, {f: logits.argmax(dim=1) for f, logits in seen.others.items()}
            ),
            "switched_accuracy": right(
                test, {f: levels[seen.label] for f, levels in often.items()}
            ),
        }
        for test, seen in predictions.items()
    }


def content(
    part: Float[Tensor, "n d"],
    data: Dataset,
    rows: Int[Tensor, " n"],
    factors: Sequence[str],
    measures: Mapping[str, Mapping] | None = None,
) -> dict:
    """What f_y, the `part` of `rows`, holds of each factor: {measure: {factor: figures}}.

    In `rows` no factor should tell of the class. `measures` names those to take, with options in
    place of `CONTENT`'s; all by default: linear and MLP probes, the purity of its neighbourhoods,
    and I(f_y; z) in nats by a critic fitted on one half of the patients and read on the other.
    Raises ValueError for an unknown measure.
    """
    if unknown := set(measures or ()) - set(CONTENT):
        raise ValueError(f"measures {sorted(unknown)}: expected some of {', '.join(CONTENT)}")
    chosen, patient = CONTENT if measures is None else measures, data.patient[rows]
    return {
        name: {
            f: MEASURES[name](part, data.confounders[f][rows], patient, **CONTENT[name] | options)
            for f in factors
        }
        for name, options in chosen.items()
    }


def _probe(part: Tensor, level: Tensor, patient: Tensor, **options) -> dict[str, float]:
    found = metrics.probe(part, level, patient=patient, **options)
    return {key: _rounded(value) for key, value in found.items()}


def _purity(part: Tensor, level: Tensor, patient: Tensor) -> dict[str, float]:
    return {key: _rounded(value) for key, value in metrics.neighbour_purity(part, level).items()}


def _nats(part: Tensor, level: Tensor, patient: Tensor, **options) -> float:
    one_hot, half = F.one_hot(level).float(), patient % 2 == 0
    sides = [(part[side], one_hot[side]) for side in (half, ~half)]
    return round(held_out_information(*sides, **options).item(), 4)


CONTENT = {
    "probe": {"permutations": 100},
    "probe_mlp": {"permutations": 10},
    "purity": {},
    "information": {"steps": 300, "negatives": 4, "hidden": 64},
}
MEASURES = {
    "probe": partial(_probe, kind="linear"),
    "probe_mlp": partial(_probe, kind="mlp"),
    "purity": _purity,
    "information": _nats,
}


def read_parts(
    model: Classifier, data: Dataset, rows: Int[Tensor, " n"]
) -> tuple[list[Float[Tensor, "n d"]], list[Float[Tensor, "n _"]]]:
    """Every task's part and logits for `rows`, the label's first; see `train.predict`."""
    seen = predict(model, data, rows)
    return seen.parts, [seen.logits, *seen.others.values()]


def _rounded(value: float) -> float | None:
    return None if isnan(value) else round(value, 4)
