"""Data sets, each opened by one door, and the biases put into them."""

from xbl_kit.data.dataset import Dataset
from xbl_kit.data.fault import DataError, Fault
from xbl_kit.data.source import KINDS, LISTED, list_images, open_dataset

__all__ = ["KINDS", "LISTED", "DataError", "Dataset", "Fault", "list_images", "open_dataset"]
