"""What every data set looks like once it is open."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from xbl_kit.batch import Batch


@dataclass(frozen=True, eq=False)
class Dataset:
    """n grey images of one size with their labels, and what else is known of each.

    `images` is (n, h, w) uint8, in memory or memory-mapped; `masks` maps a region to (n, h, w)
    bool. `label` and the `confounders` are int64 (n,), numbering `classes` and `levels[factor]`;
    -1 stands for a level that is not known. `patient` numbers the patients. `counter` marks images
    that break the bias and are never trained on. `split` is "" or one of train, val, test where
    the source fixes it. `data[rows]` gives a Batch.
    """

    images: np.ndarray
    label: Tensor
    classes: tuple[str, ...]
    patient: Tensor
    confounders: Mapping[str, Tensor] = field(default_factory=dict)
    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)
    counter: Tensor | None = None
    split: np.ndarray | None = None
    stem: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)

    def names(self, label: Tensor) -> list[str]:
        """The classes that some labels (n,) stand for."""
        return [self.classes[number] for number in label.tolist()]

    def __getitem__(self, rows: int | Sequence[int] | Tensor) -> Batch:
        rows = torch.atleast_1d(torch.as_tensor(rows, dtype=torch.int64, device="cpu"))
        at = rows.numpy()
        return Batch(
            image=torch.from_numpy(self.images[at])[:, None].float().div_(255),
            label=self.label[rows],
            confounders={name: level[rows] for name, level in self.confounders.items()},
            masks={name: torch.from_numpy(mask[at]) for name, mask in self.masks.items()},
            patient=self.patient[rows],
            index=rows,
            stem=None if self.stem is None else torch.from_numpy(self.stem[at]),
        )


def table_of(data: Dataset) -> pd.DataFrame:
    """The columns of a data set as text, the way a table has them: "" is a level not known."""
    names = {"label": data.classes, **data.levels}
    levels = {"label": data.label, **data.confounders}
    columns = {name: np.array([*names[name], ""])[level] for name, level in levels.items()}
    columns["patient"] = data.patient.numpy().astype(str)
    if data.split is not None and any(data.split):
        columns["split"] = data.split
    if data.counter is not None:
        columns["counter"] = data.counter.int().numpy().astype(str)
    return pd.DataFrame(columns)
