"""A new mask for a label under review, from its own prompt with other settings."""

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from fiftyone_mobilesam.options import Options
from fiftyone_mobilesam.prompts import PromptRecord, prompt_records
from fiftyone_mobilesam.review import Review
from fiftyone_mobilesam.review_records import Change, MaskUnderReview
from mobilesam import MaskCrop, Prompt, PromptError
from mobilesam.geometry import clip_box
from mobilesam.images import read_frames, read_image

if TYPE_CHECKING:
    from fiftyone_mobilesam.zoo import MobileSAMModel

# How to try again: name -> what it does.
RETRIES = {
    "candidate": "the next of four candidates: the single answer and the three of multimask output",
    "centre": "the box, and its centre as a point on the object",
    "padded": "the box grown by 10% of its size on each side",
    "unclipped": "the same prompt, without cutting the mask at the box",
}
PADDING = 0.1


def retry(review: Review, mask: MaskUnderReview, how: str, model: "MobileSAMModel | None" = None) -> Change:
    """Predict again and put the new mask, its box and scores in place of the old ones.

    The prompt is the label that `prompt_id` names; if it is gone, the mask's own box.

    Args:
        review: where the mask is.
        mask: from `Review.load`.
        how: one of `RETRIES`.
        model: the model. Default: the one that this process shares.

    Raises:
        PromptError: there is no usable box or point, or no pixel of an object; the old mask stays.
        ImageError: the image cannot be read.
        ConflictError: the label was changed or deleted meanwhile.
    """
    from fiftyone_mobilesam.labels import NO_MASK, fill  # brings torch
    from fiftyone_mobilesam.models import cached_model

    if how not in RETRIES:
        raise ValueError(f"how must be one of {', '.join(RETRIES)}, got {how!r}.")
    pixels = read_pixels(mask)
    original_hw = pixels.shape[:2]
    label, record = mask.label, prompt_record(mask, how, original_hw=original_hw)
    is_own_prompt = record.label.id == label.id == label["prompt_id"]
    options = Options(
        prompt_field=mask.prompt_field or review.label_field,
        clip=how != "unclipped",
        box="prompt" if is_own_prompt and how in ("candidate", "centre") else "mask",
    )
    crop = _predict(model or cached_model(), pixels, record, options, how, current=mask.document.get("predicted_iou"))
    if not crop.mask.any():
        raise PromptError(NO_MASK)
    prompt_id = label["prompt_id"] if label.has_field("prompt_id") else None
    fill(label, record, crop, options, original_hw=original_hw)
    label["prompt_id"] = prompt_id
    return review.replace(mask, label)


def read_pixels(mask: MaskUnderReview) -> np.ndarray:
    """Return the image of a mask, (H, W, 3) uint8 RGB, the right way up. A late frame of a video takes a while.

    Raises:
        ImageError: it cannot be read.
    """
    if mask.frame_number is None:
        return read_image(mask.filepath)
    [(_, frame)] = islice(read_frames(mask.filepath), mask.frame_number - 1, mask.frame_number)
    return frame


def prompt_record(mask: MaskUnderReview, how: str | None = None, *, original_hw: tuple[int, int]) -> PromptRecord:
    """Return the prompt of a mask, changed as a way to try again asks.

    Raises:
        PromptError: its label cannot be a prompt.
    """
    record = _record(mask.prompt or mask.label, original_hw)
    if how not in ("centre", "padded"):
        return record
    prompt = record.prompt
    box = prompt.box if prompt.box is not None else _record(mask.label, original_hw).prompt.box
    coords, labels = prompt.point_coords, prompt.point_labels
    if how == "padded":
        margin = PADDING * (box[2:] - box[:2])
        box = clip_box(np.concatenate([box[:2] - margin, box[2:] + margin]), original_hw=original_hw)
    else:
        centre = (box[:2] + box[2:])[None] / 2
        coords = centre if coords is None else np.concatenate([coords, centre])
        labels = np.append([] if labels is None else labels, 1)
    return replace(record, prompt=Prompt(box=box, point_coords=coords, point_labels=labels), box=box)


def _record(label: object, original_hw: tuple[int, int]) -> PromptRecord:
    [record] = prompt_records({"prompt_field": label}, Options(prompt_field="prompt"), original_hw=original_hw)
    if record.prompt is None:
        raise PromptError(record.failure)
    return record


def _predict(
    model: "MobileSAMModel",
    pixels: np.ndarray,
    record: PromptRecord,
    options: Options,
    how: str,
    *,
    current: float | None,
) -> MaskCrop:
    [embedding] = model.predictor.encode_images([pixels])
    regions = [record.region(options, original_hw=pixels.shape[:2])]

    def crops(multimask_output: bool | None) -> list[MaskCrop]:
        return model.predictor.predict_batch(
            [record.prompt], image=embedding, regions=regions, multimask_output=multimask_output
        )[0]

    if how != "candidate":
        return max(crops(None), key=lambda crop: crop.iou_prediction)
    candidates = crops(False) + crops(True)
    if current is None:
        return candidates[0]
    # The mask that is there is recognised by its score, so that pressing the button again goes on to the next one.
    here = int(np.argmin([abs(crop.iou_prediction - current) for crop in candidates]))
    turn = candidates[here + 1 :] + candidates[: here + 1]
    return next((crop for crop in turn if crop.mask.any()), turn[0])
