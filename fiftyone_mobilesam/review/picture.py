"""A mask and its prompt drawn on the part of the image they are in."""

import base64
import io

import numpy as np
from PIL import Image, ImageDraw

from fiftyone_mobilesam.engine.item import Answer
from mobilesam.front.drawing import rim

CANVAS = (880, 560)  # width, height: of one size, so that the buttons below the picture stay where they are
BACKGROUND = (22, 22, 24)
MASK, BOX, FOREGROUND, OTHER = (255, 109, 4), (255, 255, 255), (60, 220, 90), (240, 60, 60)
MARGIN = 0.3  # of the object's size, on each side
LEAST = 48  # pixels of the image that are shown at least


def draw_mask(
    pixels: np.ndarray, mask: np.ndarray | None, mask_box: list[float] | None, answer: Answer | None
) -> Image.Image:
    """Draw a mask as an outline with a light fill, and its prompt as a box or points, on (H, W, 3) uint8 RGB pixels.

    The mask is inside its box, which is FiftyOne's relative `[x, y, width, height]`.
    """
    hw, own = pixels.shape[:2], None
    if mask is not None and mask_box:
        x, y, w, h = mask_box
        own = np.array([x, y, x + w, y + h]) * np.tile(hw[::-1], 2)
    boxes = [box for box in (own, answer and answer.around) if box is not None]
    x0, y0, x1, y1 = _window(boxes, hw)
    scale = min(CANVAS[0] / (x1 - x0), CANVAS[1] / (y1 - y0))
    size = max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale))
    picture = Image.fromarray(pixels[y0:y1, x0:x1]).resize(size, Image.Resampling.BICUBIC)

    def place(point: np.ndarray) -> tuple[float, float]:
        return (point[0] - x0) * scale, (point[1] - y0) * scale

    if own is not None:
        _paint_mask(picture, mask, [*place(own[:2]), *place(own[2:])])
    if answer is not None and answer.prompt is not None:
        _draw_prompt(picture, answer, place)
    canvas = Image.new("RGB", CANVAS, BACKGROUND)
    canvas.paste(picture, ((CANVAS[0] - size[0]) // 2, (CANVAS[1] - size[1]) // 2))
    return canvas


def as_data_uri(picture: Image.Image) -> str:
    """Return a picture as text that a browser shows: a JPEG of about 100 kB."""
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()


def _window(boxes: list[np.ndarray], hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the part of the image to show: around all boxes with a margin, or the whole image."""
    height, width = hw
    if not boxes:
        return 0, 0, width, height
    corners = np.array(boxes)
    low, high = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
    half = np.maximum((high - low) * (0.5 + MARGIN), LEAST / 2)
    shape = half[0] / half[1] * CANVAS[1] / CANVAS[0]  # widened to the canvas, so that it is filled where it can be
    half = half * [max(1.0, 1 / shape), max(1.0, shape)]
    centre = (low + high) / 2
    x0, y0 = np.floor((centre - half).clip(0)).astype(int)
    x1, y1 = np.ceil(np.minimum(centre + half, [width, height])).astype(int)
    x0, y0 = min(x0, width - 1), min(y0, height - 1)
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)


def _paint_mask(picture: Image.Image, mask: np.ndarray, corners: list[float]) -> None:
    left, top, right, bottom = (round(value) for value in corners)
    size = max(1, right - left), max(1, bottom - top)
    layer = Image.new("L", picture.size)
    layer.paste(Image.fromarray((mask > 0).astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST), (left, top))
    picture.paste(MASK, mask=layer.point(lambda value: value // 4))
    for width, colour in ((7, (0, 0, 0)), (5, MASK)):  # a dark rim, so that the line is seen on any image
        picture.paste(colour, mask=Image.fromarray(rim(np.asarray(layer), width)))


def _draw_prompt(picture: Image.Image, answer: Answer, place: object) -> None:
    draw = ImageDraw.Draw(picture)
    prompt = answer.prompt
    if prompt.box is not None:
        corners = [*place(prompt.box[:2]), *place(prompt.box[2:])]
        draw.rectangle(corners, outline=(0, 0, 0), width=4)
        draw.rectangle([corners[0] + 1, corners[1] + 1, corners[2] - 1, corners[3] - 1], outline=BOX, width=2)
    if prompt.point_coords is not None:
        for point, label in zip(prompt.point_coords, prompt.point_labels, strict=True):
            x, y = place(point)
            colour = FOREGROUND if label == 1 else OTHER
            draw.ellipse([x - 7, y - 7, x + 7, y + 7], fill=colour, outline="white", width=2)
