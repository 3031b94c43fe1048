"""One picture from a file, grey and of the wanted size, or one line on what is wrong with it."""

from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from xbl_kit.data.dicom import dicom_size, is_dicom, read_dicom
from xbl_kit.data.faults import DataError, Fault

MODES = ("1", "L", "LA", "P", "RGB", "RGBA")  # those with 8 bits a channel
PROPORTIONS = 0.02  # by how much a mask's width to height may differ from its image's


def read_frames(
    path: Path, size: int, *, pad: bool = False, clahe: bool = False
) -> UInt8[np.ndarray, "1 size size"]:
    """The picture in a file as the one frame it has, grey, resized to size x size, bilinear.

    With `pad` it is first made square with black borders, without it is stretched. `clahe` is
    contrast-limited adaptive histogram equalisation (Zuiderveld 1994), as scikit-image has it.
    Raises DataError naming the file where it is not a grey or colour picture of 8 bits a channel.
    """
    picture = read_picture(path)
    low, high = picture.getextrema()
    if low == high:
        raise DataError(Fault(str(path), f"the same grey, {low}, everywhere"))
    if pad:
        picture = ImageOps.pad(picture, 2 * [max(picture.size)], color=0)
    image = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
    if clahe:
        from skimage.exposure import equalize_adapthist

        image = (255 * equalize_adapthist(image)).round().astype(np.uint8)
    return image[None]


def read_mask(path: Path, size: int, image: Path) -> Bool[np.ndarray, "size size"]:
    """The mask of `image`, black and white, resized by nearest neighbour.

    Raises DataError naming the file where it is grey, empty, or has not its image's proportions.
    """
    mask, (width, height) = read_picture(path), picture_size(image)
    values = np.flatnonzero(mask.histogram()).tolist()
    what = None
    if abs(mask.width * height / (mask.height * width) - 1) > PROPORTIONS:
        what = f"mask of {mask.width} x {mask.height} pixels, its image has {width} x {height}"
    elif grey := sorted(set(values) - {0, 255}):
        what = f"mask with grey pixels such as {grey[0]}, expected only 0 and 255"
    elif len(values) < 2:
        what = f"empty mask, {values[0]} everywhere, expected white (255) on black (0)"
    if what:
        raise DataError(Fault(str(path), what))
    return np.asarray(mask.resize((size, size), Image.Resampling.NEAREST)) > 127


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of a picture, read from its header."""
    if is_dicom(path):
        return dicom_size(path)
    with Image.open(path) as picture:
        return picture.size


def read_picture(path: Path) -> Image.Image:
    """The picture in a file, DICOM or any format of Pillow's, grey, 8 bits.

    Raises DataError naming the file and what is wrong with it.
    """
    try:
        if is_dicom(path):
            return read_dicom(path)
        with Image.open(path) as picture:
            if what := _unusable(picture):
                raise DataError(Fault(str(path), what))
            return picture.convert("L")
    except DataError:
        raise
    except FileNotFoundError:
        what = "no such file"
    except UnidentifiedImageError:
        with path.open("rb") as file:
            start = file.read(12)
        what = f"not a picture, it begins with {start!r}" if start else "empty file"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        what = f"too large a picture: {error}"
    except Exception as error:  # Pillow's formats raise all kinds, struct.error and IndexError too
        what = f"not a readable picture ({error})"
    raise DataError(Fault(str(path), what))


def _unusable(picture: Image.Image) -> str | None:
    """What is wrong with an opened picture, if anything is."""
    if picture.mode not in MODES:
        return f"picture of mode {picture.mode}, expected grey or RGB of 8 bits a channel"
    if picture.width * picture.height > (Image.MAX_IMAGE_PIXELS or np.inf):
        return f"too large a picture: {picture.width} x {picture.height} pixels"
    if getattr(picture, "n_frames", 1) > 1:
        return f"{picture.n_frames} pictures in one file, expected one"
    if (turn := picture.getexif().get(ExifTags.Base.Orientation, 1)) != 1:
        return f"stored turned or mirrored (EXIF orientation {turn}), expected upright"
    if picture.has_transparency_data and picture.convert("RGBA").getextrema()[3][0] < 255:
        return "transparent pixels, expected none"
    return None
