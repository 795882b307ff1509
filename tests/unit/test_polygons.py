"""Masks as polygons: drawn again they are the same masks."""

import cv2
import numpy as np
import pytest

from mobilesam.geometry.polygons import contours, outline, parts, polygon_area, rings


def ring_and_disc() -> np.ndarray:
    y, x = np.mgrid[:100, :160]
    ring = ((x - 50) ** 2 + (y - 50) ** 2 <= 1600) & ((x - 50) ** 2 + (y - 50) ** 2 >= 400)
    return ring | ((x - 130) ** 2 + (y - 30) ** 2 <= 225)


def fill(polygon, shape=(100, 160)) -> np.ndarray:
    return cv2.fillPoly(np.zeros(shape, np.uint8), [np.int32(polygon)], 1).astype(bool)


def test_parts_keep_their_holes():
    mask = ring_and_disc()
    ring, disc = parts(mask)
    assert (len(ring["holes"]), len(disc["holes"])) == (1, 0)
    # A hole's polygon runs through the pixels around it.
    hole = cv2.erode(fill(ring["holes"][0]).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    drawn = (fill(ring["outline"]) & ~hole) | fill(disc["outline"])
    assert (drawn & mask).sum() / (drawn | mask).sum() > 0.97


def test_one_outline_joins_the_parts_and_fills_the_holes():
    mask = ring_and_disc()
    drawn = fill(outline(mask))
    filled = mask | fill(parts(mask)[0]["outline"])
    assert not (filled & ~drawn).any()
    assert (drawn & ~filled).sum() < 60  # the bridge


def test_an_empty_mask_has_no_polygon():
    empty = np.zeros((5, 7), dtype=bool)
    assert parts(empty) == []
    assert outline(empty).shape == contours(empty).shape == (0, 2)


@pytest.mark.parametrize("seed", range(20))
def test_rings_are_drawn_as_the_same_mask_by_pycocotools(seed):
    coco_mask = pytest.importorskip(
        "pycocotools.mask", reason="pycocotools, which draws the polygons, is not installed"
    )
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 60, 2)
    blur = 2 * int(rng.integers(0, 4)) + 1
    mask = cv2.GaussianBlur(rng.random((height, width)), (blur, blur), 0).reshape(height, width) > 0.5
    mask[0, 0] = True
    polygons, holes = rings(mask)
    coco = [polygon.ravel().astype(float).tolist() for polygon in polygons]
    drawn = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(coco, int(height), int(width))))
    np.testing.assert_array_equal(drawn, mask)
    assert sum(map(polygon_area, polygons)) == mask.sum()
    background = cv2.connectedComponents(np.pad(~mask, 1, constant_values=True).astype(np.uint8), connectivity=4)[0] - 1
    assert (len(polygons), holes) == (cv2.connectedComponents(mask.astype(np.uint8))[0] - 1, background - 1)
