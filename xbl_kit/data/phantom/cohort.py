"""A cohort of phantom patients, as a data set like any other."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from xbl_kit.data.cells import lay_out
from xbl_kit.data.dataset import Dataset
from xbl_kit.data.phantom.draw import CLASSES, FACTORS, LINE, Column, Drawing, make_phantoms

LEVELS = FACTORS | {"line": LINE}
PER_CELL = {"train": 400, "val": 100, "test": 100}


def open_phantoms(
    *,
    per_cell: Mapping[str, int | np.ndarray] = PER_CELL,
    crossed: Sequence[str] = ("age",),
    **drawing: float | int | None,
) -> Dataset:
    """Phantoms enough to draw any bias from: `per_cell` patients of each cell, in each split.

    A cell is a class with a level of every `crossed` factor; the other factors are drawn at
    random, half and half, but for the "line", which nobody has where it is not crossed.
    `per_cell` is one number for all cells or an array (class, levels, ...). One image a patient.
    `drawing` are options of `Drawing`. With one number the cohort has no bias of its own;
    `confound.sample_rows` makes one.

    Raises ValueError for a factor that is not known or a value that `Drawing` refuses.
    """
    levels = LEVELS if "line" in crossed else FACTORS
    seed = Drawing(**drawing).seed
    columns = lay_out(per_cell, crossed, len(CLASSES), levels, seed=seed)
    split = columns.pop("split")
    return _draw(columns | {"patient": np.arange(len(split))}, split, **drawing)


def redraw(data: Dataset, rows: Int[Tensor, " n"], *, seed: int = 0, **changed: Column) -> Dataset:
    """The phantoms of some rows drawn again, alike bit for bit but for what `changed` says.

    `changed` are other levels, one or (n,), of `growth_plate`, `age`, `sex`, `site` or `line`.
    Each new image makes a counterfactual pair with its old one. `seed`, and `severity` and
    `proportions` where they were given, are those that the cohort was drawn with.

    Raises ValueError where `data` are not the phantoms drawn so.
    """
    how = {"seed": seed, "size": data.images.shape[1]}
    how |= {name: changed.pop(name) for name in ("severity", "proportions") if name in changed}
    batch, image = data[rows], data.images[rows[:1].numpy()]
    known = {"label": batch.label, "patient": batch.patient, **batch.confounders}
    first = {name: column[:1] for name, column in known.items()}
    if set(FACTORS) - set(first) or (make_phantoms(**first, **how).image != image).any():
        given = ", ".join(f"{name} {value}" for name, value in how.items())
        raise ValueError(f"these are not the phantoms of {given}, so they cannot be redrawn")
    return _draw(known | changed, **how)


def _draw(
    columns: Mapping[str, Column], split: np.ndarray | None = None, **drawing: float | int | None
) -> Dataset:
    """The data set of the patients that `make_phantoms` draws from some columns."""
    drawn = make_phantoms(**columns, **drawing)
    n = len(drawn.image)
    column = {name: torch.as_tensor(values).expand(n) for name, values in columns.items()}
    levels = {factor: names for factor, names in LEVELS.items() if factor in column}
    return Dataset(
        images=drawn.image,
        label=column["label"],
        classes=CLASSES,
        patient=column["patient"],
        confounders={factor: column[factor] for factor in levels},
        levels=levels,
        masks={"lungs": drawn.lungs, "humerus": drawn.humerus},
        split=split,
    )
