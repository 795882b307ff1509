"""Masks, boxes and texts drawn on an image."""

from collections.abc import Sequence

import cv2
import numpy as np

FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw(
    image: np.ndarray,
    masks: np.ndarray | None,
    boxes: np.ndarray,
    texts: Sequence[str],
    *,
    colours: Sequence[int],
    with_boxes: bool,
    line_width: float | None,
    font_size: float | None,
) -> np.ndarray:
    """Draw objects on a copy of an image (H, W, 3) uint8 BGR, for `Results.plot`, the small ones on top.

    Masks are (N, H, W) bool, boxes (N, 4) xyxy pixels, the last pixel inclusive. Of N texts the empty ones are not
    drawn, and none without boxes. Equal colours are equal numbers.
    """
    canvas = image.copy()
    line = max(1, round(line_width or sum(image.shape[:2]) / 700))
    thickness = max(1, line // 2)
    scale = cv2.getFontScaleFromHeight(FONT, round(font_size), thickness) if font_size else max(0.4, line / 3)
    sizes = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) if masks is None else masks.sum((1, 2))
    order = np.argsort(-sizes, kind="stable")
    for i in order if masks is not None else []:
        canvas[masks[i]] = (0.5 * canvas[masks[i]] + 0.5 * np.array(_colour(colours[i]))).astype(np.uint8)
        contours, _ = cv2.findContours(masks[i].astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(canvas, contours, -1, _colour(colours[i]), line, cv2.LINE_AA)
    for i in order if with_boxes else []:
        x1, y1, x2, y2 = (round(float(v)) for v in boxes[i])
        cv2.rectangle(canvas, (x1, y1), (x2, y2), _colour(colours[i]), line, cv2.LINE_AA)
        if texts[i]:
            _tag(canvas, texts[i], (x1, y1), _colour(colours[i]), scale, thickness)
    return canvas


def rim(mask: np.ndarray, width: int) -> np.ndarray:
    """Return the border of a mask (H, W) uint8, as such a mask: its outermost pixel, and outside to half a width."""
    return cv2.dilate(mask, np.ones((width, width), np.uint8)) - cv2.erode(mask, np.ones((3, 3), np.uint8))


def _colour(index: int) -> tuple[int, int, int]:
    """Return a bright BGR colour, neighbours far apart: hues by the golden angle."""
    hsv = np.uint8([[[int(15 + index * 180 * 0.618) % 180, 200, 255]]])
    return tuple(int(v) for v in cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0])


def _tag(
    canvas: np.ndarray, text: str, corner: tuple[int, int], colour: tuple[int, int, int], scale: float, thickness: int
) -> None:
    """Write dark text on a coloured bar above a corner, inside the image."""
    (width, height), baseline = cv2.getTextSize(text, FONT, scale, thickness)
    x = min(corner[0], max(0, canvas.shape[1] - width))
    y = max(corner[1], height + baseline)
    cv2.rectangle(canvas, (x, y - height - baseline), (x + width, y), colour, cv2.FILLED)
    place = (x, y - baseline // 2 - 1)
    cv2.putText(canvas, text, place, FONT, scale, (20, 20, 20), thickness, cv2.LINE_AA)
