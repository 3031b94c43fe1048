"""The picture in a DICOM file as a viewer shows it; nothing but its pixels is read."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Num, UInt8
from PIL import Image
from pydicom import Dataset, dcmread, misc, uid
from pydicom.encaps import generate_frames
from pydicom.pixels import get_decoder
from pydicom.pixels.processing import apply_modality_lut, apply_voi

from xbl_kit.data.faults import reading, refuse, time_limit, too_much

SUFFIXES = (".dcm", ".dicom")
ROBUST = (1, 99)  # percentiles that become black and white where a file names no window
SIDES = ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio")  # of a pixel, the first counts
SQUARE = 0.01  # sides of a pixel that differ by less count as equal
WINDOW, RESCALE = ("WindowCenter", "WindowWidth"), ("RescaleSlope", "RescaleIntercept")
PADDING, LUTS = ("PixelPaddingValue", "PixelPaddingRangeLimit"), ("ModalityLUT", "VOILUT")
# The only tags that are read: no name, date or place of a patient is among them.
TAGS = """SOPClassUID SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames
Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation VOILUTFunction ModalityLUTSequence
VOILUTSequence ExtendedOffsetTable ExtendedOffsetTableLengths PixelData""".split()
GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
TAGS += [*SIDES, *WINDOW, *RESCALE, *PADDING, *GROUPS]
PHOTOMETRIC = ("MONOCHROME1", "MONOCHROME2", "RGB")
FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
JP2, CODESTREAM = b"\0\0\0\x0cjP  ", b"jp2c"  # how a JPEG 2000 file begins, and its box of pixels
DEFLATE = 2 * 1032  # the largest ratio of its compression, and pydicom has two copies
_LOCK = threading.Lock()


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its name or by its first bytes; raises OSError."""
    return path.suffix.lower() in SUFFIXES or misc.is_dicom(path) or _is_bare(path)


def _is_bare(path: Path) -> bool:
    """Whether a file begins like a data set without preamble, with a tag of group 2 or 8."""
    with path.open("rb") as file:
        group, _, kind, length = (file.read(2) for _ in range(4))
    explicit = kind.isalpha() and kind.isupper()
    little = group in (b"\2\0", b"\x08\0") and (explicit or (length == b"\0\0" and any(kind)))
    return little or (group == b"\0\x08" and explicit)


def dicom_size(path: Path) -> tuple[int, int]:
    """Width and height of the picture in a DICOM file, its pixels made square, from its header."""
    with _reading(path):
        return _square(_dataset(path, stop_before_pixels=True))


