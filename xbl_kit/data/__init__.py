"""Data sets, each opened by one door, and the biases put into them."""

from xbl_kit.data.dataset import Dataset
from xbl_kit.data.source import KINDS, open_dataset
from xbl_kit.data.table import DataError

__all__ = ["KINDS", "DataError", "Dataset", "open_dataset"]
