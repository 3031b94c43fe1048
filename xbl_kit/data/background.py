"""What of a volume is background, whatever value it has."""

import numpy as np
from jaxtyping import Float32, Shaped

NOISE = 1.0  # of the standard deviation of all voxels, by which a background may vary
LOWER, SHARE = 0.02, 0.2  # of the voxels: those that are lower than it, and its own


def blacken(volume: Float32[np.ndarray, "x y z"]) -> None:
    """Give a background within the range of the head the lowest value of it, in place.

    It is what half of the border has, if that varies little and fills much of the volume: one value
    wherever it is, or, with noise, what of about that value hangs together with the border. NaN
    and infinite numbers are background, too.
    """
    from scipy.ndimage import label  # takes a sixth of what importing the kit does

    dark = ~np.isfinite(volume)
    border = _faces(volume)[~_faces(dark)]
    if border.size:
        low, value, high = np.percentile(border, (25, 50, 75))
        floor, top = 6 * low - 5 * value, 6 * high - 5 * value  # four deviations of noise
        like, varies = (volume >= floor) & (volume <= top), volume.std(where=~dark)
        fills = (volume < floor).mean() > LOWER and (like | dark).mean() > SHARE
        if fills and top - floor <= NOISE * varies:
            parts = label(like)[0] if floor < top else like
            dark |= like & np.isin(parts, np.unique(_faces(parts)))
    volume[dark] = volume.min(where=~dark, initial=np.inf)


def _faces(volume: Shaped[np.ndarray, "x y z"]) -> Shaped[np.ndarray, " n"]:
    return np.concatenate([volume.take((0, -1), axis).ravel() for axis in range(3)])
