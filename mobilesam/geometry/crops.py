"""Crops of an image in which its small objects are large: several objects share one."""

from collections.abc import Sequence

import numpy as np

from mobilesam.geometry.boxes import Region

# All measured on 400 photographs with 4,130 objects, see docs/accuracy.md.
SMALL = 128  # pixels of the input frame; a box with a longer side gains less than a crop costs
CROP = 8  # sides of the box that its crop is wide
MOST = 4  # crops an image
WORTH = 1.25  # a crop shows its objects larger by this factor at least
MARGIN = 0.5  # of its longer side that a box has around it in a crop, where the image goes on


def plan_crops(boxes: Sequence[np.ndarray | None], original_hw: tuple[int, int]) -> list[tuple[Region, list[int]]]:
    """Choose crops for the small ones of N boxes (4,) xyxy pixels; None is no box.

    Each object is in one crop at most, of 4 to 16 times its size. The crop that the most objects share comes first.

    Returns:
        Crops `(x0, y0, x1, y1)` of the original image, and the indices of the boxes in each; at most `MOST`.
    """
    long_side = max(original_hw)
    sides = np.array([0.0 if box is None else (box[2:] - box[:2]).max() for box in boxes])
    open_ = [i for i, side in enumerate(sides) if 0 < side * 1024 / long_side < SMALL]
    candidates = {i: _crop_around(boxes[i], max(CROP * sides[i], 64.0), original_hw) for i in open_}
    candidates = {i: crop for i, crop in candidates.items() if WORTH * max(_size(crop)) <= long_side}
    planned: list[tuple[Region, list[int]]] = []
    while candidates and len(planned) < MOST:
        shared = {
            i: [
                j
                for j in open_
                if j == i or (sides[i] / 2 < sides[j] < 2 * sides[i] and _holds(crop, boxes[j], sides[j], original_hw))
            ]
            for i, crop in candidates.items()
        }
        best = max(shared, key=lambda i: len(shared[i]))  # the first of equals
        planned.append((candidates[best], shared[best]))
        open_ = [i for i in open_ if i not in shared[best]]
        candidates = {i: crop for i, crop in candidates.items() if i in open_}
    return planned


def _crop_around(box: np.ndarray, side: float, original_hw: tuple[int, int]) -> Region:
    """Return a square around the middle of a box, moved into the image and cut where the image is smaller."""
    edges = []
    for low, high, size in zip(box[:2], box[2:], original_hw[::-1], strict=True):
        length = min(round(side), size)
        start = int(np.clip(round((low + high) / 2 - length / 2), 0, size - length))
        edges.append((start, start + length))
    (x0, x1), (y0, y1) = edges
    return x0, y0, x1, y1


def _holds(crop: Region, box: np.ndarray, side: float, original_hw: tuple[int, int]) -> bool:
    """Whether a crop has a box in it, with a margin on each side that is not the image's own border."""
    (x0, y0, x1, y1), (height, width), margin = crop, original_hw, MARGIN * side
    low = (box[0] >= x0 + margin or x0 == 0) and (box[1] >= y0 + margin or y0 == 0)
    return low and (box[2] <= x1 - margin or x1 == width) and (box[3] <= y1 - margin or y1 == height)


def _size(crop: Region) -> tuple[int, int]:
    return crop[2] - crop[0], crop[3] - crop[1]
