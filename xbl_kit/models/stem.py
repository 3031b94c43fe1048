"""The outputs of a frozen prefix, computed once and kept on disk."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from xbl_kit.models.classifier import Classifier
from xbl_kit.storage import write_whole


def cache_stem(
    model: Classifier, images: np.ndarray, folder: str | Path, *, batch_size: int = 64
) -> np.ndarray | None:
    """The prefix's outputs (n, c, p, q) for `images` (n, h, w; uint8), memory-mapped read-only.

    The file's name is a hash of the prefix, its scaling and the images, so another image or
    another weight is another file. It is written under a temporary name and renamed when whole: a
    run that is killed leaves nothing that would be taken for a cache. None where the model has no
    prefix or there are no images.
    """
    if not list(model.prefix.children()) or not len(images):
        return None
    path = Path(folder) / f"stem-{_digest(model, images)}.npy"
    if not path.exists():
        write_whole(path, lambda partial: _write(model, images, partial, batch_size))
    return np.load(path, mmap_mode="r")


@torch.no_grad()
def _write(model: Classifier, images: np.ndarray, path: Path, batch_size: int) -> None:
    def stem(some: np.ndarray) -> np.ndarray:
        image = torch.from_numpy(np.array(some)).to(model.mean.device)[:, None].float() / 255
        return model.run_prefix(image).float().cpu().numpy()

    shape = (len(images), *stem(images[:1]).shape[1:])
    out = np.lib.format.open_memmap(path, "w+", dtype=np.float32, shape=shape)
    starts = range(0, len(images), batch_size)
    for start in tqdm(starts, "frozen prefix", unit="batch", disable=None):
        some = slice(start, start + batch_size)
        out[some] = stem(images[some])
    out.flush()


def _digest(model: Classifier, images: np.ndarray) -> str:
    digest = hashlib.blake2b(repr(model.prefix).encode(), digest_size=16)
    state = model.prefix.state_dict() | {"mean": model.mean, "std": model.std}
    for name, tensor in state.items():
        digest.update(name.encode() + tensor.numpy(force=True).tobytes())
    digest.update(f"{images.shape}{images.dtype}".encode())
    for image in images:
        digest.update(np.ascontiguousarray(image))
    return digest.hexdigest()
