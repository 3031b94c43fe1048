"""A cohort of phantom patients, as a data set like any other."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from xbl_kit.data.confound import lay_out
from xbl_kit.data.dataset import Dataset
from xbl_kit.data.phantom.draw import CLASSES, FACTORS, LINE, make_phantoms

LEVELS = FACTORS | {"line": LINE}
PER_CELL = {"train": 400, "val": 100, "test": 100}


def open_phantoms(
    *,
    per_cell: Mapping[str, int | np.ndarray] = PER_CELL,
    crossed: Sequence[str] = ("age",),
    size: int = 128,
    seed: int = 0,
    **drawing,
) -> Dataset:
    """Phantoms enough to draw any bias from: `per_cell` patients of each cell, in each split.

    A cell is a class with a level of every `crossed` factor; the other factors are drawn at
    random, half and half, but for the "line", which nobody has where it is not crossed.
    `per_cell` is one number for all cells or an array (class, levels, ...). One image a patient.
    `drawing` goes to `make_phantoms` (severity, proportions, threads). With one number the cohort
    has no bias of its own; `confound.sample_rows` makes one.

    Raises ValueError for a factor that is not known.
    """
    levels = LEVELS if "line" in crossed else FACTORS
    columns = lay_out(per_cell, crossed, len(CLASSES), levels, seed=seed)
    drawn = make_phantoms(
        columns["label"], **{f: columns[f] for f in levels}, seed=seed, size=size, **drawing
    )
    return Dataset(
        images=drawn.image,
        label=torch.from_numpy(columns["label"]),
        classes=CLASSES,
        patient=torch.arange(len(drawn.image)),
        confounders={factor: torch.from_numpy(columns[factor]) for factor in levels},
        levels=levels,
        masks={"lungs": drawn.lungs, "humerus": drawn.humerus},
        split=columns["split"],
    )


def redraw(data: Dataset, rows: Int[Tensor, " n"], *, seed: int = 0, **changed) -> Dataset:
    """The phantoms of some rows drawn again, alike bit for bit but for what `changed` says.

    `changed` goes to `make_phantoms`: other levels (n,) of `growth_plate`, `age`, `sex`, `site` or
    `line`.
    Each new image makes a counterfactual pair with its old one. `seed` is that of the cohort.

    Raises ValueError where `data` are not the phantoms of this seed.
    """
    batch = data[rows]
    known = {"label": batch.label, "patient": batch.patient, **batch.confounders}
    drawing = {"seed": seed, "size": data.images.shape[1]}
    first = {name: values[:1] for name, values in known.items()}
    if set(FACTORS) - set(first) or (
        len(rows) and (make_phantoms(**first, **drawing).image != data.images[rows[:1]]).any()
    ):
        raise ValueError(f"these are not the phantoms of seed {seed}, so they cannot be redrawn")
    drawn = make_phantoms(**known | changed, **drawing)
    columns = known | {name: torch.as_tensor(value) for name, value in changed.items()}
    levels = {factor: names for factor, names in LEVELS.items() if factor in columns}
    return Dataset(
        images=drawn.image,
        label=batch.label,
        classes=data.classes,
        patient=batch.patient,
        confounders={factor: columns[factor] for factor in levels},
        levels=levels,
        masks={"lungs": drawn.lungs, "humerus": drawn.humerus},
    )
