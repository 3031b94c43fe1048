"""Moved to `xbl_kit.storage`: weights on disk. Kept for older notebooks."""

import warnings

from xbl_kit.storage import load_model, save_model

__all__ = ["load_model", "save_model"]
warnings.warn("moved to xbl_kit.storage", DeprecationWarning, stacklevel=2)
