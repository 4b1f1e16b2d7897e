"""Limbeck: distil, quantize, export and measure vision models.

Nothing heavy is imported here: ``import limbeck`` touches no torch.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("limbeck")
except PackageNotFoundError:  # a source tree on PYTHONPATH, not installed
    __version__ = "0.1.0"
