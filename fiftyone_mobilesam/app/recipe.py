"""Detect, then segment, then compare with ground truth: the Grounding-SAM recipe as one call."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import fiftyone as fo
from fiftyone import ViewField as F
from fiftyone.core.collections import SampleCollection

from fiftyone_mobilesam.app.detectors import find_detector, load
from fiftyone_mobilesam.app.recorded_run import Progress, follow, segment
from fiftyone_mobilesam.engine.report import FINISHED
from fiftyone_mobilesam.fields import label_fields
from mobilesam import FieldError


def detect_then_segment(
    samples: SampleCollection,
    detector: str,
    label_field: str,
    *,
    boxes_field: str = "predictions",
    classes: Sequence[str] = (),
    confidence_thresh: float | None = None,
    gt_field: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
    **keywords: Any,
) -> dict[str, Any]:
    """Apply a detector, make masks of its boxes, and compare them with ground truth if there is any.

    Args:
        detector: name in FiftyOne's zoo, Ultralytics' name such as "yolo11n.pt", a file of such weights, or a field
            that has boxes.
        label_field, boxes_field: where the masks and the boxes go; both must be new. A field that has boxes is its own.
        classes: what to look for, for detectors that are told in words, such as "grounding-dino-tiny-torch".
        confidence_thresh: boxes below it are dropped.
        gt_field: detections to compare with: by masks if they have masks, else by boxes.
        on_progress, stop, **keywords: as in `fiftyone_mobilesam.app.recorded_run.segment`.

    Returns:
        The summary of `segment`, with `detector`, `boxes_field`, `boxes` and, if there is ground truth, `evaluation`:
        its `eval_key`, `mAP` and whether `masks` were compared.
    """
    chosen = find_detector(samples, detector)
    is_there = chosen.kind == "field"
    check_fields(samples, None if is_there else boxes_field, label_field, gt_field)
    if is_there:
        boxes_field = detector
        known = ~F("confidence").exists() | (F("confidence") >= (confidence_thresh or 0))
        samples = samples.filter_labels(boxes_field, known, only_matches=False)
    else:
        model = load(chosen, classes)
        report = follow(on_progress, stop, step="Detecting: ")
        samples.apply_model(model, label_field=boxes_field, confidence_thresh=confidence_thresh, progress=report)
    if not samples.has_field(boxes_field) or not (boxes := samples.count(f"{boxes_field}.detections")):
        raise FieldError(f"{detector} found nothing in these images. Lower the confidence, or choose another detector.")
    run = {"prompt_field": boxes_field, "on_progress": on_progress, "stop": stop, "step": "Segmenting: "}
    summary = segment(samples, label_field, **run, **keywords)
    summary |= {"detector": chosen.name, "boxes_field": boxes_field, "boxes": boxes}
    if gt_field is not None and summary["state"] == FINISHED:
        summary["evaluation"] = evaluate(samples, label_field, gt_field)
    return summary


def check_fields(samples: SampleCollection, boxes_field: str | None, label_field: str, gt_field: str | None) -> None:
    """Check the fields of the recipe; `boxes_field` is None if boxes are there."""
    for argument, value in (("boxes_field", boxes_field), ("label_field", label_field)):
        if value is not None and (not value.isidentifier() or samples.has_field(value)):
            raise FieldError(
                f"{argument} must be a new field of letters, digits and underscores, got {value!r}. Use another name."
            )
    if boxes_field == label_field:
        raise FieldError(f"boxes_field and label_field must differ, got {label_field!r} for both. Use two names.")
    fitting = label_fields(samples, (fo.Detections,))
    if gt_field is not None and gt_field not in fitting:
        raise FieldError(f"gt_field must be one of {', '.join(fitting) or 'no field here'}, got {gt_field!r}.")


def evaluate(samples: SampleCollection, label_field: str, gt_field: str) -> dict[str, Any]:
    """Compare masks with ground truth as COCO does, and keep the result with the dataset."""
    masks = samples.count(f"{gt_field}.detections.mask") > 0
    eval_key = f"{label_field}_eval"
    found = samples.filter_labels(label_field, F("failure") == None, only_matches=False)  # noqa: E711
    results = found.evaluate_detections(
        label_field, gt_field=gt_field, eval_key=eval_key, use_masks=masks, compute_mAP=True
    )
    return {"eval_key": eval_key, "mAP": round(float(results.mAP()), 4), "masks": masks}
