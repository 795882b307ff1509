"""Scenes with known objects, and the labels that name them."""

import fiftyone as fo
import numpy as np

from mobilesam.geometry import tight_region

SIZE = (320, 240)  # width, height of a scene


def draw_scene(ellipses, size=SIZE) -> np.ndarray:
    """Draw orange ellipses ((cx, cy), (rx, ry)) on a blue gradient -> (H, W, 3) uint8 RGB."""
    width, height = size
    y, x = np.mgrid[:height, :width].astype(np.float64)
    image = np.stack([40 + x / 8, 70 + y / 6, 150 - x / 8], axis=-1)
    surface = np.stack([225 - y / 6, 130 + x / 16, 40 + y / 8], axis=-1)
    for ellipse in ellipses:
        image = np.where(ellipse_mask(*ellipse, size)[..., None], surface, image)
    return image.clip(0, 255).astype(np.uint8)


def ellipse_mask(centre, radii, size=SIZE) -> np.ndarray:
    """Return the true mask of an ellipse, (H, W) bool."""
    y, x = np.mgrid[: size[1], : size[0]]
    return ((x + 0.5 - centre[0]) / radii[0]) ** 2 + ((y + 0.5 - centre[1]) / radii[1]) ** 2 <= 1


def ellipse_box(centre, radii, size=SIZE) -> list[float]:
    """Return FiftyOne's relative [x, y, w, h] of an ellipse."""
    (cx, cy), (rx, ry), (w, h) = centre, radii, size
    return [(cx - rx) / w, (cy - ry) / h, 2 * rx / w, 2 * ry / h]


LEFT, RIGHT = ((90, 120), (50, 70)), ((240, 100), (45, 60))


def detections(*boxes, **attributes) -> fo.Detections:
    """Make detections labelled a, b, c, ... from relative boxes."""
    return fo.Detections(
        detections=[
            fo.Detection(label=chr(ord("a") + i), bounding_box=list(box), **attributes) for i, box in enumerate(boxes)
        ]
    )


def keypoints(*point_lists, **attributes) -> fo.Keypoints:
    """Make keypoints labelled a, b, c, ... from lists of points in pixels of a scene."""
    return fo.Keypoints(
        keypoints=[
            fo.Keypoint(label=chr(ord("a") + i), points=[(x / SIZE[0], y / SIZE[1]) for x, y in points], **attributes)
            for i, points in enumerate(point_lists)
        ]
    )


def true_ellipse(ellipse, size=SIZE) -> fo.Detection:
    """Return a label with the true mask of an ellipse, on the pixels around it."""
    whole, (width, height) = ellipse_mask(*ellipse, size), size
    x0, y0, x1, y1 = tight_region(whole)
    box = [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height]
    return fo.Detection(label="a", bounding_box=box, mask=whole[y0:y1, x0:x1], confidence=0.9)


def full_mask(detection, size=SIZE) -> np.ndarray:
    """Paint a detection's mask where FiftyOne paints it, (H, W) bool."""
    single = fo.Detections(detections=[detection])
    return single.to_segmentation(frame_size=size, mask_targets={1: detection.label}).mask == 1


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Return the intersection over union of two masks."""
    return (a & b).sum() / (a | b).sum()
