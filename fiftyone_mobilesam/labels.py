"""Answers -> FiftyOne labels: pixel-exact boxes, everything of the prompt kept, a reason where there is no mask."""

import math
from collections.abc import Iterable, Sequence

import fiftyone as fo
import numpy as np

from fiftyone_mobilesam.confidence import NUMBERS, is_own, own_confidence
from fiftyone_mobilesam.engine.ask import NO_MASK
from fiftyone_mobilesam.engine.item import Answer, Item
from fiftyone_mobilesam.engine.report import Failure
from fiftyone_mobilesam.keep import MEASURED, SKELETON
from fiftyone_mobilesam.options import Options
from fiftyone_mobilesam.prompts import LabelPrompt
from mobilesam import Results
from mobilesam.geometry import Region, snap_outward, tight_region

# What this project adds to a label, and the field type each is declared with.
ATTRIBUTES = {
    "prompt_id": fo.StringField,
    "predicted_iou": fo.FloatField,
    "stability_score": fo.FloatField,
    "mask_quality": fo.FloatField,
    "failure": fo.StringField,
}
OF_ANOTHER_MASK = (*MEASURED, *SKELETON, "outline_iou")  # which a prompt may have, and a new mask does not take over


def labels_of(
    prompts: Sequence[LabelPrompt],
    answers: Iterable[Answer],
    options: Options,
    *,
    original_hw: tuple[int, int],
    run: str | None = None,
) -> list[fo.Detection]:
    """Make or fill one label a prompt, in order.

    `run` is the key of a run that marks its labels with it, so that they can be found, shown and undone. What it fills
    in place keeps the box it had before in `prompt_box`.
    """
    detections = []
    for prompt, answer in zip(prompts, answers, strict=True):
        detection = prompt.label
        box = getattr(detection, "bounding_box", None)
        if options.in_place:
            fill(detection, detection, answer, options, original_hw=original_hw)
        else:
            detection = new_detection(detection, answer, options, original_hw=original_hw)
        if run is not None:
            detection["run"] = run
            if options.in_place:
                detection["prompt_box"] = box and list(box)
        detections.append(detection)
    return detections


def new_detection(source: fo.Label, answer: Answer, options: Options, *, original_hw: tuple[int, int]) -> fo.Detection:
    """Make the output label of one prompt.

    Label, tags, index, instance, confidence and all attributes are those of the prompt's label; `prompt_id` is its id.
    Where the prompt has no confidence, or only that of its own mask, the confidence is the new mask's number.
    """
    detection = fo.Detection(
        label=source.label,
        tags=list(source.tags),
        index=source.index,
        confidence=None if isinstance(source, fo.Keypoint) or _has_own_confidence(source) else source.confidence,
        **{**{k: v for k, v in source.iter_attributes() if k not in OF_ANOTHER_MASK}, **dict.fromkeys(ATTRIBUTES)},
    )
    fill(detection, source, answer, options, original_hw=original_hw)
    return detection


def failures_of(item: Item, made: Iterable[fo.Detection]) -> list[Failure]:
    """Return why labels of an item have no mask. What was found without prompts has one."""
    named = [(d.get_attribute_value("failure", None), d.get_attribute_value("prompt_id", None)) for d in made]
    return [item.failure(why, prompt_id) for why, prompt_id in named if why is not None]


def implausible_of(made: Iterable[fo.Detection]) -> int:
    """Count the labels whose mask is implausible for its skeleton."""
    return sum(detection.get_attribute_value("implausible", None) is not None for detection in made)


def found_detections(
    answers: Iterable[Answer], *, original_hw: tuple[int, int], run: str | None = None
) -> list[fo.Detection]:
    """Make the labels of masks that no prompt asked for. Their confidence is their predicted IoU, 1 at most."""
    return [
        fo.Detection(
            mask=answer.crop.mask,
            bounding_box=relative_box(answer.crop.region, original_hw=original_hw),
            confidence=own_confidence(answer.crop.iou_prediction),
            predicted_iou=answer.crop.iou_prediction,
            stability_score=answer.crop.stability_score,
            mask_quality=answer.crop.mask_quality,
            **({} if run is None else {"run": run}),
        )
        for answer in answers
    ]


