"""The data of an experiment, and the rows of each of its splits."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from xbl_kit.data import Dataset, confound, open_dataset
from xbl_kit.data.confound import Splits as Rows
from xbl_kit.data.confound import Tables
from xbl_kit.methods.base import NOTHING
from xbl_kit.pick import warn_of_other_sources

Levels = Mapping[str, Sequence[int]]  # of each factor, the level that each class prefers

FRACTIONS = {
    "exbl": {"train": 0.6, "val": 0.2, "test": 0.2},
    "mimm-x": {"train": 0.6, "val": 0.1, "test": 0.3},
}


def draw_cohort(
    preferred: Levels, per_class: Mapping[str, int], *, strength: float, size: int, seed: int = 0
) -> tuple[Dataset, Rows]:
    """Phantoms that are trained on with each class of its `preferred` age at `strength`; 1 is all.

    "iid" has the same bias, "balanced" has none, "inverted" the opposite, "counter" are healthy
    children, and the oracle trains on "oracle_train", exactly `per_class` images each.
    """
    data = open_dataset("phantom", per_cell=per_class, size=size, seed=seed)
    pool = confound.split_patients(data, FRACTIONS["exbl"])
    bias = {f: confound.biased(levels, strength=strength) for f, levels in preferred.items()}
    rows = _sampled(data, pool, bias, per_class, seed)
    normal = data.label[pool["test"]] == data.classes.index("Normal")
    child = data.confounders["age"][pool["test"]] == data.levels["age"].index("child")
    return data, rows | {"counter": pool["test"][normal & child]}


def split_rows(data: Dataset, *, seed: int = 0) -> Rows:
    """Rows of data that are as they are: train, val, iid, and as "counter" those so marked.

    The given splits are taken where there are some; patients are kept apart.
    """
    rows = confound.split_patients(data, FRACTIONS["exbl"], seed=seed)
    rows["iid"] = rows.pop("test")
    if data.counter is not None and data.counter.any():
        rows["counter"] = data.counter.nonzero()[:, 0]
    return rows


def make_confounded(
    kind: str,
    root: str | Path | None,
    *,
    preferred: Levels,
    per_class: Mapping[str, int],
    strength: float,
    seed: int = 0,
    **drawing,
) -> tuple[Dataset, Rows]:
    """Data that are drawn to measure: each class shows its `preferred` levels at `strength`.

    No more is drawn than is used. The splits are those of `splits_of`, exactly `per_class` each;
    `drawing`, such as the `size`, goes to `open_dataset`.
    """
    bias = {f: confound.biased(levels, strength=strength) for f, levels in preferred.items()}
    per_cell: dict[str, np.ndarray] = {}
    for split, tables in splits_of(bias).values():
        counts = confound.cell_counts(per_class[split], tables)
        per_cell[split] = np.maximum(per_cell.get(split, 0), counts)
    crossed = {"per_cell": per_cell, "crossed": tuple(preferred)}
    data = open_dataset(kind, root, **crossed, seed=seed, **drawing)
    pool = confound.split_patients(data, dict.fromkeys(per_cell, 1 / 3))
    return data, _sampled(data, pool, bias, per_class, seed)


def _sampled(
    data: Dataset, pool: Rows, bias: Tables, per_class: Mapping[str, int], seed: int
) -> Rows:
    return {
        name: confound.sample_rows(data, pool[split], per_class[split], tables, seed=seed)
        for name, (split, tables) in splits_of(bias).items()
    }


def find_confounded(
    data: Dataset, factors: Sequence[str], *, strength: float | None, seed: int = 0
) -> Rows:
    """Rows of data that are as they are: biased at `strength`, or by nature with None.

    A class's preferred level of a factor is the one it has more often than the classes have on
    average. Images with an unknown level of one of the `factors` are left out, and no patient is
    in two splits. Each split is as large as its pool allows, but for the oracle's, which is not
    larger than what the others train on.

    Raises ValueError where a pool has no image of a cell that is needed.
    """
    known = np.logical_and.reduce([data.confounders[f].numpy() >= 0 for f in factors])
    pool = {
        name: rows[known[rows.numpy()]]
        for name, rows in confound.split_patients(data, FRACTIONS["mimm-x"], seed=seed).items()
    }
    nature = {f: confound.measured(data, pool["train"], f) for f in factors}
    bias = nature
    if strength is not None:
        bias = {f: confound.biased(_leaning(t), t.shape[1], strength) for f, t in nature.items()}
    rows: Rows = {}
    for name, (split, tables) in splits_of(bias).items():
        if strength is None and tables is bias:
            rows[name] = pool[split]
            continue
        most = confound.most_per_class(data, pool[split], tables)
        if name.startswith("oracle"):
            most = min(most, len(rows[split]) // len(data.classes))
        rows[name] = confound.sample_rows(data, pool[split], most, tables, seed=seed)
    return rows


def draw_images(
    data: Dataset, rows: Rows, images: int, unlabelled: int, *, biased: int, seed: int = 0
) -> tuple[Tensor, Tensor, Rows]:
    """Rows of `images` that break the bias, or of an `unlabelled` pool, and what is left of `rows`.

    The images are drawn from "counter", one a patient, none of the `biased` class, and where a
    `site` is known from that class's own sites: others would be told by the site alone. Half of the
    pool is drawn so, half of the biased class in "iid". No patient of these is tested on.

    Raises ValueError where there are too few.
    """
    own = data.label == biased
    counter = rows["counter"][~own[rows["counter"]]]
    ill = rows["iid"][own[rows["iid"]]]
    if "site" in data.confounders:
        site = data.confounders["site"]
        same = torch.isin(site[counter], site[rows["train"][own[rows["train"]]]])
        warn_of_other_sources(data, biased)
        counter = counter[same] if same.any() else counter
    wanted = {"counter": (counter, images or unlabelled // 2)}
    wanted |= {"iid": (ill, unlabelled - unlabelled // 2)} if unlabelled else {}
    drawn = []
    for name, (some, n) in wanted.items():
        one_each = _one_a_patient(data, some, seed)
        if len(one_each) <= n:
            have = f"{name!r} has {len(one_each)} patients to draw {n} from, and to test on"
            raise ValueError(f"{have}; give fewer images")
        drawn.append(one_each[:n])
    patients = data.patient[torch.cat(drawn)]
    left = {name: some[~torch.isin(data.patient[some], patients)] for name, some in rows.items()}
    return (NOTHING, torch.cat(drawn), left) if unlabelled else (drawn[0], NOTHING, left)


def _one_a_patient(data: Dataset, rows: Tensor, seed: int) -> Tensor:
    """The rows in an order drawn by `seed`, without further images of a patient."""
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))]
    _, first = np.unique(data.patient[rows].numpy(), return_index=True)
    return rows[np.sort(first)]


def splits_of(bias: Tables) -> dict[str, tuple[str, Tables]]:
    """The splits of the experiment: from which pool, and with which P(level | class).

    "inverted" has the bias turned round; the oracle trains on "oracle_train".
    """
    even = {f: confound.balanced(*table.shape) for f, table in bias.items()}
    return {
        "train": ("train", bias),
        "val": ("val", bias),
        "oracle_train": ("train", even),
        "oracle_val": ("val", even),
        "iid": ("test", bias),
        "balanced": ("test", even),
        "inverted": ("test", {f: confound.inverted(table) for f, table in bias.items()}),
    }


def _leaning(table: np.ndarray) -> list[int]:
    """Each class's preferred level; taken in turn where all classes have all levels as often."""
    excess = table - table.mean(axis=0)
    in_turn = np.arange(len(table)) % table.shape[1]
    return (in_turn if np.allclose(excess, 0) else excess.argmax(axis=1)).tolist()
