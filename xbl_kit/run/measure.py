"""A model measured: right or wrong, for whom, looking where, and what its features hold."""

from collections.abc import Mapping, Sequence
from functools import partial
from math import isfinite

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from xbl_kit import metrics
from xbl_kit.batch import Prediction
from xbl_kit.data import Dataset, confound
from xbl_kit.explain import upsample
from xbl_kit.losses import held_out_information
from xbl_kit.models import Classifier
from xbl_kit.run.splits import Rows
from xbl_kit.train import predict

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


def score(seen: Prediction, data: Dataset, rows: Tensor, factors: Sequence[str]) -> dict:
    """`evaluate` of what a model makes of `rows`."""
    label, named = data.label[rows], {"levels": data.levels}
    confounders = {factor: data.confounders[factor][rows] for factor in factors}
    group = metrics.group_numbers(label, confounders, **named)
    worst, n = metrics.worst_group(seen.label, label, group)
    groups = metrics.group_accuracy(seen.label, label, confounders, classes=data.classes, **named)
    counts = seen.label.bincount(minlength=len(data.classes)).tolist()
    found = {
        "n": len(rows),
        "accuracy": metrics.accuracy(seen.label, label),
        "worst_group": worst,
        "worst_group_n": n,
        "groups": {k: v | ({"few": True} if v["n"] < FEW else {}) for k, v in groups.items()},
        "predicted": dict(zip(data.classes, counts, strict=True)),
        "parts": _parts(seen.label, data, rows),
    }
    return rounded(found | _where(seen.cam, data, rows))


def _parts(said: Tensor, data: Dataset, rows: Tensor) -> dict[str, dict]:
    """Accuracy by class and, where the `site` is known, by source: {"site=NIH": ...}."""
    label = data.label[rows]
    columns = {"label": (data.classes, label)}
    if "site" in data.confounders:
        columns["site"] = data.levels["site"], data.confounders["site"][rows]
    return {
        f"{column}={name}": {
            "n": int((own == number).sum()),
            "accuracy": metrics.accuracy(said[own == number], label[own == number]),
        }
        for column, (names, own) in columns.items()
        for number, name in enumerate(names)
        if (own == number).any()
    }


def corrected(seen: Prediction, logits: Tensor, rows: Tensor) -> Prediction:
    """What a model makes of some rows, with other logits, which its maps do not explain."""
    parts, others = [p[rows] for p in seen.parts], {f: z[rows] for f, z in seen.others.items()}
    return Prediction(logits[rows], None, parts, others)


def _where(cam: Tensor | None, data: Dataset, rows: Tensor) -> dict:
    """How much of the maps lies in each region, and their precision in the first."""
    if not data.masks or cam is None:
        return {}
    masks = {name: torch.from_numpy(mask[rows.numpy()]) for name, mask in data.masks.items()}
    cam, first = upsample(cam, tuple(data.images.shape[1:])), next(iter(masks.values()))
    shares = {name: metrics.region_share(cam, mask).nanmean() for name, mask in masks.items()}
    return {
        "activation_precision": metrics.activation_precision(cam, first),
        "activation_precision_chance": metrics.activation_precision_chance(first),
        "region_share": {name: share.item() for name, share in shares.items()},
    }


def told(seen: Prediction, data: Dataset, rows: Rows, test: str, factors: Sequence[str]) -> dict:
    """How often each factor of split `test` is told: by its own head, and by "switched labels".

    "switched" is the test of MIMM's two-factor extension: the label's answer, read as the level
    that the answered class most often has in training, is scored against the factor. No probe:
    right answers are right half of the time, and the features may still hold the whole factor.
    """
    own = {factor: logits.argmax(dim=1) for factor, logits in seen.others.items()}
    often = {f: confound.measured(data, rows["train"], f).argmax(axis=1) for f in factors}
    switched = {factor: torch.from_numpy(level)[seen.label] for factor, level in often.items()}
    level = {factor: data.confounders[factor][rows[test]] for factor in factors}
    return {
        f"{name}_accuracy": rounded({f: metrics.accuracy(z, level[f]) for f, z in said.items()})
        for name, said in (("spurious", own), ("switched", switched))
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
    place of those of `MEASURES`; all by default: linear and MLP probes, the purity of its
    neighbourhoods, and I(f_y; z) in nats by a critic fitted on one half of the patients and read on
    the other. Raises ValueError for an unknown measure.
    """
    chosen = {name: {} for name in MEASURES} if measures is None else measures
    if unknown := set(chosen) - set(MEASURES):
        raise ValueError(f"measures {sorted(unknown)}: expected some of {', '.join(MEASURES)}")
    level, patient = {f: data.confounders[f][rows] for f in factors}, data.patient[rows]
    return rounded(
        {
            name: {f: MEASURES[name](part, level[f], patient=patient, **how) for f in factors}
            for name, how in chosen.items()
        }
    )


def _nats(part: Tensor, level: Tensor, patient: Tensor, **options) -> float:
    one_hot, half = F.one_hot(level).float(), patient % 2 == 0
    sides = [(part[side], one_hot[side]) for side in (half, ~half)]
    return held_out_information(*sides, **options).item()


MEASURES = {
    "probe": partial(metrics.probe, permutations=100),
    "probe_mlp": partial(metrics.probe, kind="mlp", permutations=10),
    "purity": lambda part, level, patient: metrics.neighbour_purity(part, level),
    "information": partial(_nats, steps=300, negatives=4, hidden=64),
}


def rounded(found: object) -> object:
    """Figures as results.json has them: four digits, None for what is no number."""
    if isinstance(found, dict):
        return {key: rounded(value) for key, value in found.items()}
    if isinstance(found, float):
        return round(found, 4) if isfinite(found) else None
    return found
