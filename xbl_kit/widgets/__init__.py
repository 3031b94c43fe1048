"""What a person works with inside a notebook."""

from xbl_kit.widgets.picker import ExemplarPicker

__all__ = ["ExemplarPicker"]