def read_dicom(path: Path) -> Image.Image:
    """The picture in a DICOM file, grey (mode L), its pixels square, by DICOM PS3.3 C.11.

    Stored values go through the modality LUT or rescale, then through the VOI LUT or the first
    window. Where there is neither, pictures of up to 8 bits keep their range, others get their 1st
    to 99th percentile from black to white. MONOCHROME1 is inverted. Padding is black and counts
    for nothing (C.7.5.1.1.2). Empty elements are absent. A data set without preamble is read.
    Raises DataError naming the file and what is wrong with it, too much memory or time included.
    """
    with _reading(path):
        data = _dataset(path)
        refuse(path, _unusable(data))
        pixels, size = data.pixel_array, _square(data)
        if (found := pixels.shape[:2]) != (data.Rows, data.Columns):  # more frames than are told
            refuse(path, f"pixels of {found[0]} frames, expected one; save the one you want alone")
        if data.PhotometricInterpretation != "RGB":
            pixels = _grey(pixels, data)
    return Image.fromarray(pixels).convert("L").resize(size, Image.Resampling.BILINEAR)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Errors as DataError, without warnings, within a time limit; of one file at a time, since the
    filters of warnings belong to all threads."""
    with _LOCK, warnings.catch_warnings(), reading(path, "DICOM file"), time_limit():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _dataset(path: Path, **options: bool) -> Dataset:
    with path.open("rb") as file:
        head = file.read(1024)
    whole = head[128:132] == b"DICM"
    if uid.DeflatedExplicitVRLittleEndian.encode() in head:
        refuse(path, too_much(path.stat().st_size * DEFLATE, "save it without deflate"))
    data = dcmread(path, specific_tags=TAGS, force=not whole, **options)
    if not whole and "Rows" not in data:
        what = f"named {path.suffix}, but not DICOM: it begins with {head[:12]!r}"
        refuse(path, what if head else "empty file")
    if "TransferSyntaxUID" not in data.file_meta:
        implicit, little = data.original_encoding
        explicit = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if implicit else explicit
    first = [item for name in GROUPS for item in (data.get(name) or ())[:1]]  # of enhanced objects
    data.update({e.tag: e for item in first for e in item.iterall() if e.keyword in TAGS})
    for name in (f"{lut}Sequence" for lut in LUTS):
        first = next(iter(data.get(name) or ()), {})
        if name in data and not (first.get("LUTDescriptor") and first.get("LUTData")):
            del data[name]
    return data


def _unusable(data: Dataset) -> str | None:
    """What is wrong with a DICOM data set, if anything is."""
    if "PixelData" not in data:
        kind = getattr(data.get("SOPClassUID"), "name", "") or "kind not given"
        return f"DICOM without pixels ({kind})"
    if (frames := int(data.get("NumberOfFrames") or 1)) > 1:
        return f"{frames} frames in one DICOM file, expected one; save the one you want by itself"
    if (found := data.get("PhotometricInterpretation")) not in PHOTOMETRIC:
        return f"photometric interpretation {found}, expected one of {', '.join(PHOTOMETRIC)}"
    if found == "RGB" and data.BitsAllocated != 8:
        return f"colours of {data.BitsAllocated} bits, expected 8"
    if (high := data.get("HighBit")) not in (None, data.BitsStored - 1):
        return f"HighBit is {high}, expected {data.BitsStored - 1}; shift the pixels, save it anew"
    return too_large(*_square(data)) or _cannot_decode(data)


def too_large(width: int, height: int, of: str = "") -> str | None:
    """What is wrong with a picture of more pixels than Pillow takes, if it is one."""
    if width * height > (Image.MAX_IMAGE_PIXELS or np.inf):
        return f"too large a picture: {width} x {height} pixels{of}; make it smaller"
    return None


def _cannot_decode(data: Dataset) -> str | None:
    """Why pydicom cannot give the pixels, or would need more memory than there may be."""
    syntax = data.file_meta.TransferSyntaxUID
    if syntax.is_compressed and not get_decoder(syntax).is_available:
        return f'cannot be decompressed ({syntax.name}); `pip install "xbl-kit[dicom]"` may help'
    if data["PixelData"].is_undefined_length and not syntax.is_encapsulated:
        return f"compressed pixels, which {syntax.name} has not; name the transfer syntax they have"
    stored = data.BitsAllocated // 8  # bytes, and as many that are worked with
    each = data.get("SamplesPerPixel", 1) * (stored + (8 if stored <= 2 else 40))
    if what := too_much(data.Rows * data.Columns * each, "make it smaller"):
        return what
    if syntax in uid.JPEG2000TransferSyntaxes:
        stream = next(generate_frames(data.PixelData, number_of_frames=1))
        at = len(JP2) + 4 if stream.startswith(JP2) else len(stream)
        while at < len(stream) and stream[at + 4 : at + 8] != CODESTREAM:
            if (length := int.from_bytes(stream[at : at + 4], "big")) < 8:  # pydicom never ends
                return f"a JPEG 2000 box of length {length}, expected 8 or more; save it anew"
            at += length
    return None


def _grey(pixels: Num[np.ndarray, "h w"], data: Dataset) -> UInt8[np.ndarray, "h w"]:
    """Stored values of MONOCHROME1 or 2 as a viewer shows them, 0 black to 255 white."""
    padding = _padding(pixels, data)
    if not (kept := pixels if padding is None else pixels[~padding]).size:
        refuse(data.filename, "nothing but padding, expected a picture")
    if pixels.dtype.itemsize > 2:
        grey = _shown(pixels, kept, data)
    else:  # each value that may occur is worked out once, which takes a tenth of the time
        low, high = int(pixels.min()), int(pixels.max())
        table = _shown(np.arange(low, high + 1).astype(pixels.dtype), kept, data)
        grey = table[pixels.astype(np.int32) - low]
    if data.PhotometricInterpretation == "MONOCHROME1":
        grey = 255 - grey
    if padding is not None:
        grey[padding] = 0
    return grey


def _padding(pixels: Num[np.ndarray, "h w"], data: Dataset) -> Bool[np.ndarray, "h w"] | None:
    """Where there is no image: the padding value, or all from it to its limit."""
    value, limit = (_numbers(data, name)[:1] for name in PADDING)
    if not value.size:
        return None
    # They may be written with another sign, or with more bits than are stored.
    half = 2 ** (data.BitsStored - 1) if data.PixelRepresentation else 0
    ends = (np.append(value, limit).astype(np.int64) + half) % 2**data.BitsStored - half
    return (pixels >= ends.min()) & (pixels <= ends.max())


def _shown(
    stored: Num[np.ndarray, "*n"], kept: Num[np.ndarray, "*m"], data: Dataset
) -> UInt8[np.ndarray, "*n"]:
    """What becomes of stored values in a picture that has the values `kept`."""
    shown = values = _rescaled(stored, data)
    if tables := data.get("VOILUTSequence"):
        ends = 0, 2 ** _entries_widened(tables[0]) - 1
        shown = apply_voi(np.rint(values).astype(np.int64), data)
    elif window := _windowed(values, data):
        shown, *ends = window
    elif (bits := data.BitsStored) <= 8:
        low = -(2 ** (bits - 1)) if data.PixelRepresentation else 0
        ends = np.sort(_rescaled(np.array([low, low + 2**bits - 1]), data))
    elif "ModalityLUTSequence" in data:
        ends = np.percentile(_rescaled(kept, data), ROBUST)
    else:  # of what is stored, which takes less memory
        ends = np.sort(_rescaled(np.percentile(kept, ROBUST), data))
    black, white = map(float, ends)
    share = np.clip((shown - black) / ((white - black) or np.finfo(float).tiny), 0, 1)
    return (255 * share).round().astype(np.uint8)


def _rescaled(stored: Num[np.ndarray, "*n"], data: Dataset) -> Num[np.ndarray, "*n"]:
    """Values after the modality LUT, or the slope and intercept, 1 and 0 where one is missing."""
    if "ModalityLUTSequence" in data:
        _entries_widened(data.ModalityLUTSequence[0])
        return apply_modality_lut(stored, data)
    slope, intercept = (_numbers(data, name)[:1] for name in RESCALE)
    if not (slope.size or intercept.size):
        return stored
    return stored * np.append(slope, 1)[0] + np.append(intercept, 0)[0]


def _entries_widened(table: Dataset) -> int:
    """The bits of a table's entries; of 8 they become 16, in which pydicom then counts entries."""
    *start, bits = table.LUTDescriptor
    table.LUTDescriptor = [*start, 16 if bits == 8 else bits]
    return bits


