"""Corrections after training that fit the last layer anew, on the features as they are."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from xbl_kit.methods.base import Known
from xbl_kit.models import Classifier


def dfr(
    model: Classifier, known: Known, *, refits: int = 10, c: float = 1.0
) -> Float[Tensor, "n k"]:
    """Deep feature reweighting: a last layer refitted `refits` times on balanced groups, averaged.

    Kirichenko et al. 2023, "DFR-Tr": features standardised on the training rows, l1-penalised
    logistic regression on as many rows of each group as the smallest has, drawn anew for each
    refit (liblinear). The groups are the classes, and the images that break the bias are one more.
    Ours: each class against the rest, where the paper has two, and `c`, the inverse penalty, is
    fixed at the weakest of its grid. It is tuned there on held-out groups, which a few images leave
    none of; on three rows a group a stronger one leaves no feature.

    Gives the logits of every row of the data. Raises ValueError where no images are given.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.preprocessing import StandardScaler

    if not len(known.images):
        raise ValueError("dfr: 0 images that break the bias, expected at least 1")
    rows = known.rows[~torch.isin(known.rows, known.images)]
    label = known.data.label.numpy()
    groups = [rows[known.data.label[rows] == y].numpy() for y in known.data.label[rows].unique()]
    groups.append(known.images.numpy())
    x = known.before.parts[0].flatten(1).double().numpy()
    x = StandardScaler().fit(x[np.concatenate(groups)]).transform(x)
    random, size = np.random.default_rng(known.seed), min(map(len, groups))
    total = np.zeros((len(x), len(known.data.classes)))
    one_class = LogisticRegression(C=c, solver="liblinear", random_state=0)
    # Before scikit-learn 1.8 the penalty has a name, since then it is a share.
    named = one_class.get_params().get("penalty") == "l2"
    one_class.set_params(**({"penalty": "l1"} if named else {"l1_ratio": 1.0}))
    for _ in range(refits):
        some = np.concatenate([random.permutation(group)[:size] for group in groups])
        layer = OneVsRestClassifier(one_class).fit(x[some], label[some])
        scores = layer.decision_function(x)
        both = scores if scores.ndim == 2 else np.stack([-scores / 2, scores / 2], axis=1)
        total[:, layer.classes_] += both / refits
    return torch.from_numpy(total).float()
