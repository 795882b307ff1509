"""`ResizeLongestSide` under the original's module name."""

from mobilesam.geometry.transforms import ResizeLongestSide

__all__ = ["ResizeLongestSide"]
