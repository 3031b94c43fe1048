"""Moved to `xbl_kit.methods`: eXBL. Kept for older notebooks."""

import warnings

from xbl_kit.methods import ExBL

__all__ = ["ExBL"]
warnings.warn("moved to xbl_kit.methods", DeprecationWarning, stacklevel=2)
