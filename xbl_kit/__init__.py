"""Teaching kit on unlearning spurious correlations in medical images."""

__version__ = "0.1.0"
