"""Masks written as polygons, and what that loses."""

from dataclasses import dataclass

import numpy as np

from mobilesam.geometry.polygons import filled, outline, parts, polygon_area, rings


@dataclass
class PolygonLoss:
    """What became of the masks that were written as polygons.

    Attributes:
        masks_in: masks that were there.
        masks_out: masks that were written.
        parts: parts of masks that do not touch.
        holes: holes in them.
        area_in: pixels of the masks.
        area_out: area of what was written.
        largest_area_error: of one mask, as a share of its area.
    """

    masks_in: int = 0
    masks_out: int = 0
    parts: int = 0
    holes: int = 0
    area_in: int = 0
    area_out: float = 0.0
    largest_area_error: float = 0.0

    def add(self, area_in: int, area_out: float, parts: int, holes: int) -> None:
        """Book a mask with at least one pixel."""
        self.masks_in += 1
        self.masks_out += area_out > 0
        self.parts += parts
        self.holes += holes
        self.area_in += area_in
        self.area_out += area_out
        self.largest_area_error = max(self.largest_area_error, abs(area_out - area_in) / area_in)

    def __str__(self) -> str:
        return (
            f"Polygons: {self.masks_in} masks in, {self.masks_out} out, {self.parts} parts, {self.holes} holes, "
            f"area {self.area_in} px in, {self.area_out:.0f} out, at most {self.largest_area_error:.2%} off."
        )


def coco_polygons(mask: np.ndarray, corner: tuple[int, int], loss: PolygonLoss) -> list[list[float]]:
    """Return a mask, (h, w) bool with a pixel at least, as COCO polygons: a part each, holes joined to it by cuts.

    The cuts are without width. `corner` is the mask's `(x0, y0)` in the image; `loss` is told what became of it.
    """
    polygons, holes = rings(mask)
    loss.add(int(mask.sum()), sum(map(polygon_area, polygons)), len(polygons), holes)
    return [np.add(polygon, corner).ravel().tolist() for polygon in polygons]


def yolo_polygon(mask: np.ndarray, corner: tuple[int, int], original_hw: tuple[int, int], loss: PolygonLoss) -> list:
    """Return a mask as the one outline that YOLO has room for, parts joined and holes filled.

    It is x, y, x, y, ... in fractions of the image, three points at least. `mask`, `corner` and `loss` are as for
    `coco_polygons`; the area is as `cv2.fillPoly` draws it.
    """
    found, polygon = parts(mask), outline(mask)
    holes = sum(len(part["holes"]) for part in found)
    loss.add(int(mask.sum()), int(filled(polygon, mask.shape).sum()), len(found), holes)
    at_least_three = np.concatenate([polygon, np.repeat(polygon[-1:], max(0, 3 - len(polygon)), axis=0)])
    return ((at_least_three + corner) / original_hw[::-1]).ravel().tolist()
