"""What the features of a task hold of each spurious factor, whether or not the answer uses it."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from xbl_kit import metrics
from xbl_kit.data import Dataset, confound
from xbl_kit.losses import held_out_information
from xbl_kit.models import MultiHead
from xbl_kit.run.folder import Rows

PERMUTATIONS = {"linear": 100, "mlp": 10}
STEPS = 300  # of fitting the critic


def content(
    model: MultiHead,
    data: Dataset,
    rows: Int[Tensor, " n"],
    factors: Sequence[str],
    *,
    measures: Sequence[str] | None = None,
) -> dict:
    """What f_y holds of each factor in `rows`, where none tells of the class: {measure: {factor}}.

    Linear and MLP probes, the purity of its neighbourhoods, and I(f_y; z) in nats by a critic
    fitted on one half of the patients and read on the other; or those of `measures` alone.

    Raises ValueError for an unknown measure.
    """
    if unknown := set(measures or ()) - set(MEASURES):
        raise ValueError(f"measures {sorted(unknown)}: expected some of {', '.join(MEASURES)}")
    part, patient = read_parts(model, data, rows)[0][0], data.patient[rows]
    level = {factor: data.confounders[factor][rows] for factor in factors}
    return {
        name: {f: MEASURES[name](part, level[f], len(data.levels[f]), patient) for f in factors}
        for name in measures or MEASURES
    }


def _linear_probe(part: Tensor, level: Tensor, n_levels: int, patient: Tensor) -> dict:
    options = {"patient": patient, "permutations": PERMUTATIONS["linear"]}
    return _rounded(metrics.probe(part, level, kind="linear", **options))


def _mlp_probe(part: Tensor, level: Tensor, n_levels: int, patient: Tensor) -> dict:
    options = {"patient": patient, "permutations": PERMUTATIONS["mlp"]}
    return _rounded(metrics.probe(part, level, kind="mlp", **options))


def _purity(part: Tensor, level: Tensor, n_levels: int, patient: Tensor) -> dict:
    return _rounded(metrics.neighbour_purity(part, level))


def _nats(part: Tensor, level: Tensor, n_levels: int, patient: Tensor) -> float:
    one_hot, half = F.one_hot(level, n_levels).float(), patient % 2 == 0
    sides = [(part[side], one_hot[side]) for side in (half, ~half)]
    nats = held_out_information(*sides, steps=STEPS, negatives=4, hidden=64)
    return round(nats.item(), 4)


MEASURES = {
    "probe": _linear_probe,
    "probe_mlp": _mlp_probe,
    "purity": _purity,
    "information": _nats,
}


def spurious_accuracy(
    model: MultiHead, data: Dataset, rows: Rows, test: str, factors: Sequence[str]
) -> dict[str, dict[str, float]]:
    """How often each factor of split `test` is told: by its own head, and by "switched labels".

    "switched" is the test of MIMM's two-factor extension: the label's answer, read as the level
    that the answered class most often has in training, is scored against the factor. No probe:
    right answers are right half of the time, and the features may still hold the whole factor.
    """
    _, logits = read_parts(model, data, rows[test])
    answer = [one.argmax(dim=1) for one in logits]
    own = dict(zip(model.factors, answer[1:], strict=True))
    switched = {}
    for factor in factors:
        often = confound.measured(data, rows["train"], factor).argmax(axis=1)
        switched[factor] = torch.from_numpy(often)[answer[0]]
    return {
        name: _rounded(
            {f: metrics.accuracy(z, data.confounders[f][rows[test]]) for f, z in told.items()}
        )
        for name, told in (("spurious_accuracy", own), ("switched_accuracy", switched))
    }


@torch.no_grad()
def read_parts(
    model: MultiHead, data: Dataset, rows: Int[Tensor, " n"], *, batch_size: int = 256
) -> tuple[list[Float[Tensor, "n d"]], list[Float[Tensor, "n _"]]]:
    """Every task's part and logits for `rows`, on the CPU, in eval mode; the mode is kept."""
    was_training, device = model.training, model.mean.device
    model.eval()
    batches = [data[some].to(device) for some in rows.split(batch_size)]
    read = [model.tasks(model.encode(batch.image, batch.stem)) for batch in batches]
    model.train(was_training)
    parts, logits = zip(*read, strict=True)
    return tuple(
        [torch.cat(each).cpu() for each in zip(*side, strict=True)] for side in (parts, logits)
    )


def _rounded(found: Mapping[str, float]) -> dict[str, float]:
    return {key: round(value, 4) for key, value in found.items()}
