"""The mask of a prompt that is to be refined: as plain data in the prompt, and as pixels of the image it is for.

`prompt["outline"]` is `{"polygons": [[[x, y], ...], ...]}`, in the frame of the prompt, or
`{"mask": run lengths, "box": xyxy}`, a mask that is stretched over a box in the frame of the prompt.
"""

from typing import Any

import numpy as np

from mobilesam import PromptError
from mobilesam.geometry import Crop, rle, snap_outward, tight_region
from mobilesam.geometry.polygons import filled

Outline = dict[str, Any]


def bounds(polygons: list[list[list[float]]]) -> list[float]:
    """Return the box around polygons, xyxy."""
    points = np.concatenate([np.array(polygon, dtype=np.float64).reshape(-1, 2) for polygon in polygons])
    return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]


def draw(outline: Outline, scale: np.ndarray, original_hw: tuple[int, int]) -> Crop:
    """Return the pixels of an outline; `scale` (2,) takes its xy to pixels of the image.

    Raises:
        PromptError: it has no pixel in the image.
    """
    box = bounds(outline["polygons"]) if "polygons" in outline else outline["box"]
    x0, y0, x1, y1 = region = snap_outward(np.array(box) * np.tile(scale, 2), original_hw=original_hw)
    size = y1 - y0, x1 - x0
    if "polygons" in outline:
        # From the edges of pixels to their centres.
        polygons = [np.array(polygon).reshape(-1, 2) for polygon in outline["polygons"] if len(polygon)]
        shapes = [polygon * scale - (x0, y0) - 0.5 for polygon in polygons]
        mask = np.any([filled(shape, size) for shape in shapes], axis=0)
    else:
        mask = rle.decode(outline["mask"])
        mask = _stretched(mask, np.array(box) * np.tile(scale, 2), region)
    left, top, right, bottom = tight_region(mask)
    if not right:
        raise PromptError("A mask to refine must have pixels in the image, got none. Draw it again, or delete it.")
    return Crop((x0 + left, y0 + top, x0 + right, y0 + bottom), mask[top:bottom, left:right].copy())


def _stretched(mask: np.ndarray, box: np.ndarray, region: tuple[int, int, int, int]) -> np.ndarray:
    """Return the part of a mask (h, w), stretched over a box (4,) of the image, that a region of it shows."""
    x0, y0, x1, y1 = region
    if mask.shape == (y1 - y0, x1 - x0):
        return mask
    left, top, right, bottom = box
    rows = ((np.arange(y0, y1) + 0.5 - top) / (bottom - top) * mask.shape[0]).astype(int).clip(0, mask.shape[0] - 1)
    columns = ((np.arange(x0, x1) + 0.5 - left) / (right - left) * mask.shape[1]).astype(int)
    return mask[rows[:, None], columns.clip(0, mask.shape[1] - 1)[None]]
