"""Masks of one image that do not overlap: each pixel goes to the mask whose logit is highest there."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mobilesam.geometry.boxes import tight_region
from mobilesam.geometry.masks import MaskCrop


class Claims:
    """Which mask each pixel of an image belongs to.

    Takes the masks one by one, keeps 8 bytes a pixel of the image, and no logits.
    """

    def __init__(self, original_hw: tuple[int, int]):
        self.highest = np.full(original_hw, -np.inf, dtype=np.float32)
        self.owner = np.full(original_hw, -1, dtype=np.int32)

    def add(self, index: int, crop: MaskCrop) -> MaskCrop:
        """Let a mask, with its logits, claim its pixels; return it without the logits."""
        x0, y0, x1, y1 = crop.region
        if x1:
            highest, owner = self.highest[y0:y1, x0:x1], self.owner[y0:y1, x0:x1]
            won = crop.mask & (crop.logits > highest)
            highest[won], owner[won] = crop.logits[won], index
        return replace(crop, logits=None)

    def settled(self, index: int, crop: MaskCrop) -> MaskCrop:
        """Return a mask with the pixels that are its own, and how many others got in `pixels_moved`."""
        x0, y0, x1, y1 = crop.region
        if not x1:
            return replace(crop, pixels_moved=0)
        own = crop.mask & (self.owner[y0:y1, x0:x1] == index)
        left, top, right, bottom = tight_region(own)
        region = (x0 + left, y0 + top, x0 + right, y0 + bottom) if right else (0, 0, 0, 0)
        moved = crop.area - int(own.sum())
        return replace(crop, region=region, mask=own[top:bottom, left:right].copy(), pixels_moved=moved)


def exclusive(crops: Sequence[MaskCrop], original_hw: tuple[int, int]) -> list[MaskCrop]:
    """Return masks of one image, with their logits, as masks that share no pixel, in the same order."""
    claims = Claims(original_hw)
    crops = [claims.add(index, crop) for index, crop in enumerate(crops)]
    return [claims.settled(index, crop) for index, crop in enumerate(crops)]
