"""Moved to `xbl_kit.data.readers`: what reads and lists brain MRI. Kept for older notebooks."""

import warnings

from xbl_kit.data.readers.mri import list_mri
from xbl_kit.data.readers.volume import read_slices

__all__ = ["list_mri", "read_slices"]
warnings.warn("moved to xbl_kit.data.readers", DeprecationWarning, stacklevel=2)
