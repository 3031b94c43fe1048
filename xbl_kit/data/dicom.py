"""The picture in a DICOM file as a viewer shows it; nothing but its pixels is read."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Num, UInt8
from PIL import Image
from pydicom import Dataset, dcmread, misc
from pydicom.pixels import get_decoder
from pydicom.pixels.processing import apply_modality_lut, apply_voi, apply_windowing

from xbl_kit.data.faults import DataError, Fault

SUFFIXES = (".dcm", ".dicom")
ROBUST = (1, 99)  # percentiles that become black and white where a file names no window
FAR = np.array([-1e9, 1e9])  # beyond the ends of every window
SIDES = ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio")  # of a pixel, the first counts
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
    return path.suffix.lower() in SUFFIXES or misc.is_dicom(path)


def dicom_size(path: Path) -> tuple[int, int]:
    """Width and height of the picture in a DICOM file, its pixels made square, from its header."""
    with _reading(path):
        return _square(_dataset(path, stop_before_pixels=True))


def read_dicom(path: Path) -> Image.Image:
    """The picture in a DICOM file, grey (mode L), its pixels square, by DICOM PS3.3 C.11.

    Stored values go through the modality LUT or rescale, then through the VOI LUT or the first
    window. Where there is neither, pictures of up to 8 bits keep their range, others get their 1st
    to 99th percentile from black to white. MONOCHROME1 is inverted.

    Raises DataError naming the file: several frames, no pixels, a compression that cannot be read.
    """
    with _reading(path):
        data = _dataset(path)
        if what := _unusable(data):
            raise DataError(Fault(str(path), what))
        pixels, size = data.pixel_array, _square(data)
        if data.PhotometricInterpretation != "RGB":
            pixels = _grey(pixels, data)
    return Image.fromarray(pixels).convert("L").resize(size, Image.Resampling.BILINEAR)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what pydicom raises, any exception for broken files, into a DataError without warnings.

    One file at a time, since the filters of warnings belong to all threads.
    """
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (DataError, FileNotFoundError):
            raise
        except Exception as error:
            what = f"not a readable DICOM file ({type(error).__name__}: {error})"
            raise DataError(Fault(str(path), what)) from None


def _dataset(path: Path, **options: bool) -> Dataset:
    if not misc.is_dicom(path):
        start = path.read_bytes()[:12]
        what = f"named {path.suffix}, but not DICOM: it begins with {start!r}"
        raise DataError(Fault(str(path), what if start else "empty file"))
    return dcmread(path, specific_tags=TAGS, **options)


def _unusable(data: Dataset) -> str | None:
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
    syntax = data.file_meta.TransferSyntaxUID
    if syntax.is_compressed and not get_decoder(syntax).is_available:
        return f"cannot be decompressed ({syntax.name}); `pip install pylibjpeg[all]` may help"
    return None


def _grey(pixels: Num[np.ndarray, "h w"], data: Dataset) -> UInt8[np.ndarray, "h w"]:
    """Stored values of MONOCHROME1 or 2 as a viewer shows them, 0 black to 255 white."""
    if pixels.dtype.itemsize > 2:
        return _shown(pixels, pixels, data)
    # each value that may occur is worked out once, which takes a tenth of the time
    low, high = int(pixels.min()), int(pixels.max())
    table = _shown(np.arange(low, high + 1).astype(pixels.dtype), pixels, data)
    return table[pixels.astype(np.int32) - low]


def _shown(
    stored: Num[np.ndarray, "*n"], pixels: Num[np.ndarray, "h w"], data: Dataset
) -> UInt8[np.ndarray, "*n"]:
    """What becomes of stored values in the picture of these `pixels`."""
    shown = values = apply_modality_lut(stored, data)
    if tables := data.get("VOILUTSequence"):
        shown = apply_voi(np.rint(values).astype(np.int64), data)
        ends = 0, 2 ** tables[0].LUTDescriptor[2] - 1
    elif _has_window(data):
        shown, ends = apply_windowing(values, data), apply_windowing(FAR, data)
    elif (bits := data.BitsStored) <= 8:
        low = -(2 ** (bits - 1)) if data.PixelRepresentation else 0
        ends = np.sort(apply_modality_lut(np.array([low, low + 2**bits - 1]), data))
    else:
        ends = np.percentile(apply_modality_lut(pixels, data), ROBUST)
    black, white = map(float, ends)
    share = np.clip((shown - black) / ((white - black) or np.inf), 0, 1)
    grey = (255 * share).round().astype(np.uint8)
    return 255 - grey if data.PhotometricInterpretation == "MONOCHROME1" else grey


def _has_window(data: Dataset) -> bool:
    """Whether the first window is one; files with an empty one, or of width 0, have none."""
    center, width = (_numbers(data.get(name)) for name in ("WindowCenter", "WindowWidth"))
    return bool(center.size and width.size and width[0] >= 1)


def _square(data: Dataset) -> tuple[int, int]:
    """Width and height once the pixels are square: the coarser direction gets more of them."""
    sides = [_numbers(data.get(name)) for name in SIDES]
    ratio = next((s[0] / s[1] for s in sides if len(s) == 2 and s.min() > 0), 1.0)  # down by across
    if abs(ratio - 1) <= SQUARE:
        ratio = 1.0
    return round(data.Columns * max(1, 1 / ratio)), round(data.Rows * max(1, ratio))


def _numbers(value: object) -> np.ndarray:
    """The numbers of a DICOM element, none where it is missing or empty."""
    return np.ravel(np.asarray([] if value is None or value == "" else value, dtype=float))
