"""MobileSAM in plain PyTorch: arrays in, arrays out."""

from mobilesam._version import __version__

__all__ = ["__version__"]
