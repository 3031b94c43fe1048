"""The record of a person's feedback: good explanations and bad ones."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from unicodedata import normalize
from zipfile import ZipFile

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from xbl_kit.explain import widened
from xbl_kit.storage import write_beside, write_whole

MOST = 2**28  # bytes in an exemplar file: 1,000 images of 224 px
KINDS = {"image": ("f", 4), "cam": ("f", 3), "index": ("iu", 1), "label": ("U", 1)}


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
        for name in ("image", "cam"):  # numpy has no bfloat16
            object.__setattr__(self, name, widened(getattr(self, name)))
        sizes = {name: len(value) for name, value in vars(self).items()}
        if len(set(sizes.values())) != 1 or 0 in sizes.values():
            raise ValueError(
                f"an explanation needs as many maps, rows and labels as images, and at least one; "
                f"got {', '.join(f'{name} {size}' for name, size in sizes.items())}"
            )
        for name in ("image", "cam"):
            if not getattr(self, name).isfinite().all():
                raise ValueError(f"an explanation's {name} holds NaN or an infinite number")

    @classmethod
    def of(
        cls, image: Tensor, cam: Tensor, index: Tensor, label: Tensor, classes: Sequence[str]
    ) -> "Explained":
        """The same with rows and labels as tensors (k,), the labels numbering `classes`."""
        return cls(image, cam, tuple(index.tolist()), tuple(classes[i] for i in label.tolist()))


@dataclass(frozen=True)
class Exemplar:
    """Good and bad explanations to refine a model with (Hagos et al. 2023, eq. 4-5).

    `picked_by` says who chose them: "auto", "person" or a person's name. One pair is what the paper
    uses; several of either kind are allowed. Saved as one `.npz` file that needs no pickle.
    """

    good: Explained
    bad: Explained
    picked_by: str = "person"

    @property
    def tensors(self) -> list[Tensor]:
        """All images and maps."""
        return [tensor for side in (self.good, self.bad) for tensor in (side.image, side.cam)]

    def save(self, path: str | Path) -> None:
        """Write the exemplar to `path` (.npz), images and maps included.

        Raises FileExistsError where it would replace what another person picked, and ValueError
        where there is a file that is no exemplar.
        """
        if (other := picked_by_person(path)) and other.picked_by != self.picked_by:
            what = f"picked by {other.picked_by!r}, whom no other replaces; save under another name"
            raise FileExistsError(f"{path}: {what}")
        write_whole(path, self._content())

    def save_as(self, name: str, folder: str | Path) -> Path:
        """Write the exemplar to `folder`, picked by a person of this `name`; returns the file.

        It is NAME.npz, with what no file name may hold made a dash. Another's file of that name
        stays, and this one becomes NAME-1.npz, with a warning. Raises ValueError for no name.
        """
        name = normalize("NFC", " ".join(name.split()))[:60]
        file = re.sub(r"[^\w]+", "-", name).strip("-_")
        if not file or name.casefold() == "auto":
            what = "so the automatic ranking is called" if file else "expected letters or digits"
            raise ValueError(f"name {name!r}: {what}; choose another")
        named = replace(self, picked_by=name)
        return write_beside(Path(folder) / f"{file}.npz", named._content())

    def _content(self) -> bytes:
        """What the file holds."""
        arrays = {"picked_by": np.array(self.picked_by)}
        for side in ("good", "bad"):
            for name, value in vars(getattr(self, side)).items():
                is_tensor = isinstance(value, Tensor)
                arrays[f"{side}_{name}"] = value.numpy(force=True) if is_tensor else np.array(value)
        whole = BytesIO()
        np.savez_compressed(whole, **arrays)
        return whole.getvalue()

    @classmethod
    def load(cls, path: str | Path) -> "Exemplar":
        """Read what `save` wrote; ValueError names the file where it is something else."""
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such exemplar file")
        try:
            with ZipFile(path) as whole:
                if (size := sum(part.file_size for part in whole.infolist())) > MOST:
                    raise ValueError(f"{size:,} bytes, expected at most {MOST:,}")
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                sides = {side: _read_side(arrays, side) for side in ("good", "bad")}
                return cls(**sides, picked_by=_read(arrays, "picked_by", "U", 0).item())
        except Exception as error:
            why = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{path}: not an exemplar saved by Exemplar.save ({why})") from error

    def summary(self) -> dict:
        """Who picked, and which rows and labels, for `results.json`."""
        told: dict = {"picked_by": self.picked_by}
        for name, side in (("good", self.good), ("bad", self.bad)):
            rows = zip(side.index, side.label, strict=True)
            picks = [{"index": index, "label": label} for index, label in rows]
            told[name] = picks[0] if len(picks) == 1 else picks
        return told


def picked_by_person(path: str | Path) -> "Exemplar | None":
    """The exemplar in a file where a person picked it; None where there is no file, or the
    automatic ranking picked. ValueError names a file that is something else."""
    exemplar = Exemplar.load(path) if Path(path).exists() else None
    return exemplar if exemplar and exemplar.picked_by != "auto" else None


def _read(arrays, name: str, kinds: str, dimensions: int) -> np.ndarray:
    array = arrays[name]
    if array.dtype.kind not in kinds or array.ndim != dimensions:
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape}")
    return array


def _read_side(arrays, side: str) -> Explained:
    found = {name: _read(arrays, f"{side}_{name}", *kind) for name, kind in KINDS.items()}
    image, cam = (torch.from_numpy(found[name].astype(np.float32)) for name in ("image", "cam"))
    grey = image.shape[1] == 1 and image.numel() and 0 <= image.min() and image.max() <= 1
    finite = image.isfinite().all() and cam.isfinite().all()  # what is not is told of next
    if finite and not (grey and cam.numel() and cam.min() >= 0):
        raise ValueError(f"{side}: expected grey images of 0 to 1, and maps of 0 and more")
    return Explained(image, cam, tuple(found["index"].tolist()), tuple(found["label"].tolist()))
