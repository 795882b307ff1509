"""`ResizeLongestSide` under the original's module name."""

from mobilesam.transforms import ResizeLongestSide

__all__ = ["ResizeLongestSide"]
