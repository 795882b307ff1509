"""Masks as polygons: with parts and holes, or as the one outline that some formats have room for."""

from typing import Any

import cv2
import numpy as np


def contours(mask: np.ndarray) -> np.ndarray:
    """Return the outer contours of a mask (H, W) bool one after the other, without holes: (K, 2) float32 xy pixels."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return np.concatenate([np.empty((0, 2)), *(contour[:, 0] for contour in found)]).astype(np.float32)


def parts(mask: np.ndarray) -> list[dict[str, Any]]:
    """Return each part of a mask (H, W) bool, largest first: its outline (K, 2) and its holes, int xy pixels.

    Outlines go through the part's own outer pixels; holes go through the pixels of the part around them.
    """
    # CCOMP has two levels: an island in a hole is a part of its own, not the child of that hole.
    found, hierarchy = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    result = {i: {"outline": c[:, 0], "holes": []} for i, c in enumerate(found) if hierarchy[0][i][3] < 0}
    for contour, (_, _, _, parent) in zip(found, [] if hierarchy is None else hierarchy[0], strict=True):
        if parent >= 0:
            result[parent]["holes"].append(contour[:, 0])
    return sorted(result.values(), key=lambda part: -cv2.contourArea(part["outline"]))


def outline(mask: np.ndarray) -> np.ndarray:
    """Return one polygon around all parts of a mask (H, W) bool, holes filled: (K, 2) float32 xy pixels.

    Parts are joined by a bridge without width between near points, as YOLO's converters do.
    """
    found = [part["outline"].astype(np.float32) for part in parts(mask)]
    return _joined(found) if found else np.empty((0, 2), np.float32)


def rings(mask: np.ndarray) -> tuple[list[np.ndarray], int]:
    """Return a polygon for each part of a mask (H, W) bool, and the number of holes.

    The polygons, (K, 2) int xy each, run along the edges of the pixels: a pixel (x, y) is the square from there to
    (x + 1, y + 1), as in COCO. A hole is joined to its outline by a bridge without width. `pycocotools` draws exactly
    the same mask again.
    """
    twice = np.repeat(np.repeat(mask, 2, axis=0), 2, axis=1)
    found = parts(twice)
    polygons = []
    for part in found:
        # Each pixel is two, so that a line of one pixel has two sides; 2x and 2x - 1 lie at the edge x.
        loops = [(loop + 1) // 2 for loop in (part["outline"], *part["holes"])]
        polygons.append(_joined([loop[(loop != np.roll(loop, 1, axis=0)).any(axis=1)] for loop in loops]))
    return polygons, sum(len(part["holes"]) for part in found)


def filled(polygon: np.ndarray, original_hw: tuple[int, int]) -> np.ndarray:
    """Draw a polygon (K, 2) through the centres of pixels, as YOLO's loaders do: (H, W) bool."""
    canvas = np.zeros(original_hw, dtype=np.uint8)
    cv2.fillPoly(canvas, [np.rint(polygon).astype(np.int32)], 1)
    return canvas.astype(bool)


def polygon_area(polygon: np.ndarray) -> float:
    """Return the area inside a polygon (K, 2)."""
    x, y = polygon.astype(np.float64).T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def _joined(loops: list[np.ndarray]) -> np.ndarray:
    """Join polygons to the first, each by a bridge there and back between near points."""
    joined = loops[0]
    for loop in loops[1:]:
        j = 0
        for _ in range(2):  # near enough, where all pairs of points would be K x K distances
            i = _nearest(joined, loop[j])
            j = _nearest(loop, joined[i])
        joined = np.concatenate([joined[: i + 1], loop[j:], loop[: j + 1], joined[i:]])
    return joined


def _nearest(points: np.ndarray, point: np.ndarray) -> int:
    return int(((points - point) ** 2).sum(axis=1).argmin())
