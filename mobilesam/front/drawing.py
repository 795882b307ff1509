"""Masks, boxes and texts drawn on an image."""

import cv2
import numpy as np


def draw(
    image: np.ndarray,
    masks: np.ndarray | None,
    boxes: np.ndarray,
    texts: list[str] | None,
    *,
    with_boxes: bool = True,
    line_width: int | None = None,
) -> np.ndarray:
    """Draw objects on a copy of an image (H, W, 3) uint8 BGR, for `Results.plot`, the small ones on top.

    Masks are (N, H, W) bool, boxes (N, 4) xyxy pixels, the last pixel inclusive.
    """
    canvas = image.copy()
    line = line_width or max(1, round(sum(image.shape[:2]) / 700))
    sizes = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) if masks is None else masks.sum((1, 2))
    order = np.argsort(-sizes, kind="stable")
    for i in order if masks is not None else []:
        canvas[masks[i]] = (0.5 * canvas[masks[i]] + 0.5 * np.array(_colour(i))).astype(np.uint8)
        contours, _ = cv2.findContours(masks[i].astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(canvas, contours, -1, _colour(i), line, cv2.LINE_AA)
    for i in order:
        x1, y1, x2, y2 = (round(float(v)) for v in boxes[i])
        if with_boxes:
            cv2.rectangle(canvas, (x1, y1), (x2, y2), _colour(i), line, cv2.LINE_AA)
        if texts is not None:
            _tag(canvas, texts[i], (x1, y1), _colour(i), line)
    return canvas


def _colour(index: int) -> tuple[int, int, int]:
    """Return a bright BGR colour, neighbours far apart: hues by the golden angle."""
    hsv = np.uint8([[[int(15 + index * 180 * 0.618) % 180, 200, 255]]])
    return tuple(int(v) for v in cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0])


def _tag(canvas: np.ndarray, text: str, corner: tuple[int, int], colour: tuple[int, int, int], line: int) -> None:
    """Write dark text on a coloured bar above a corner, inside the image."""
    scale = max(0.4, line / 3)
    (width, height), baseline = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, max(1, line // 2))
    x = min(corner[0], max(0, canvas.shape[1] - width))
    y = max(corner[1], height + baseline)
    cv2.rectangle(canvas, (x, y - height - baseline), (x + width, y), colour, cv2.FILLED)
    place, thickness = (x, y - baseline // 2 - 1), max(1, line // 2)
    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (20, 20, 20), thickness, cv2.LINE_AA)
