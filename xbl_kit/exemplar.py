"""The record of a person's feedback: good explanations and bad ones."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

_FIELDS = ("image", "cam", "index", "label")


@dataclass(frozen=True)
class Explained:
    """k images and their raw Grad-CAM maps, with row numbers and class names.

    The maps keep the resolution of the features they come from, un-normalised, so that a loss may
    choose how to scale them.
    """

    image: Float[Tensor, "k 1 h w"]
    cam: Float[Tensor, "m p q"]
    index: tuple[int, ...]
    label: tuple[str, ...]

    def __post_init__(self):
        sizes = {len(getattr(self, field)) for field in _FIELDS}
        if len(sizes) != 1 or 0 in sizes:
            raise ValueError(
                f"an explanation needs as many maps, rows and labels as images, and at least one; "
                f"got {', '.join(f'{field} {len(getattr(self, field))}' for field in _FIELDS)}"
            )


@dataclass(frozen=True)
class Exemplar:
    """Good and bad explanations to refine a model with (Hagos et al. 2023, eq. 4-5).

    `picked_by` says who chose them: "auto" or "person". One pair is what the paper uses; several
    of either kind are allowed. Saved as one `.npz` file that needs no pickle to be read.
    """

    good: Explained
    bad: Explained
    picked_by: str = "person"

    def save(self, path: str | Path) -> None:
        """Write the exemplar to `path` (.npz), images and maps included.

        Raises FileExistsError where an automatic pick would replace one that a person made.
        """
        if self.picked_by == "auto" and picked_by_person(path):
            raise FileExistsError(
                f"{path}: picked by a person, and an automatic pick does not replace it; "
                "use it with Exemplar.load, or save under another name"
            )
        arrays: dict[str, np.ndarray] = {"picked_by": np.array(self.picked_by)}
        for side in ("good", "bad"):
            for field in _FIELDS:
                value = getattr(getattr(self, side), field)
                arrays[f"{side}_{field}"] = (
                    value.numpy(force=True) if isinstance(value, Tensor) else np.array(value)
                )
        with Path(path).open("wb") as handle:
            np.savez_compressed(handle, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> "Exemplar":
        """Read what `save` wrote; ValueError names the file where it is something else."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                sides = {side: _read_side(arrays, side) for side in ("good", "bad")}
                return cls(**sides, picked_by=str(arrays["picked_by"]))
        except FileNotFoundError:
            raise FileNotFoundError(f"{path}: no such exemplar file") from None
        except (OSError, KeyError, ValueError, EOFError) as error:
            raise ValueError(f"{path}: not an exemplar saved by Exemplar.save ({error})") from error

    def summary(self) -> dict:
        """Who picked, and which rows and labels, for `results.json`."""
        sides = {"good": self.good, "bad": self.bad}
        return {"picked_by": self.picked_by} | {
            name: {"index": side.index[0], "label": side.label[0]}
            if len(side.index) == 1
            else [{"index": i, "label": c} for i, c in zip(side.index, side.label, strict=True)]
            for name, side in sides.items()
        }


def picked_by_person(path: str | Path) -> "Exemplar | None":
    """The exemplar in a file where a person picked it; None where there is no file, or the
    automatic ranking picked. ValueError names a file that is something else."""
    exemplar = Exemplar.load(path) if Path(path).exists() else None
    return exemplar if exemplar and exemplar.picked_by != "auto" else None


def _read_side(arrays, side: str) -> Explained:
    return Explained(
        image=torch.from_numpy(arrays[f"{side}_image"]),
        cam=torch.from_numpy(arrays[f"{side}_cam"]),
        index=tuple(int(i) for i in arrays[f"{side}_index"]),
        label=tuple(str(name) for name in arrays[f"{side}_label"]),
    )
