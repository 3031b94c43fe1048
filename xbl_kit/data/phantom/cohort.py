"""A cohort of phantom patients, as a data set like any other."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from xbl_kit.data.confound import lay_out
from xbl_kit.data.dataset import Dataset
from xbl_kit.data.phantom.draw import CLASSES, FACTORS, LEVELS, Column, Drawing, make_phantoms
from xbl_kit.digests import code_digest, digest, kept_array
from xbl_kit.storage import cache_folder

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
    `confound.sample_rows` makes one. What was drawn once is kept in the cache.

    Raises ValueError for a factor that is not known or a value that `Drawing` refuses.
    """
    levels = LEVELS if "line" in crossed else FACTORS
    columns = lay_out(per_cell, crossed, len(CLASSES), levels, seed=Drawing(**drawing).seed)
    split = columns.pop("split")
    columns |= {"patient": np.arange(len(split))}
    return _dataset(columns, _kept(columns, drawing), split)


def redraw(data: Dataset, rows: Int[Tensor, " n"], *, seed: int = 0, **changed: Column) -> Dataset:
    """The phantoms of some rows drawn again, alike bit for bit but for what `changed` says.

    `changed` are other levels, one or (n,), of `growth_plate`, `age`, `sex`, `site` or `line`.
    Each new image makes a counterfactual pair with its old one. `seed`, and `severity` and
    `proportions` where they were given, are those that the cohort was drawn with.

    Raises ValueError where `data` are not the phantoms drawn so: one of each kind is compared.
    """
    how = {"seed": seed, "size": data.images.shape[1]}
    how |= {name: changed.pop(name) for name in ("severity", "proportions") if name in changed}
    old = data[rows]
    known = {"label": old.label, "patient": old.patient, **old.confounders}
    some = np.unique(np.stack([old.label, *old.confounders.values()]), axis=1, return_index=True)[1]
    each = {name: column[some] for name, column in known.items()}
    image = data.images[rows[some].numpy()]
    if set(FACTORS) - set(known) or (make_phantoms(**each, **how).image != image).any():
        raise ValueError(f"not the phantoms of seed {seed} ({how}): expected how they were drawn")
    return _dataset(known | changed, make_phantoms(**known | changed, **how))


def _kept(columns: dict[str, np.ndarray], how: dict) -> Sequence[np.ndarray]:
    """`make_phantoms` from the cache, where the same code drew the same before."""
    drawing, known = Drawing(**how | {"threads": 1}), [x for pair in columns.items() for x in pair]
    key = digest(code_digest(Path(__file__).parent), repr(drawing), *known)
    path = cache_folder() / "phantoms" / f"{key}.npy"
    shape = 2, len(columns["patient"]), drawing.size, drawing.size

    @cache
    def drawn() -> np.ndarray:
        image, lungs, humerus = make_phantoms(**columns, **how)
        return np.stack([image, lungs + 2 * humerus.view(np.uint8)])

    try:
        found = kept_array(path, shape, np.uint8, lambda file: file.write(drawn()), what="phantoms")
        planes = np.array(found)
    except OSError:  # nothing is lost but time
        planes = drawn()
    return planes[0], (planes[1] & 1).view(bool), planes[1] > 1


def _dataset(
    columns: dict[str, Column], drawn: Sequence[np.ndarray], split: np.ndarray | None = None
) -> Dataset:
    """The data set of the patients whose images, lungs and humeri were drawn from some columns."""
    image, lungs, humerus = drawn
    column = {name: torch.as_tensor(x).expand(len(image)) for name, x in columns.items()}
    levels = {factor: names for factor, names in LEVELS.items() if factor in column}
    return Dataset(
        images=image,
        label=column["label"],
        classes=CLASSES,
        patient=column["patient"],
        confounders={factor: column[factor] for factor in levels},
        levels=levels,
        masks={"lungs": lungs, "humerus": humerus},
        split=split,
    )