def detections_of(result: Results) -> fo.Detections:
    """Return FiftyOne's labels of a `mobilesam.Results`: one a mask, in order, boxes tight around the masks.

    The label is the class name and the confidence the score, 1 at most. An empty mask has a reason in `failure`.
    """
    data = result.numpy()
    detections = []
    for mask, score, index in zip(data.masks.data, data.boxes.conf, data.boxes.cls, strict=True):
        x0, y0, x1, y1 = region = tight_region(mask)
        detection = fo.Detection(label=result.names[int(index)], confidence=own_confidence(score))
        detection["predicted_iou"], detection["failure"] = float(score), None if x1 else NO_MASK
        detection.bounding_box = relative_box(region, original_hw=result.orig_shape)
        detection.mask = mask[y0:y1, x0:x1].copy() if x1 else None
        detections.append(detection)
    return fo.Detections(detections=detections)


def fill(
    detection: fo.Detection, source: fo.Label, answer: Answer, options: Options, *, original_hw: tuple[int, int]
) -> None:
    """Write a mask, its box and its scores into a detection, or the reason why there is none.

    A mask that the detection has already is replaced by a new mask only, never by a failure.
    """
    crop, by_mask = answer.crop, detection.confidence is None or _has_own_confidence(detection)
    detection["prompt_id"] = source.id
    detection["failure"] = answer.failure
    detection["predicted_iou"] = float(crop.iou_prediction) if crop is not None else None
    detection["stability_score"] = float(crop.stability_score) if crop is not None else None
    detection["mask_quality"] = crop.mask_quality if crop is not None else None
    stale = {name: None for name in SKELETON if detection.has_attribute(name)}
    for name, value in (stale | answer.skeleton).items():
        detection[name] = value
    if options.overlap == "exclusive":
        detection["pixels_moved"] = crop.pixels_moved if crop is not None else None
    if options.refine:
        detection["outline_iou"] = None if crop is None or answer.outline is None else crop.iou(answer.outline)
    if answer.failure is not None:
        if by_mask:
            detection.confidence = None
        if not detection.bounding_box:
            detection.bounding_box = _failed_box(source, answer, original_hw)
        return
    region, mask = crop.region, crop.mask
    if options.box_is_prompt and answer.prompt.box is not None:
        region = snap_outward(answer.prompt.box, original_hw=original_hw)
        (x0, y0, x1, y1), (left, top, right, bottom) = region, crop.region
        mask = np.pad(mask, ((top - y0, y1 - bottom), (left - x0, x1 - right)))
    detection.mask, detection.mask_path = mask, None
    for name in MEASURED:  # of the mask that was there
        if detection.has_attribute(name):
            detection[name] = None
    detection.bounding_box = relative_box(region, original_hw=original_hw)
    if options.confidence == "predicted_iou":
        detection.confidence = own_confidence(crop.iou_prediction)
    elif by_mask:
        detection.confidence = own_confidence(crop.iou_prediction, crop.mask_quality)


def _has_own_confidence(label: fo.Label) -> bool:
    return is_own({name: label.get_attribute_value(name, None) for name in ("confidence", *NUMBERS)})


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


def _failed_box(source: fo.Label, answer: Answer, original_hw: tuple[int, int]) -> list[float]:
    """Return the prompt's own box; around a keypoint's points; the image's corner if there is neither."""
    given = getattr(source, "bounding_box", None)
    if given is not None and len(given) == 4:
        return list(given)
    if answer.around is None:
        return [0.0, 0.0, 0.0, 0.0]
    height, width = original_hw
    x0, y0, x1, y1 = answer.around
    return [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height]
