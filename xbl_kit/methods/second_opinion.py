"""A second opinion on one class of a trained model, from a few images of where it goes wrong."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xbl_kit.methods.base import Known
from xbl_kit.models import Classifier

Rows = Int[np.ndarray, " _"]
FOLDS = 5


def second_opinion(
    model: Classifier, known: Known, *, budget: float = 0.05, penalty: float = 0.1
) -> Float[Tensor, "n k"]:
    """The logits of the model before, but for images called `biased` that are not of its kind.

    Ours. A score on `known.statistics()`, of the network that all start with, tells rows of the
    biased class from the `images` given (see `unlike`). An image that is called biased and scores
    below all but a `budget` of those rows gets the class of the nearest image given, so that about
    `budget` of the class are lost, and no more. Of a `pool` without labels all that is called
    biased counts as given first; then, twice, what scored below, which is `counter_class`. It
    assumes that what is given comes from the source of the biased class. Close kin: reactive
    correction (Bareeva et al. 2024), DFR (Kirichenko et al. 2023), positive-unlabelled learning.

    Gives (n, k) for every row. Raises ValueError where nothing is given that can be told apart.
    """
    data, said, given = known.data, known.before.label, known.images
    own = torch.cat([known.rows, known.held_out])
    own = own[(data.label[own] == known.biased) & ~torch.isin(own, given)].numpy()
    if not len(given):
        given = known.pool[said[known.pool] == known.biased]
    if not len(given) or len(np.unique(data.patient[own])) < FOLDS:
        what = f"{len(given)} images given, and {len(own)} rows of {data.classes[known.biased]!r}"
        raise ValueError(f"second-opinion: {what}: expected at least 1, and those of 5 patients")
    z = known.statistics()
    z = (z - z[own].mean(axis=0)) / (z[own].std(axis=0) + 1e-6)
    share = penalty / max(1, len(known.images))
    below = unlike(z, own, data.patient[own].numpy(), given.numpy(), share, budget)
    for _ in range(0 if len(known.images) else 2):
        if below[given.numpy()].any():
            apart = given.numpy()[below[given.numpy()]]
            below = unlike(z, own, data.patient[own].numpy(), apart, penalty / 5, budget)
    nearest = torch.cdist(*(torch.from_numpy(x).float() for x in (z, z[given.numpy()]))).argmin(1)
    instead = data.label[given][nearest] if len(known.images) else known.counter_class
    return _swapped(known.before.logits, torch.from_numpy(below), known.biased, instead)


def unlike(
    z: Float[np.ndarray, "n p"],
    own: Rows,
    patient: Rows,
    others: Rows,
    penalty: float,
    budget: float,
) -> Bool[np.ndarray, " n"]:
    """Which rows of z score below the `budget` quantile of the rows `own`, of these patients.

    The score is w z / |w|, w by ridge regression with `penalty` * p to +1 on `own` and -1 on
    `others`, each side counting half. Its quantile is that of `own` scored out of fold by patient,
    so that no other image sets it.
    """
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GroupKFold

    def score(fitted: Rows) -> Float[np.ndarray, " n"]:
        sides = (fitted, 1.0), (others, -1.0)
        weight = np.concatenate([np.full(len(rows), 0.5 / len(rows)) for rows, _ in sides])
        target = np.concatenate([np.full(len(rows), side) for rows, side in sides])
        ridge = Ridge(penalty * z.shape[1]).fit(z[np.r_[fitted, others]], target, weight)
        return z @ (ridge.coef_ / np.linalg.norm(ridge.coef_))

    folds = GroupKFold(FOLDS).split(own, groups=patient)
    held_out = [score(own[fitted])[own[rest]] for fitted, rest in folds]
    return score(own) < np.quantile(np.concatenate(held_out), budget)


def _swapped(
    logits: Float[Tensor, "n k"], below: Bool[Tensor, " n"], biased: int, instead: Tensor | int
) -> Float[Tensor, "n k"]:
    """The logits with that of `biased`, where it is the largest and `below`, and of `instead`
    exchanged."""
    rows = (below & (logits.argmax(dim=1) == biased)).nonzero()[:, 0]
    other = instead[rows] if isinstance(instead, Tensor) else torch.full_like(rows, instead)
    swapped = logits.clone()
    swapped[rows, biased], swapped[rows, other] = logits[rows, other], logits[rows, biased]
    return swapped
