"""Slices of a NIfTI volume of a head, upright and alike, whatever way it is stored."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import get_ident

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image

from xbl_kit.data.background import blacken
from xbl_kit.data.faults import one_of, reading, refuse, time_limit, too_much

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}  # the axis of right, anterior, superior they cut
EDGE = 0.05  # a slice is of the head if its head has this share of the largest slice's
HEAD = 140  # mm from the vertex down to the skull's base; below is the neck
LOGGER = nib.imageglobals.logger
SAMPLE, WORK = 2**20, 12  # voxels for the percentiles, bytes a voxel beside those of the file


def read_slices(
    path: Path,
    size: int,
    *,
    plane: str = "axial",
    slices: int = 1,
    percentiles: Sequence[float | int] = (1, 99),
) -> UInt8[np.ndarray, "slices size size"]:
    """Neighbouring slices around the middle of the head in a NIfTI volume, upright.

    As radiologists see them: the patient's left is on the right; sagittal slices face left. Stacks
    run upwards, forwards or to the right. Slices keep their proportions in mm and get black borders
    to be square. Black and white are `percentiles` of the head's voxels. What varies little along
    the border and fills much of the volume is background, and black.

    Raises DataError naming the file where it is none, has no orientation, or is empty.
    """
    axis = PLANES[one_of("plane", plane, PLANES)]
    with reading(path, "NIfTI volume"), time_limit(), np.errstate(over="ignore"):
        volume, spacing = _read_volume(path)
        blacken(volume)
    if (there := volume.shape[axis]) < slices:
        refuse(path, f"{there} {plane} slices, expected {slices} or more")
    threshold, low, high = _intensities(volume, percentiles, path)
    first = _middle(volume > threshold, axis, spacing[axis]) - (slices - 1) // 2
    first = min(max(first, 0), there - slices)
    stack = np.moveaxis(volume, axis, 0)[first : first + slices]
    stack = np.clip((stack - low) / (high - low), 0, 1)[:, ::-1, ::-1].swapaxes(1, 2)
    if (np.ptp(stack, axis=(1, 2)) == 0).any():
        refuse(path, f"an empty {plane} slice near the middle of the head")
    sides = [spacing[a] for a in (2, 1, 0) if a != axis]
    return np.stack([_square(image, *sides, size) for image in stack])


def _read_volume(path: Path) -> tuple[Float32[np.ndarray, "x y z"], list[float]]:
    """The voxels, along the patient's right, anterior and superior, and their size in mm."""
    with ExitStack() as done:  # without nibabel's lines in this thread, which are the errors'
        here = get_ident()
        LOGGER.addFilter(others := lambda record: record.thread != here)
        done.callback(LOGGER.removeFilter, others)
        image = nib.load(path)
    refuse(path, _unusable(image))
    voxels = image.get_fdata(dtype=np.float32, caching="unchanged").reshape(image.shape[:3])
    upright = nib.as_closest_canonical(nib.Nifti1Image(voxels, image.affine))
    return np.asarray(upright.dataobj), nib.affines.voxel_sizes(upright.affine).tolist()


def _unusable(image: nib.spatialimages.SpatialImage) -> str | None:
    """What is wrong with a volume by its header, if anything is."""
    shape, kind = image.shape, image.get_data_dtype()
    if not isinstance(image, nib.Nifti1Image):
        return f"a file of type {type(image).__name__}, expected NIfTI"
    if len(shape) < 3 or min(shape[:3]) < 2 or np.prod(shape[3:]) != 1:
        return f"an image of shape {' x '.join(map(str, shape))}, expected one volume, x y z"
    if much := too_much(np.prod(shape, dtype=float) * (kind.itemsize + WORK), "make it smaller"):
        return f"too large a volume: {' x '.join(map(str, shape))} voxels {much}"
    if (unit := image.header.get_xyzt_units()[0]) not in ("mm", "unknown"):
        return f"voxel sizes in {unit}, expected mm; convert them, and the affine"
    if kind.kind not in "biuf":
        return f"voxels of type {kind}, expected numbers"
    if not (image.header["qform_code"] or image.header["sform_code"]):
        return "no orientation (qform and sform codes are 0): left and right are not known"
    if image.dataobj.offset < image.header.sizeof_hdr:
        return f"voxels from byte {image.dataobj.offset} on, within the header; save it anew"
    forms = image.get_qform(coded=True)[0], image.get_sform(coded=True)[0]  # None without a code
    both = all(form is not None for form in forms)
    if both and (np.prod(forms, axis=0)[:3, :3].sum(axis=0) < 0).any():
        both = " and ".join("".join(nib.aff2axcodes(form)) for form in forms)
        return f"qform and sform say {both}, expected one orientation; remove the wrong one"
    if not np.isfinite(image.affine).all() or np.linalg.matrix_rank(image.affine) < 4:
        return f"an affine that is of no use: {image.affine[:3].round(3).tolist()}"
    longest = (nib.affines.voxel_sizes(image.affine) * shape[:3]).max()
    if not 1 <= longest <= 10_000:
        return f"{longest:.3g} mm from end to end, expected a head; convert its voxel sizes to mm"
    return None


def _intensities(
    volume: Float32[np.ndarray, "x y z"], percentiles: Sequence[float | int], path: Path
) -> tuple[float, float, float]:
    """Above what a voxel is of the head (Smith 2002, BET), and which are black and white."""
    sample = volume.ravel(order="K")[:: volume.size // SAMPLE + 1]
    refuse(path, None if np.isfinite(sample).all() else "no voxel with a finite value")
    dark, bright, least, most = np.percentile(sample, (2, 98, 0, 100)).tolist()
    refuse(path, f"the same value, {least:g}, everywhere" if least == most else None)
    threshold = 0.9 * dark + 0.1 * bright if dark < bright else 0.9 * least + 0.1 * most
    low, high = np.percentile(sample[sample > threshold], percentiles).tolist()
    return threshold, low if low < high else threshold, high


def _middle(head: Bool[np.ndarray, "x y z"], axis: int, spacing: float) -> int:
    """The slice halfway through the head, whatever margin or neck there is."""
    area = head.sum(axis=tuple({0, 1, 2} - {axis}))
    first, last = np.flatnonzero(area > EDGE * area.max())[[0, -1]].tolist()
    if axis == PLANES["axial"]:
        first = max(first, last - round(HEAD / spacing))
    return (first + last) // 2


def _square(
    image: Float32[np.ndarray, "rows columns"], height: float, width: float, size: int
) -> UInt8[np.ndarray, "size size"]:
    """An image of 0 to 1, whose pixels are `height` x `width` mm, centred on black, bilinear."""
    extent = np.multiply(image.shape[::-1], (width, height))
    columns, rows = np.maximum(1, (size * extent / extent.max()).round().astype(int)).tolist()
    fitted = Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR)
    square = Image.new("F", (size, size))
    square.paste(fitted, ((size - columns) // 2, (size - rows) // 2))
    return (255 * np.asarray(square)).round().astype(np.uint8)
