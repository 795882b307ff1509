"""How good masks and their scores are, from plain arrays."""

import cv2
import numpy as np

# COCO's sizes: objects of less than 32 x 32 pixels, up to 96 x 96, and above.
SMALL, LARGE = 32**2, 96**2
BOUNDARY = 0.02


def mask_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Return the intersection over union of two (H, W) bool masks; 1 if both are empty."""
    union = np.logical_or(a, b).sum()
    return float(np.logical_and(a, b).sum() / union) if union else 1.0


def boundary(mask: np.ndarray) -> np.ndarray:
    """Return the pixels of a mask near its border: within a share of the image's diagonal, at least 1 pixel."""
    distance = max(1, round(BOUNDARY * float(np.hypot(*mask.shape))))
    padded = np.pad(mask.astype(np.uint8), 1)
    inner = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=distance)[1:-1, 1:-1]
    return mask & (inner == 0)


def boundary_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Return the IoU of the borders of two masks, which a large object's inside cannot hide.

    Source: Cheng et al., Boundary IoU, 2021.
    """
    return mask_iou(boundary(a), boundary(b))


def size_of(area: float) -> str:
    """Return COCO's "small", "medium" or "large" for an area in pixels."""
    return "small" if area < SMALL else "medium" if area < LARGE else "large"


def jittered(box: np.ndarray, share: float, rng: np.random.Generator, original_hw: tuple[int, int]) -> np.ndarray:
    """Move each edge of a box (4,) xyxy by up to a share of its side, within the image and at least a pixel apart."""
    sides = np.tile(box[2:] - box[:2], 2)
    moved = box + rng.uniform(-share, share, 4) * sides
    height, width = original_hw
    x0, y0 = np.clip(moved[:2], 0, [width - 1, height - 1])
    return np.array([x0, y0, *np.clip(moved[2:], [x0 + 1, y0 + 1], [width, height])])


def calibration(predicted: np.ndarray, true: np.ndarray, bins: int = 10) -> dict:
    """Compare predicted with true IoUs, (N,) each, in bins of equal width over [0, 1]; those above 1 are in the last.

    Gives the pearson and spearman correlation (None for fewer than 2 values or constant ones), the expected
    calibration error, and per bin that has values its count, mean predicted and mean true IoU.
    """
    index = np.clip((predicted * bins).astype(int), 0, bins - 1)
    rows = [
        {"count": int(row.sum()), "predicted": float(predicted[row].mean()), "true": float(true[row].mean())}
        for row in (index == i for i in range(bins))
        if row.any()
    ]
    error = sum(row["count"] * abs(row["predicted"] - row["true"]) for row in rows) / max(1, len(predicted))
    return {
        "pearson": correlation(predicted, true),
        "spearman": correlation(ranks(predicted), ranks(true)),
        "expected_calibration_error": float(error),
        "bins": rows,
    }


def correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Return Pearson's correlation, None where it is not defined."""
    if len(a) < 2 or not a.std() or not b.std():
        return None
    return float(np.corrcoef(a, b)[0, 1])


def ranks(values: np.ndarray) -> np.ndarray:
    """Return the rank of each value, equal ones sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]


def share_of_gain(score: np.ndarray, true: np.ndarray, share: float = 0.25) -> float | None:
    """Return how much of what correcting the worst masks would win is won by correcting those of the lowest score.

    (N,) scores and true IoUs -> 0 for masks that are drawn at random, 1 for the truly worst; None if all are equal, or
    if there are none.
    """
    if not len(true):
        return None
    count, loss = round(share * len(true)), 1 - true
    chosen, best, chance = loss[np.argsort(score)[:count]].sum(), np.sort(loss)[::-1][:count].sum(), loss.mean() * count
    return float((chosen - chance) / (best - chance)) if best > chance else None
