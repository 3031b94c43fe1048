"""One function a kind of data on disk: what its files say, as a `Manifest`."""

from xbl_kit.data.readers.chexpert import list_chexpert
from xbl_kit.data.readers.mri import list_mri
from xbl_kit.data.readers.radiography import list_radiography
from xbl_kit.data.readers.table import list_table, write_table

__all__ = ["list_chexpert", "list_mri", "list_radiography", "list_table", "write_table"]
