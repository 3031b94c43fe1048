"""Data sets, each opened by one door, and the biases put into them."""

from xbl_kit.data.confound import biased
from xbl_kit.data.dataset import Dataset
from xbl_kit.data.faults import DataError
from xbl_kit.data.open import KINDS, LISTED, list_images, open_dataset
from xbl_kit.data.readers import write_table

__all__ = ["KINDS", "LISTED", "DataError", "Dataset", "biased"]
__all__ += ["list_images", "open_dataset", "write_table"]
