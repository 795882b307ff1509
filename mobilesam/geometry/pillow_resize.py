"""Pillow's bilinear resize on a GPU, to the last bit: the twin of `ResizeLongestSide.apply_image`.

Pillow resizes each row and then each column, with weights in 22-bit fixed point and results rounded to 8 bits. Both are
matrix products of whole numbers below 2^53, which float64 has exactly. Images that are narrow and tall it may turn
round: those are left to it.

Source: the arithmetic of Pillow's `src/libImaging/Resample.c`.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

ONE = 1 << 22


def knows(hw: tuple[int, ...]) -> bool:
    """Whether `resize` does what Pillow does with an image of this size."""
    return max(hw[:2]) <= 2 * min(hw[:2])


def resize(image: Tensor, hw: tuple[int, int]) -> Tensor:
    """(H, W, 3) uint8 -> (h, w, 3) uint8, as `PIL.Image.resize` with `BILINEAR`."""
    height, width = image.shape[:2]
    rows, columns = (torch.from_numpy(weights(*sizes)).to(image.device) for sizes in ((height, hw[0]), (width, hw[1])))
    wide = _rounded(columns @ image.double())  # (W', W) with (H, W, 3)
    return _rounded((rows @ wide.flatten(1)).unflatten(1, wide.shape[1:])).to(torch.uint8)


@lru_cache(maxsize=8)  # up to 32 MB each for a photograph
def weights(size: int, new_size: int) -> np.ndarray:
    """Return Pillow's weights for one axis, in units of 2^-22: (new_size, size) float64."""
    scale = size / new_size
    support = max(scale, 1.0)
    found = np.zeros((new_size, size))
    for place in range(new_size):
        centre = (place + 0.5) * scale
        first, stop = max(0, int(centre - support + 0.5)), min(size, int(centre + support + 0.5))
        triangle = 1 - np.abs((np.arange(first, stop) - centre + 0.5) * (1.0 / support))
        triangle = triangle.clip(min=0)
        found[place, first:stop] = np.floor(triangle / triangle.sum() * ONE + 0.5)
    return found


def _rounded(sums: Tensor) -> Tensor:
    """Round fixed point to the nearest whole number, halves up, and cut off at 0 and 255."""
    return ((sums + ONE // 2) / ONE).floor_().clamp_(0, 255)
