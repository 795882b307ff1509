"""Draw masks with their prompts over the photographs: one picture an image, one panel a kind of prompt."""

from pathlib import Path

import cv2
import fiftyone as fo
import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

PANEL = 900  # long side of a panel in pixels: small photographs are enlarged, so that lines and text stay fine
COLORS = ((255, 122, 89), (64, 196, 255), (255, 209, 64), (126, 232, 135), (214, 137, 255), (255, 143, 190))
GREY = (190, 190, 190)
FOREGROUND, BACKGROUND = (60, 220, 110), (245, 70, 70)
FONT = ImageFont.load_default(17)
HEADER = 40


def draw(sample: fo.Sample, panels: dict[str, tuple[str, str]], path: Path) -> None:
    """Write the picture of a sample.

    Args:
        sample: the sample.
        panels: by title, the prompt field and the field of masks.
        path: where the PNG goes.
    """
    photo = ImageOps.exif_transpose(Image.open(sample.filepath)).convert("RGB")
    scale = PANEL / max(photo.size)
    photo = photo.resize([max(1, round(side * scale)) for side in photo.size], Image.Resampling.LANCZOS)
    drawn = [_panel(np.asarray(photo), sample, title, *fields) for title, fields in panels.items()]
    gap = np.full((drawn[0].shape[0], 8, 3), 24, np.uint8)
    Image.fromarray(np.hstack([part for panel in drawn for part in (gap, panel)][1:])).save(path)


def _panel(photo: np.ndarray, sample: fo.Sample, title: str, prompt_field: str, mask_field: str) -> np.ndarray:
    prompts = {label.id: label for label in _labels(sample[prompt_field])}
    detections = _labels(sample[mask_field])
    colors = [COLORS[i % len(COLORS)] if d.mask is not None else GREY for i, d in enumerate(detections)]
    masks = [_canvas_mask(detection, photo.shape[:2]) for detection in detections]
    image = Image.fromarray(_blend(photo, masks, colors))
    pen, taken = ImageDraw.Draw(image, "RGBA"), []
    for detection, mask, color in zip(detections, masks, colors, strict=True):
        prompt = prompts[detection["prompt_id"]]
        _draw_prompt(pen, prompt, color, image.size)
        score = "no mask" if detection.mask is None else f"{detection['predicted_iou']:.2f}"
        _chip(pen, f"{detection.label or 'object'}  {score}", _anchor(detection, mask), color, image.size, taken)
    framed = Image.new("RGB", (image.width, image.height + HEADER), (24, 24, 24))
    framed.paste(image, (0, HEADER))
    ImageDraw.Draw(framed).text((12, HEADER / 2), title, font=FONT, fill=(235, 235, 235), anchor="lm")
    return np.asarray(framed)


def _labels(value: fo.Label | None) -> list[fo.Label]:
    return [] if value is None else list(value[value._LABEL_LIST_FIELD])


def _canvas_mask(detection: fo.Detection, hw: tuple[int, int]) -> np.ndarray:
    """Return the mask on the canvas of the panel, (H, W) bool."""
    canvas = np.zeros(hw, bool)
    if detection.mask is None:
        return canvas
    x, y, w, h = np.array(detection.bounding_box) * [hw[1], hw[0], hw[1], hw[0]]
    x0, y0, x1, y1 = round(x), round(y), max(round(x) + 1, round(x + w)), max(round(y) + 1, round(y + h))
    crop = cv2.resize(np.asarray(detection.mask, np.float32), (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR) > 0.5
    canvas[y0:y1, x0:x1] = crop[: hw[0] - y0, : hw[1] - x0]
    return canvas


def _blend(photo: np.ndarray, masks: list[np.ndarray], colors: list[tuple[int, int, int]]) -> np.ndarray:
    """Dim the photograph outside the masks and tint it inside, large masks first so that small ones stay on top."""
    grey = cv2.cvtColor(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    inside = np.any(masks, axis=0) if masks else np.zeros(photo.shape[:2], bool)
    image = np.where(inside[..., None], photo, 0.45 * photo + 0.25 * grey)
    for i in sorted(range(len(masks)), key=lambda i: -masks[i].sum()):
        image[masks[i]] = 0.55 * photo[masks[i]] + 0.45 * np.array(colors[i])
    image = np.ascontiguousarray(image, np.uint8)
    for mask, color in zip(masks, colors, strict=True):
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, outlines, -1, color, 2, cv2.LINE_AA)
    return image


def _draw_prompt(pen: ImageDraw.ImageDraw, prompt: fo.Label, color: tuple, size: tuple[int, int]) -> None:
    if isinstance(prompt, fo.Detection):
        x, y, w, h = np.array(prompt.bounding_box) * [*size, *size]
        corners = (x, y, max(x, x + w), max(y, y + h))
        pen.rectangle(corners, outline=(255, 255, 255, 255), width=4)
        pen.rectangle(corners, outline=color, width=2)
        return
    signs = prompt.get_attribute_value("sam_labels", None) or [1] * len(prompt.points)
    for (x, y), sign in zip(np.array(prompt.points) * size, signs, strict=True):
        if not np.isfinite([x, y]).all():
            continue
        pen.ellipse((x - 9, y - 9, x + 9, y + 9), fill=FOREGROUND if sign else BACKGROUND, outline=color, width=1)
        pen.ellipse((x - 9, y - 9, x + 9, y + 9), outline=(255, 255, 255), width=2)
        pen.line((x - 4, y, x + 4, y), fill=(255, 255, 255), width=2)
        if sign:
            pen.line((x, y - 4, x, y + 4), fill=(255, 255, 255), width=2)


def _anchor(detection: fo.Detection, mask: np.ndarray) -> tuple[float, float]:
    """Return where the text goes: above the middle of the mask, else at the corner of the box."""
    if not mask.any():
        return detection.bounding_box[0] * mask.shape[1], detection.bounding_box[1] * mask.shape[0]
    rows, columns = np.nonzero(mask)
    return float(columns[rows == rows.min()].mean()), float(rows.min())


def _chip(
    pen: ImageDraw.ImageDraw, text: str, anchor: tuple[float, float], color: tuple, size: tuple[int, int], taken: list
) -> None:
    """Write text on a dark chip inside the picture, moved down until it covers no other chip."""
    width, height = pen.textlength(text, font=FONT) + 16, 26
    x = min(max(4.0, anchor[0] - width / 2), max(4.0, size[0] - width - 4))
    y = min(max(4.0, anchor[1] - height - 4), size[1] - height - 4)
    while any(abs(x - a) < (width + w) / 2 + 2 and abs(y - b) < height + 2 for a, b, w in taken) and y < size[1]:
        y += height + 3
    taken.append((x, y, width))
    pen.rounded_rectangle((x, y, x + width, y + height), radius=6, fill=(20, 20, 20, 215), outline=color)
    pen.text((x + 8, y + height / 2), text, font=FONT, fill=(*color, 255), anchor="lm")
