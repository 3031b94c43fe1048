"""What is measured: is it right, for whom, where did it look, and what do its features hold."""

import re
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xbl_kit.explain import require_one_size, widened

Numbers = Int[Tensor, " n"]


def accuracy(prediction: Numbers, label: Numbers) -> float:
    """Share of right predictions; NaN for none."""
    return (prediction == label).double().mean().item()


def group_accuracy(
    prediction: Numbers,
    label: Numbers,
    confounders: Mapping[str, Numbers],
    *,
    classes: Sequence[str],
    levels: Mapping[str, Sequence[str]],
) -> dict[str, dict]:
    """Number and accuracy of every group "class/level/..." that is there, sorted by name.

    An image whose level of a factor is not known (-1) is listed under level "unknown". In the name
    of a class or level / and \\ get a \\ before them, and so does a level called unknown: no two
    groups have one name.
    """
    escaped = partial(re.sub, r"(?=[/\\]|^unknown$)", r"\\")
    columns = [[escaped(classes[i]) for i in label.tolist()]]
    for factor, level in confounders.items():
        names = [*map(escaped, levels[factor]), "unknown"]  # which is where -1 points
        columns.append([names[i] for i in level.tolist()])
    right = pd.Series((prediction == label).tolist(), map("/".join, zip(*columns, strict=True)))
    groups = right.groupby(level=0).agg(["size", "mean"])
    return {name: {"n": int(n), "accuracy": float(a)} for name, n, a in groups.itertuples()}


def group_numbers(
    label: Numbers, confounders: Mapping[str, Numbers], *, levels: Mapping[str, Sequence[str]]
) -> Numbers:
    """The number of each image's group, a class with a level of every factor; -1 where a level
    is not known, so that no group can be told."""
    number, known = label.clone(), torch.ones_like(label, dtype=torch.bool)
    for factor, level in confounders.items():
        number, known = number * len(levels[factor]) + level, known & (level >= 0)
    return torch.where(known, number, -1)


def worst_group(prediction: Numbers, label: Numbers, group: Numbers) -> tuple[float, int]:
    """The lowest accuracy of any group (Sagawa et al. 2020), and how many images that group has.

    `group` numbers each image's group (`group_numbers`). Groups without images, and images of no
    known group (-1), are ignored; of groups alike the largest counts. (NaN, 0) where none is left.
    """
    right = (prediction == label).double()
    groups = [right[group == number] for number in group.unique() if number >= 0]
    lowest = min(groups, key=lambda own: (own.mean().item(), -len(own)), default=right[:0])
    return lowest.mean().item(), len(lowest)


def worst_group_accuracy(prediction: Numbers, label: Numbers, group: Numbers) -> float:
    """The lowest accuracy of any group, without its size: see `worst_group`.

    >>> right, group = torch.tensor([1, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
    >>> worst_group_accuracy(right, torch.ones_like(right), group)
    0.5
    """
    return worst_group(prediction, label, group)[0]


def activation_precision(
    cams: Float[Tensor, "n h w"], masks: Bool[Tensor, "n p q"], tau: float = 0.05
) -> float:
    """Mean share of a map's strongest pixels that lie in the mask (Hagos et al. 2023, eq. 9).

    The strongest pixels are those at or above the (1 - tau) quantile of their own map, so a map
    of one value selects every pixel and scores the mask's share of the image. NaN for no images.

    Raises ValueError for shapes that differ or a tau outside (0, 1].

    >>> cam, lungs = torch.tensor([[[9.0, 8.0, 1.0, 0.0]]]), torch.tensor([[[1, 0, 0, 0]]]) > 0
    >>> activation_precision(cam, lungs, tau=0.5)  # of the two strongest pixels one
    0.5
    """
    require_one_size(cams, masks)
    if not 0 < tau <= 1:
        raise ValueError(f"tau={tau}: expected a share in (0, 1], as 0.05 for the top 5 %")
    if not len(cams):
        return float("nan")
    shares = []
    for some, mask in zip(cams.split(64), masks.split(64), strict=True):
        some = widened(some)  # quantile takes no half precision
        threshold = some.flatten(1).quantile(1 - tau, dim=1)
        strongest = some >= threshold[:, None, None]
        shares.append((strongest & (mask != 0)).sum(dim=(1, 2)) / strongest.sum(dim=(1, 2)))
    return torch.cat(shares).double().mean().item()


