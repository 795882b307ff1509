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
    found, hierarchy = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    result = {i: {"outline": c[:, 0], "holes": []} for i, c in enumerate(found) if hierarchy[0][i][3] < 0}
    for contour, (_, _, _, parent) in zip(found, [] if hierarchy is None else hierarchy[0], strict=True):
        if parent >= 0:
            result[parent]["holes"].append(contour[:, 0])
    return sorted(result.values(), key=lambda part: -cv2.contourArea(part["outline"]))


def outline(mask: np.ndarray) -> np.ndarray:
    """Return one polygon around all parts of a mask (H, W) bool, holes filled: (K, 2) float32 xy pixels.

    Parts are joined by a bridge without width between their nearest points, as YOLO's converters do.
    """
    joined = None
    for part in (part["outline"].astype(np.float32) for part in parts(mask)):
        if joined is None:
            joined = part
            continue
        distances = ((joined[:, None] - part[None]) ** 2).sum(-1)
        i, j = np.unravel_index(distances.argmin(), distances.shape)
        there = np.concatenate([part[j:], part[: j + 1]])
        joined = np.concatenate([joined[: i + 1], there, joined[i:]])
    return np.empty((0, 2), np.float32) if joined is None else joined
