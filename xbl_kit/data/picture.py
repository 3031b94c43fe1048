"""One picture from a file, grey and of the wanted size, or one line on what is wrong with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from xbl_kit.data.dicom import dicom_size, is_dicom, read_dicom, too_large
from xbl_kit.data.faults import reading, refuse

MODES = ("1", "L", "LA", "P", "RGB", "RGBA")  # those with 8 bits a channel, or with more cut off
PROPORTIONS = 0.02  # by how much a mask's width to height may differ from its image's
FRAME = 0.9  # of the pixels along its border are white in a mask that is inverted
LABELS = 9  # grey values that a mask may have at most to be one of numbered labels
HEADER = 2**16  # bytes that tell the depth of a file
BITS_PER_SAMPLE, SAMPLE_FORMAT, UNSIGNED = 258, 339, 1  # TIFF
POINTER = b"version http"  # how one of Git LFS begins
SIZ = b"\xff\x4f\xff\x51"  # begins a JPEG 2000 codestream


def read_frames(
    path: Path, size: int, *, pad: bool = False, clahe: bool = False
) -> UInt8[np.ndarray, "1 size size"]:
    """The picture in a file as the one frame it has, grey, resized to size x size, bilinear.

    With `pad` it is first made square with black borders, without it is stretched. `clahe` is
    contrast-limited adaptive histogram equalisation (Zuiderveld 1994), as scikit-image has it.
    Raises DataError naming the file where `read_picture` does, or it is one grey or too large.
    """
    picture = read_picture(path)
    low, high = picture.getextrema()
    refuse(path, f"the same grey, {low}, everywhere" if low == high else None)
    if pad:
        square = 2 * [max(picture.size)]
        refuse(path, too_large(*square, " with its padding"))
        picture = ImageOps.pad(picture, square, color=0)
    image = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
    if clahe:
        from skimage.exposure import equalize_adapthist

        image = (255 * equalize_adapthist(image)).round().astype(np.uint8)
    return image[None]


def read_mask(path: Path, size: int, image: Path) -> Bool[np.ndarray, "size size"]:
    """The mask of `image`, black and white, resized by nearest neighbour.

    Raises DataError naming the file, and a way out, where it is grey, empty, inverted (white all
    along its border and black within), or has not its image's proportions.
    """
    mask, (width, height) = read_picture(path), picture_size(image)
    values = np.flatnonzero(mask.histogram()).tolist()
    inside = np.asarray(mask.resize((size, size), Image.Resampling.NEAREST)) > 127
    border = np.concatenate([inside[0], inside[-1], inside[:, 0], inside[:, -1]]).mean()
    what = None
    if abs(mask.width * height / (mask.height * width) - 1) > PROPORTIONS:
        what = f"mask of {mask.width} x {mask.height} pixels, its image has {width} x {height}"
        what += "; crop or pad both alike"
    elif grey := sorted(set(values) - {0, 255}):
        what = f"mask with grey pixels such as {grey[0]}, expected only 0 and 255; save "
        what += f"255 * (mask > {0 if len(values) <= LABELS else 127}) as PNG"
    elif len(values) < 2:
        what = f"empty mask, {values[0]} everywhere, expected white (255) on black (0); draw it, "
        what += "or leave its row out"
    elif not inside.any():
        what = f"mask with nothing left of it at {size} x {size} pixels; use a larger size, or "
        what += "leave its row out"
    elif border > FRAME and inside.mean() < border:
        what = "mask white all along its border and black within, expected white inside; if it is "
        what += "inverted, save 255 - mask"
    refuse(path, what)
    return inside


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of a picture, read from its header; raises what `read_picture` does."""
    with reading(path, "picture"):
        if is_dicom(path):
            return dicom_size(path)
        with _opened(path) as picture:
            return picture.size


def read_picture(path: Path) -> Image.Image:
    """The picture in a file, DICOM or any format of Pillow's, grey, 8 bits.

    More than 8 bits a channel are refused outside of DICOM, grey or colour, by the depth that the
    file itself names: Pillow would keep the upper 8, of 12-bit levels in 16 bits only 4.
    Raises DataError naming the file and what is wrong with it.
    """
    with reading(path, "picture"):
        if is_dicom(path):
            return read_dicom(path)
        with _opened(path) as picture:
            refuse(path, _unusable(picture, path))
            return picture.convert("L")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A picture of which the header is read."""
    try:
        with Image.open(path) as picture:
            yield picture
            return
    except UnidentifiedImageError:
        with path.open("rb") as file:
            start = file.read(12)
        what = f"not a picture, it begins with {start!r}" if start else "empty file"
        if start == POINTER:
            what = "a pointer of Git LFS in place of the picture; fetch it by `git lfs pull`"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        what = f"too large a picture: {error}"
    refuse(path, what)


def _unusable(picture: Image.Image, path: Path) -> str | None:
    """What is wrong with an opened picture, if anything is, and the way out."""
    if (bits := _depth(picture, path)) > 8:
        out = "scale it to 0-255 by the range that it uses, or write DICOM"
        return f"{bits} bits a channel, expected 8; {out}"
    signs = picture.tag_v2.get(SAMPLE_FORMAT, ()) if picture.format == "TIFF" else ()
    if set(signs) - {UNSIGNED}:
        return "numbers with a sign, or floating, expected 0 to 255; shift them, save it anew"
    if picture.mode not in MODES:
        return f"picture of mode {picture.mode}, expected grey or RGB of 8 bits a channel"
    if what := too_large(*picture.size):
        return what
    if getattr(picture, "n_frames", 1) > 1:
        return f"{picture.n_frames} pictures in one file, expected one; save each by itself"
    if (turn := picture.getexif().get(ExifTags.Base.Orientation)) in range(2, 9):
        out = "save it after PIL.ImageOps.exif_transpose"
        return f"stored turned or mirrored (EXIF orientation {turn}), expected upright; {out}"
    if picture.has_transparency_data and picture.convert("RGBA").getextrema()[3][0] < 255:
        return "transparent pixels, expected none; save it on a black ground, without alpha"
    return None


def _depth(picture: Image.Image, path: Path) -> int:
    """Bits a channel as the file has it, 8 where its format has no more."""
    if picture.format == "TIFF":
        return max(picture.tag_v2.get(BITS_PER_SAMPLE, (1,)))
    if picture.format == "PPM":
        options = picture.tile[0][3]  # the codec's: the mode, with the largest value
        return options[1].bit_length() if isinstance(options, tuple) else 8
    if picture.format not in ("PNG", "SGI", "JPEG2000"):
        return 8
    with path.open("rb") as file:
        head = file.read(HEADER)
    if picture.format == "JPEG2000":
        start = head.index(SIZ) + 40
        channels = int.from_bytes(head[start : start + 2], "big")
        return max((bits & 127) + 1 for bits in head[start + 2 : start + 2 + 3 * channels : 3])
    return head[24] if picture.format == "PNG" else 8 * head[3]
