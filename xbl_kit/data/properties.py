"""What tells pictures apart before anybody looks at what they show: pixels in bulk, and files."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import scipy
from jaxtyping import UInt8
from PIL import Image

from xbl_kit.data.cache import in_parallel
from xbl_kit.data.dicom import is_dicom
from xbl_kit.data.faults import DataError
from xbl_kit.data.manifest import Manifest
from xbl_kit.data.picture import picture_size

SIDE = 224  # px, to which pictures are resized before their pixels are measured
MOST = 2000  # pictures that are decoded, drawn at random
DARK = 10  # of 255: what is darker all along an edge is a frame
SECOND = np.outer((1, -2, 1), (1, -2, 1))  # what is left of a smooth picture is noise


def pixel_properties(image: UInt8[np.ndarray, "h w"]) -> dict[str, float]:
    """Mean and standard deviation (0 to 255), edges per contrast, noise (Immerkaer 1996) and the
    share of a black frame."""
    grey = image.astype(float)
    down, across = (np.flatnonzero((image > DARK).any(axis=axis)) for axis in (1, 0))
    inside = (np.ptp(down) + 1) * (np.ptp(across) + 1) if len(down) else 0
    return {
        "(brightness)": grey.mean(),
        "(contrast)": grey.std(),
        "(sharpness)": scipy.ndimage.laplace(grey).std() / max(grey.std(), 1e-9),
        "(noise)": np.sqrt(np.pi / 2) / 6 * np.abs(scipy.ndimage.convolve(grey, SECOND)).mean(),
        "(border)": 1 - inside / image.size,
    }


def file_traits(path: Path) -> dict[str, object]:
    """Kind, size and header of a picture file; what cannot be read is left out."""
    found = {"(file type)": path.suffix.lower()}
    with suppress(OSError, DataError, ZeroDivisionError):
        found["(bytes)"] = path.stat().st_size
        width, height = picture_size(path)
        found |= {"(pixels)": f"{width} x {height}", "(aspect)": round(width / height, 3)}
        with Image.open(path) as picture:
            found["(mode)"] = "DICOM" if is_dicom(path) else picture.mode
    return found


def with_properties(manifest: Manifest, *, seed: int = 0) -> pd.DataFrame:
    """The rows, numbered, with columns in brackets, read from the files: these can tell the label.

    Pixels are those of at most `MOST` pictures, drawn by `seed`; "" stands for the others, and for
    what cannot be read.
    """
    paths = [Path(path) for path in manifest.rows["image"]]
    drawn = set(np.random.default_rng(seed).permutation(len(paths))[:MOST].tolist())

    def look(row: int) -> dict[str, object]:
        found = file_traits(paths[row])
        with suppress(DataError):
            each = map(pixel_properties, manifest.read(paths[row], SIDE) if row in drawn else ())
            found.update(pd.DataFrame(each).mean().map("{:.5g}".format))
        return found

    found = pd.DataFrame(in_parallel(look, len(paths), "looking at pictures")).astype(object)
    return manifest.rows.reset_index(drop=True).assign(**found.where(found.notna(), "").astype(str))
