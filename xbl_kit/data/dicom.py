"""The picture in a DICOM file as a viewer shows it; nothing but its pixels is read."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Num, UInt8
from PIL import Image

from xbl_kit.data.faults import DataError, Fault

SUFFIXES = (".dcm", ".dicom")
MAGIC = slice(128, 132), b"DICM"
ROBUST = (1, 99)  # percentiles that become black and white where a file names no window
FAR = np.array([-1e9, 1e9])  # beyond the ends of every window
SQUARE = 0.01  # sides of a pixel that differ by less count as equal
# The only tags that are read: no name, date or place of a patient is among them.
TAGS = """SOPClassUID SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames
Rows Columns PixelSpacing ImagerPixelSpacing PixelAspectRatio BitsAllocated BitsStored HighBit
PixelRepresentation RescaleIntercept RescaleSlope ModalityLUTSequence WindowCenter WindowWidth
VOILUTFunction VOILUTSequence ExtendedOffsetTable ExtendedOffsetTableLengths PixelData""".split()
PHOTOMETRIC = ("MONOCHROME1", "MONOCHROME2", "RGB")

_LOCK = threading.Lock()


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its name or by its first bytes; raises OSError."""
    if path.suffix.lower() in SUFFIXES:
        return True
    with path.open("rb") as file:
        return file.read(132)[MAGIC[0]] == MAGIC[1]


def dicom_size(path: Path) -> tuple[int, int]:
    """Width and height of the picture in a DICOM file, its pixels made square, from its header."""
    with _naming(path), _quiet():
        return _square(_dataset(path, stop_before_pixels=True))


def read_dicom(path: Path) -> Image.Image:
    """The picture in a DICOM file, grey (mode L), its pixels square, by DICOM PS3.3 C.11.

    Stored values go through the modality LUT or rescale, then through the VOI LUT or the first
    window. Where there is neither, pictures of up to 8 bits keep their range, others get their 1st
    to 99th percentile from black to white. MONOCHROME1 is inverted.

    Raises DataError naming the file: several frames, no pixels, a compression that cannot be read.
    """
    with _naming(path):
        with _quiet():
            data = _dataset(path)
            if what := _unusable(data):
                raise DataError(Fault(str(path), what))
            pixels = _pixels(data, path)
        if data.PhotometricInterpretation == "RGB":
            picture = Image.fromarray(pixels).convert("L")
        else:
            picture = Image.fromarray(_grey(pixels, data))
        size = _square(data)
    return picture if picture.size == size else picture.resize(size, Image.Resampling.BILINEAR)