def _windowed(
    values: Num[np.ndarray, "*n"], data: Dataset
) -> tuple[Num[np.ndarray, "*n"], float, float] | None:
    """The values by the function of the first window, and which are black and white, by C.11.2.1.2
    and C.11.2.1.3; None where the window is empty, or too narrow."""
    center, width = (_numbers(data, name)[:1] for name in WINDOW)
    function = str(data.get("VOILUTFunction") or FUNCTIONS[0]).strip().upper()
    if function not in FUNCTIONS:
        what = f"VOILUTFunction is {function!r}, expected one of {', '.join(FUNCTIONS)} or nothing"
        refuse(data.filename, what)
    wide = width.size and (width[0] >= 1 if function == "LINEAR" else width[0] > 0)
    if not (center.size and wide):
        return None
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - center) / width)), 0.0, 1.0
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    return values, *(center - width / 2), *(center + width / 2)


def _square(data: Dataset) -> tuple[int, int]:
    """Width and height once the pixels are square: the coarser direction gets more of them."""
    sides = [_numbers(data, name) for name in SIDES]
    ratio = next((s[0] / s[1] for s in sides if len(s) == 2 and s.min() > 0), 1.0)  # down by across
    if abs(ratio - 1) <= SQUARE:
        ratio = 1.0
    return round(data.Columns * max(1, 1 / ratio)), round(data.Rows * max(1, ratio))


def _numbers(data: Dataset, name: str) -> Float[np.ndarray, " n"]:
    """The numbers of an element, none where it is missing or empty; DataError for what is none."""
    try:
        found = np.ravel(np.asarray(data.get(name), dtype=object))
        numbers = np.array([each for each in found if each not in (None, "")], dtype=float)
    except ValueError:
        numbers = np.array([np.nan])
    if not np.isfinite(numbers).all():
        written = data.get_item(name).value  # as it is in the file, where it cannot be converted
        written = written.decode("latin-1") if isinstance(written, bytes) else str(written)
        what = f"{name} is {written.strip()!r}, expected numbers, with a decimal point"
        refuse(data.filename, what)
    return numbers
