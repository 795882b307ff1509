"""Whether a mask can be that of the skeleton it was asked for. Plain counting: it changes no mask."""

import numpy as np

from mobilesam.geometry.masks import MaskCrop

# Fewer points, such as a click or two, are no skeleton.
SKELETON = 3
# Of 56 people of COCO the true mask of one has more of its points outside: somebody stands in front of all of them.
MOST_OUTSIDE = 0.6
# Fewer points can be a face alone, whose person has up to 41 times its area. With 5 or more, true masks have 0.32 to
# 2.82 times the area of the box around the points. `benchmarks/skeletons.py` measures both.
SPANNING, LEAST_AREA, MOST_AREA = 5, 0.25, 3.0


def points_outside(crop: MaskCrop, points: np.ndarray) -> float:
    """Return which share of (N, 2) points, xy pixels of the original image, lie outside a mask; 1 for an empty one."""
    return float(1 - _inside(crop, points).mean())


def why_implausible(crop: MaskCrop, points: np.ndarray) -> str | None:
    """Return why a mask can hardly be that of a skeleton, or None.

    Args:
        crop: the mask.
        points: (N, 2) xy pixels of the original image, all on the object. Fewer than 3 say nothing.
    """
    count = len(points)
    if count < SKELETON or not crop.area:
        return None
    outside = count - int(_inside(crop, points).sum())
    if outside > MOST_OUTSIDE * count:
        return f"{outside} of {count} points lie outside the mask"
    spanned = float(np.prod(np.ptp(points, axis=0)))
    if count < SPANNING or spanned < 1:
        return None
    times = crop.area / spanned
    if LEAST_AREA <= times <= MOST_AREA:
        return None
    return f"the mask has {times:.2g} times the area of the box around its {count} points"


def _inside(crop: MaskCrop, points: np.ndarray) -> np.ndarray:
    """Return which points are in a mask, (N,) bool. One on the right or lower edge counts to the pixel before it."""
    x0, y0, x1, y1 = crop.region
    within = ((points >= (x0, y0)) & (points <= (x1, y1))).all(axis=1)
    x, y = np.minimum(points[within], (x1 - 1, y1 - 1)).astype(int).T if x1 else np.empty((2, 0), int)
    found = np.zeros(len(points), dtype=bool)
    found[within] = crop.mask[y - y0, x - x0] if x1 else False
    return found