def activation_precision_chance(masks: Bool[Tensor, "n h w"]) -> float:
    """What a map of random values scores on average: the mean share of the image in the mask."""
    return (masks != 0).double().mean().item()


def region_share(cams: Float[Tensor, "n h w"], masks: Bool[Tensor, "n p q"]) -> Float[Tensor, " n"]:
    """The share of each map's sum that lies in the mask; NaN for a map of zeros.

    Raises ValueError for shapes that differ.
    """
    require_one_size(cams, masks)
    cams = widened(cams)
    return (cams * (masks != 0)).sum(dim=(1, 2)) / cams.sum(dim=(1, 2))


def probe(
    features: Float[Tensor, "n d"],
    level: Numbers,
    *,
    patient: Numbers | None = None,
    kind: str = "linear",
    permutations: int = 40,
    seed: int = 0,
) -> dict[str, float]:
    """How well a classifier fitted on the features tells a factor's level on other patients.

    {"accuracy": share right, each half of the patients scored by a fit on the other, "null_95":
    95th percentile of the same with the levels shuffled}. Give it data in which the factor is
    balanced in every class: else telling the class tells the factor. `kind` is "linear" (logistic
    regression) or "mlp" (32 units). Images without a known level (-1) are left out.

    Raises ValueError for another kind, or levels of which one has fewer than two patients.

    >>> level = torch.arange(40) % 2
    >>> probe(level[:, None].float(), level)["accuracy"]  # features that are the factor
    1.0
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probes = {
        "linear": LogisticRegression(max_iter=1000),
        "mlp": MLPClassifier((32,), early_stopping=True, random_state=seed),
    }
    if kind not in probes:
        raise ValueError(f"kind={kind!r}: expected one of {', '.join(probes)}")
    known = (level >= 0).cpu()
    x, y = features[known].detach().cpu().float().numpy(), level[known].cpu().numpy()
    groups = np.arange(len(y)) if patient is None else patient[known].cpu().numpy()
    patients = [len(np.unique(groups[y == value])) for value in np.unique(y)]
    if len(patients) < 2 or min(patients) < 2:
        raise ValueError(f"levels with {patients} patients: expected 2 levels, 2 each")
    halves = StratifiedGroupKFold(2, shuffle=True, random_state=seed).split(x, y, groups)
    halves, model = list(halves), make_pipeline(StandardScaler(), probes[kind])

    def score(y: np.ndarray) -> float:
        return float((cross_val_predict(model, x, y, cv=halves) == y).mean())

    generator = np.random.default_rng(seed)
    null = [score(generator.permutation(y)) for _ in range(permutations)]
    return {"accuracy": score(y), "null_95": float(np.quantile(null, 0.95))}


def neighbour_purity(
    features: Float[Tensor, "n d"], level: Numbers, *, k: int = 10
) -> dict[str, float]:
    """{"purity": mean share of the k nearest neighbours that have an image's own level, "chance"}.

    Distances are Euclidean over standardised features; chance is the purity of shuffled levels.
    Raises ValueError for n <= k.
    """
    from sklearn.neighbors import NearestNeighbors

    if len(level) <= k:
        raise ValueError(f"{len(level)} images: expected more than k={k}")
    x = _standardised(features)
    _, near = NearestNeighbors(n_neighbors=k).fit(x).kneighbors()  # an image is not its own
    y = level.cpu().numpy()
    counts = np.unique(y, return_counts=True)[1]
    chance = (counts * (counts - 1)).sum() / (len(y) * (len(y) - 1))
    return {"purity": float((y[near] == y[:, None]).mean()), "chance": float(chance)}


def tsne(features: Float[Tensor, "n d"], *, seed: int = 0) -> Float[Tensor, "n 2"]:
    """The features, standardised, laid out on a plane by t-SNE (van der Maaten and Hinton 2008).

    Near points were near; distances between clusters and their sizes mean nothing. The perplexity
    is 30, or a quarter of the images where there are fewer than 120.
    Raises ValueError for fewer than five images.
    """
    from sklearn.manifold import TSNE

    if len(features) < 5:
        raise ValueError(f"{len(features)} images: expected at least 5")
    x = _standardised(features)
    plane = TSNE(perplexity=min(30, len(x) / 4), init="pca", random_state=seed).fit_transform(x)
    return torch.from_numpy(plane)


def _standardised(features: Tensor) -> np.ndarray:
    from sklearn.preprocessing import StandardScaler

    return StandardScaler().fit_transform(features.detach().cpu().float().numpy())
