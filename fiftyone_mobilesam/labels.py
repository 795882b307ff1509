"""Masks -> FiftyOne labels: pixel-exact boxes, everything of the prompt kept, a reason where there is no mask."""

import math
from dataclasses import replace

import fiftyone as fo
import numpy as np

from fiftyone_mobilesam.options import Options
from fiftyone_mobilesam.prompts import PromptRecord
from fiftyone_mobilesam.report import NO_MASK
from mobilesam import MaskCrop, Results
from mobilesam.geometry import Region, snap_outward, tight_region
from mobilesam.utils.amg import remove_small_regions

# What this project adds to a label, and the field type each is declared with.
ATTRIBUTES = {
    "prompt_id": fo.StringField,
    "predicted_iou": fo.FloatField,
    "stability_score": fo.FloatField,
    "failure": fo.StringField,
}


def new_detection(
    record: PromptRecord,
    crop: MaskCrop | None,
    options: Options,
    *,
    original_hw: tuple[int, int],
    failure: str | None = None,
) -> fo.Detection:
    """Make the output label of one prompt.

    Label, tags, index, instance, confidence and all attributes come from the prompt's label; `prompt_id` is its id.

    Args:
        record: the prompt.
        crop: its mask, or None.
        options: of the run.
        original_hw: size of the image.
        failure: why there is no mask. Default: the record's own failure, or that the mask is empty.
    """
    source = record.label
    detection = fo.Detection(
        label=source.label,
        tags=list(source.tags),
        index=source.index,
        confidence=None if isinstance(source, fo.Keypoint) else source.confidence,
        **{**dict(source.iter_attributes()), **dict.fromkeys(ATTRIBUTES)},
    )
    fill(detection, record, crop, options, original_hw=original_hw, failure=failure)
    return detection


def found_detection(crop: MaskCrop, *, original_hw: tuple[int, int]) -> fo.Detection:
    """Make the label of a mask that no prompt asked for. Its confidence is its predicted IoU, 1 at most."""
    return fo.Detection(
        mask=crop.mask,
        bounding_box=relative_box(crop.region, original_hw=original_hw),
        confidence=min(1.0, crop.iou_prediction),
        predicted_iou=crop.iou_prediction,
        stability_score=crop.stability_score,
    )


def cleaned(crop: MaskCrop, min_region_area: float) -> MaskCrop:
    """Return a mask without holes and islands of fewer pixels. Its scores stay those of what the model said."""
    if min_region_area <= 0 or not crop.mask.any():
        return crop
    rim = math.ceil(math.sqrt(min_region_area) / 2)  # wide enough that what is outside the mask is no small hole
    mask, filled = remove_small_regions(np.pad(crop.mask, rim), min_region_area, "holes")
    mask, removed = remove_small_regions(mask[rim:-rim, rim:-rim], min_region_area, "islands")
    if not filled and not removed:
        return crop
    x0, y0, x1, y1 = tight_region(mask)
    left, top = crop.region[:2]
    return replace(crop, region=(left + x0, top + y0, left + x1, top + y1), mask=mask[y0:y1, x0:x1].copy())


def detections_of(result: Results) -> fo.Detections:
    """Return FiftyOne's labels of a `mobilesam.Results`: one a mask, in order, boxes tight around the masks.

    The label is the class name and the confidence the score, 1 at most. An empty mask has a reason in `failure`.
    """
    data = result.numpy()
    detections = []
    for mask, score, index in zip(data.masks.data, data.boxes.conf, data.boxes.cls, strict=True):
        x0, y0, x1, y1 = region = tight_region(mask)
        detection = fo.Detection(label=result.names[int(index)], confidence=min(1.0, float(score)))
        detection["predicted_iou"], detection["failure"] = float(score), None if x1 else NO_MASK
        detection.bounding_box = relative_box(region, original_hw=result.orig_shape)
        detection.mask = mask[y0:y1, x0:x1].copy() if x1 else None
        detections.append(detection)
    return fo.Detections(detections=detections)


def fill(
    detection: fo.Detection,
    record: PromptRecord,
    crop: MaskCrop | None,
    options: Options,
    *,
    original_hw: tuple[int, int],
    failure: str | None = None,
) -> None:
    """Write a mask, its box and its scores into a detection, or the reason why there is none.

    A mask that the detection has already is replaced by a new mask only, never by a failure.
    """
    detection["prompt_id"] = record.label.id
    usable = crop is not None and crop.mask.any()
    detection["failure"] = None if usable else failure or record.failure or NO_MASK
    detection["predicted_iou"] = float(crop.iou_prediction) if crop is not None else None
    detection["stability_score"] = float(crop.stability_score) if crop is not None else None
    if not usable:
        if not detection.bounding_box:
            detection.bounding_box = _failed_box(record, original_hw)
        return
    region, mask = crop.region, crop.mask
    if options.box_is_prompt and record.prompt.box is not None:
        region = snap_outward(record.prompt.box, original_hw=original_hw)
        mask = _on_canvas(crop, region)
    detection.mask, detection.mask_path = mask, None
    detection.bounding_box = relative_box(region, original_hw=original_hw)
    if options.confidence == "predicted_iou":
        detection.confidence = min(1.0, float(crop.iou_prediction))


def relative_box(region: Region, *, original_hw: tuple[int, int]) -> list[float]:
    """Return whole pixels `(x0, y0, x1, y1)` as FiftyOne's relative `[x, y, width, height]`.

    FiftyOne finds the pixels again by truncation in some places (`to_segmentation`, COCO export) and by rounding in
    others (`evaluate_detections`). Plain fractions truncate one pixel short about one time in ten; these do not.
    """
    height, width = original_hw
    x0, y0, x1, y1 = region
    (x, w), (y, h) = _relative_span(x0, x1, width), _relative_span(y0, y1, height)
    return [x, y, w, h]


def _relative_span(start: int, stop: int, size: int) -> tuple[float, float]:
    offset = start / size
    while int(size * offset) < start:
        offset = math.nextafter(offset, math.inf)
    extent = stop / size - offset
    while int(size * (offset + extent)) < stop:
        extent = math.nextafter(extent, math.inf)
    return offset, extent


def _on_canvas(crop: MaskCrop, region: Region) -> np.ndarray:
    """Return the mask on the canvas of a region that holds it."""
    x0, y0, x1, y1 = region
    canvas = np.zeros((y1 - y0, x1 - x0), dtype=bool)
    left, top, right, bottom = crop.region
    canvas[top - y0 : bottom - y0, left - x0 : right - x0] = crop.mask
    return canvas


def _failed_box(record: PromptRecord, original_hw: tuple[int, int]) -> list[float]:
    """Return the prompt's own box; around a keypoint's points; the image's corner if there is neither."""
    given = getattr(record.label, "bounding_box", None)
    if given is not None and len(given) == 4:
        return list(given)
    if record.box is None:
        return [0.0, 0.0, 0.0, 0.0]
    height, width = original_hw
    x0, y0, x1, y1 = record.box
    return [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height]
