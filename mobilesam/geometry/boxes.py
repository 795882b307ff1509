"""Boxes: (..., 4) xyxy pixels of the original image, right and bottom edges exclusive."""

import math

import numpy as np

Region = tuple[int, int, int, int]


def clip_box(box: np.ndarray, *, original_hw: tuple[int, int]) -> np.ndarray:
    """Clip a (4,) box to the image. A box outside the image comes back with zero area."""
    height, width = original_hw
    return np.clip(np.asarray(box, dtype=np.float64), 0, [width, height, width, height])


def snap_outward(box: np.ndarray, *, original_hw: tuple[int, int]) -> Region:
    """Return the smallest whole-pixel region `(x0, y0, x1, y1)` of the image that holds a (4,) box; one pixel at least.

    A coordinate within 1e-4 px of a whole pixel counts as that pixel: relative coordinates such as `3 / 640` come back
    from a database a little off, and must not grow the region by a pixel.
    """
    height, width = original_hw
    x0, y0, x1, y1 = clip_box(box, original_hw=original_hw)
    left, top = min(math.floor(x0 + 1e-4), width - 1), min(math.floor(y0 + 1e-4), height - 1)
    return left, top, max(math.ceil(x1 - 1e-4), left + 1), max(math.ceil(y1 - 1e-4), top + 1)


def whole_region(original_hw: tuple[int, int]) -> Region:
    """Return the region of the whole image."""
    height, width = original_hw
    return 0, 0, width, height


def clip_region(box: np.ndarray | None, clip: bool | float, *, original_hw: tuple[int, int]) -> Region | None:
    """Return the whole pixels that the mask of a (4,) box prompt is cut to, or None for the whole image.

    `clip` is True for the box itself, a number to grow it by that fraction of its size on each side, False not to cut.
    """
    if box is None or clip is False:
        return None
    return snap_outward(grow_box(box, 0.0 if clip is True else float(clip)), original_hw=original_hw)


def grow_box(box: np.ndarray | Region, share: float) -> np.ndarray:
    """Move each edge of a (4,) box outward by a share of the box's size."""
    x0, y0, x1, y1 = box
    dx, dy = (x1 - x0) * share, (y1 - y0) * share
    return np.array([x0 - dx, y0 - dy, x1 + dx, y1 + dy])


def last_inclusive(region: Region) -> list[int]:
    """Return `[x0, y0, x1, y1]` of a region with its last pixels instead of the edges behind them, as others count."""
    x0, y0, x1, y1 = region
    return [x0, y0, max(x1 - 1, 0), max(y1 - 1, 0)]


def tight_region(mask: np.ndarray) -> Region:
    """Return the smallest region `(x0, y0, x1, y1)` that holds every true pixel of a (H, W) mask, zeros if none."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return 0, 0, 0, 0
    y0, y1 = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(mask[y0:y1].any(axis=0))
    return int(columns[0]), y0, int(columns[-1]) + 1, y1
