"""Teaching kit on unlearning spurious correlations in medical images."""

import os

__version__ = "0.1.0"
# Threads that wait sleep, and leave their core to others; torch asks for it when it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
