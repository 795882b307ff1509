"""Answers as JSON: what a COCO job keeps in its journal, and Ray's actors in their shards."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from fiftyone_mobilesam.engine.ask import ask
from fiftyone_mobilesam.engine.item import Answer, Item, LoadedImage, Outcome, failed
from fiftyone_mobilesam.engine.labeller import Labeller
from mobilesam import MaskCrop
from mobilesam.geometry import rle

# `segmentation` (uncompressed COCO run lengths), `area`, `bbox` (tight, x, y, w, h), `predicted_iou`,
# `stability_score`, `mask_quality` and `failure`, which is None; of a prompt without a mask the last four only. Some
# have `pixels_moved`, `outline_iou`, or `points_outside` and `implausible`.
Record = dict[str, Any]


class RecordForm:
    """One JSON text a prompt, in order."""

    def outcome(self, item: Item, image: LoadedImage, labeller: Labeller) -> Outcome:
        """Label an item whose prompts are plain."""
        if image.pixels is None:
            return failed(item, image.failure)
        original_hw = image.pixels.shape[:2]
        # Each mask becomes run lengths before the next ones are made: all at once could be as many images.
        answers = labeller.answers(image.pixels, [ask(prompt, original_hw) for prompt in item.prompts])
        records = [record_of(answer, original_hw) for answer in answers]
        failures = [
            item.failure(record["failure"], prompt_id)
            for prompt_id, record in zip(item.prompt_ids, records, strict=True)
            if record["failure"] is not None
        ]
        counts = {"masks": len(records) - len(failures), "implausible": implausible_of(records)}
        return Outcome(item.key, list(map(json.dumps, records)), failures=failures, original_hw=original_hw, **counts)


def record_of(answer: Answer, original_hw: tuple[int, int]) -> Record:
    """Write an answer as plain data."""
    crop = answer.crop
    if crop is None:
        return record_of_failure(answer.failure)
    scores = {"predicted_iou": crop.iou_prediction, "stability_score": crop.stability_score}
    scores["mask_quality"] = crop.mask_quality
    if crop.pixels_moved is not None:
        scores["pixels_moved"] = crop.pixels_moved
    if answer.outline is not None:
        scores["outline_iou"] = crop.iou(answer.outline)
    scores |= answer.skeleton
    if answer.failure is not None:
        return {**scores, "failure": answer.failure}
    x0, y0, x1, y1 = crop.region
    return {
        "segmentation": rle.encode(crop.mask, corner=(x0, y0), size=original_hw),
        "area": crop.area,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        **scores,
        "failure": None,
    }


def implausible_of(records: Iterable[Record]) -> int:
    """Count the records whose mask is implausible for its skeleton."""
    return sum(record.get("implausible") is not None for record in records)


def record_of_failure(why: str) -> Record:
    """Return the record of a prompt for which the model was not asked."""
    return {"predicted_iou": None, "stability_score": None, "mask_quality": None, "failure": why}


def crop_of(record: Record) -> MaskCrop | None:
    """Return the mask in a record, empty if the model found none; None if it was not asked."""
    if record["predicted_iou"] is None:
        return None
    scores = {"iou_prediction": record["predicted_iou"], "stability_score": record["stability_score"]}
    # Records of earlier versions do not have these.
    scores |= {name: record.get(name) for name in ("mask_quality", "pixels_moved")}
    if record["failure"] is not None:
        return MaskCrop(region=(0, 0, 0, 0), mask=np.zeros((0, 0), bool), **scores)
    x, y, width, height = record["bbox"]
    mask = rle.decode(record["segmentation"])[y : y + height, x : x + width]
    return MaskCrop(region=(x, y, x + width, y + height), mask=mask.copy(), **scores)