def _dataset(path: Path, **options):
    from pydicom import dcmread

    with path.open("rb") as file:
        start = file.read(132)
    if start[MAGIC[0]] != MAGIC[1]:
        what = f"named {path.suffix}, but not DICOM: it begins with {start[:12]!r}"
        raise DataError(Fault(str(path), what if start else "empty file"))
    return dcmread(path, specific_tags=TAGS, **options)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep pydicom's warnings on odd files quiet; one at a time, filters belong to all threads."""
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn what pydicom raises into a DataError; for broken files that can be any exception."""
    try:
        yield
    except (DataError, FileNotFoundError):
        raise
    except Exception as error:
        what = f"not a readable DICOM file ({_line(error)})"
        raise DataError(Fault(str(path), what)) from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _pixels(data, path: Path) -> np.ndarray:
    """The stored values, (rows, columns) or (rows, columns, 3)."""
    syntax = data.file_meta.TransferSyntaxUID
    try:
        return data.pixel_array
    except Exception as error:
        if not syntax.is_compressed:
            raise
        what = f"cannot be decompressed ({syntax.name}); `pip install pylibjpeg[all]` may help"
        raise DataError(Fault(str(path), f"{what}: {_line(error)}")) from None


def _unusable(data) -> str | None:
    """What is wrong with a DICOM data set, if anything is."""
    if "PixelData" not in data:
        kind = getattr(data.get("SOPClassUID"), "name", "") or "kind not given"
        return f"DICOM without pixels ({kind})"
    if (frames := int(data.get("NumberOfFrames") or 1)) > 1:
        return f"{frames} frames in one DICOM file, expected one"
    if (found := data.get("PhotometricInterpretation")) not in PHOTOMETRIC:
        return f"photometric interpretation {found}, expected one of {', '.join(PHOTOMETRIC)}"
    if found == "RGB" and data.BitsAllocated != 8:
        return f"colours of {data.BitsAllocated} bits, expected 8"
    width, height = _square(data)
    if width * height > (Image.MAX_IMAGE_PIXELS or np.inf):
        return f"too large a picture: {width} x {height} pixels"
    return None


def _grey(pixels: Num[np.ndarray, "rows columns"], data) -> UInt8[np.ndarray, "rows columns"]:
    """Stored values of MONOCHROME1 or 2 as a viewer shows them, 0 black to 255 white."""
    if pixels.dtype.itemsize > 2:
        stored, place = np.unique(pixels, return_inverse=True)
        place = place.reshape(pixels.shape)
    else:  # each value that may occur is worked out once, which takes a tenth of the time
        low, high = int(pixels.min()), int(pixels.max())
        stored, place = np.arange(low, high + 1).astype(pixels.dtype), pixels.astype(np.int32) - low
    shown, ends = _shown(stored, pixels, data)
    black, white = map(float, ends)
    share = (np.clip(shown, min(black, white), max(black, white)) - black) / ((white - black) or 1)
    grey = (255 * share).round().astype(np.uint8)
    return (255 - grey if data.PhotometricInterpretation == "MONOCHROME1" else grey)[place]


def _shown(
    stored: Num[np.ndarray, " n"], pixels: Num[np.ndarray, "rows columns"], data
) -> tuple[Num[np.ndarray, " n"], Num[np.ndarray, "2"]]:
    """Stored values after modality and VOI transformation, and which are black and white."""
    apply_modality_lut, apply_voi, apply_windowing = _transformations()
    values = apply_modality_lut(stored, data)
    if data.get("VOILUTSequence"):
        bits = data.VOILUTSequence[0].LUTDescriptor[2]
        return apply_voi(np.rint(values).astype(np.int64), data), np.array([0, 2**bits - 1])
    if _has_window(data):
        with np.errstate(over="ignore"):  # a sigmoid of the ends
            return apply_windowing(values, data), apply_windowing(FAR, data)
    if data.BitsStored <= 8:
        low = -(2 ** (data.BitsStored - 1)) if data.PixelRepresentation else 0
        ends = np.array([low, low + 2**data.BitsStored - 1])
        return values, np.sort(apply_modality_lut(ends, data))
    return values, np.percentile(apply_modality_lut(pixels, data), ROBUST)


def _transformations():
    try:
        from pydicom.pixels import processing as module
    except ImportError:  # before pydicom 3
        from pydicom.pixel_data_handlers import util as module
    return module.apply_modality_lut, module.apply_voi, module.apply_windowing


def _has_window(data) -> bool:
    """Whether the first window is one; files with an empty one, or of width 0, have none."""
    center, width = _numbers(data.get("WindowCenter")), _numbers(data.get("WindowWidth"))
    return bool(len(center) and len(width) and width[0] >= 1)


def _square(data) -> tuple[int, int]:
    """Width and height once the pixels are square: the coarser direction gets more of them."""
    width, height = int(data.Columns), int(data.Rows)
    for name in ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"):
        sides = _numbers(data.get(name))
        if len(sides) == 2 and sides.min() > 0:
            ratio = sides[0] / sides[1]  # down by across
            if abs(ratio - 1) > SQUARE:
                return round(width * max(1, 1 / ratio)), round(height * max(1, ratio))
            break
    return width, height


def _numbers(value) -> np.ndarray:
    """The numbers of a DICOM element, none where it is missing or empty."""
    return (
        np.array([]) if value is None or value == "" else np.ravel(np.asarray(value, dtype=float))
    )
