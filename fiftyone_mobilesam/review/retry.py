"""A new mask for a label under review, from its own prompt with other settings."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fiftyone_mobilesam.engine.ask import NO_MASK
from fiftyone_mobilesam.engine.item import Answer, Item
from fiftyone_mobilesam.engine.reader import Reader
from fiftyone_mobilesam.options import Options
from fiftyone_mobilesam.prompts import label_prompts
from fiftyone_mobilesam.review.records import Change, MaskUnderReview
from fiftyone_mobilesam.review.review import Review
from fiftyone_mobilesam.runs import call_of, settings_of
from mobilesam import ImageError, MaskCrop, Prompt, PromptError
from mobilesam.geometry import clip_box, clip_region

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

    The prompt is the label that `prompt_id` names; if it is gone, the mask's own box. `how` is one of `RETRIES`; the
    model is by default one that this process shares, with the weights that `weights_of` names.

    Raises:
        PromptError: there is no usable box or point, or no pixel of an object; the old mask stays.
        ImageError: the image cannot be read.
        ConflictError: the label was changed or deleted meanwhile.
        CheckpointError: the weights do not load.
    """
    from fiftyone_mobilesam.labels import fill  # brings torch
    from fiftyone_mobilesam.models import shared_model

    if how not in RETRIES:
        raise ValueError(f"how must be one of {', '.join(RETRIES)}, got {how!r}.")
    pixels = read_pixels(mask)
    original_hw = pixels.shape[:2]
    label, answer = mask.label, asked(mask, how, original_hw=original_hw)
    source = mask.prompt or label
    prompt_id = mask.document.get("prompt_id")
    is_own_prompt = source.id == label.id == prompt_id
    options = Options(
        prompt_field=mask.prompt_field or review.label_field,
        clip=how != "unclipped",
        box="prompt" if is_own_prompt and how in ("candidate", "centre") else "mask",
    )
    current = mask.document.get("predicted_iou")
    crop = _predict(
        model or shared_model(weights=weights_of(review, mask)), pixels, answer.prompt, options, how, current=current
    )
    if not crop.mask.any():
        raise PromptError(NO_MASK)
    fill(label, source, replace(answer, crop=crop), options, original_hw=original_hw)
    label["prompt_id"] = prompt_id
    return review.replace(mask, label)


def weights_of(review: Review, mask: MaskUnderReview) -> str:
    """Return the weights of the run that made a mask, or of the latest that filled its field; else the bundled ones."""
    run, dataset = mask.document.get("run"), review.dataset
    if run and dataset.has_run(run):
        call = call_of(dataset.get_run_info(run).config)
    else:
        call = settings_of(dataset, review.label_field)
    return call.get("weights") or "mobile_sam.pt"


def read_pixels(mask: MaskUnderReview) -> np.ndarray:
    """Return the image of a mask, (H, W, 3) uint8 RGB, the right way up. A late frame of a video takes a while."""
    image = Reader().read(Item(key="", image=mask.filepath, frame_number=mask.frame_number))
    if image.pixels is None:
        raise ImageError(image.failure)
    return image.pixels


def asked(mask: MaskUnderReview, how: str | None = None, *, original_hw: tuple[int, int]) -> Answer:
    """Return the prompt of a mask, changed as a way to try again asks."""
    answer = _asked(mask.prompt or mask.label, original_hw)
    if how not in ("centre", "padded"):
        return answer
    prompt = answer.prompt
    box = prompt.box if prompt.box is not None else _asked(mask.label, original_hw).prompt.box
    coords, labels = prompt.point_coords, prompt.point_labels
    if how == "padded":
        margin = PADDING * (box[2:] - box[:2])
        box = clip_box(np.concatenate([box[:2] - margin, box[2:] + margin]), original_hw=original_hw)
    else:
        centre = (box[:2] + box[2:])[None] / 2
        coords = centre if coords is None else np.concatenate([coords, centre])
        labels = np.append([] if labels is None else labels, 1)
    return replace(answer, prompt=Prompt(box=box, point_coords=coords, point_labels=labels), around=box)


def _asked(label: object, original_hw: tuple[int, int]) -> Answer:
    [prompt] = label_prompts({"prompt_field": label}, Options(prompt_field="prompt"))
    answer = prompt.ask(original_hw)
    if answer.prompt is None:
        raise PromptError(answer.failure)
    return answer


def _predict(
    model: "MobileSAMModel", pixels: np.ndarray, prompt: Prompt, options: Options, how: str, *, current: float | None
) -> MaskCrop:
    [embedding] = model.predictor.encode_images([pixels])
    regions = [clip_region(prompt.box, options.clip, original_hw=pixels.shape[:2])]

    def crops(multimask: bool | None) -> list[MaskCrop]:
        return model.predictor.predict_batch([prompt], image=embedding, regions=regions, multimask_output=multimask)[0]

    if how != "candidate":
        return max(crops(None), key=lambda crop: crop.iou_prediction)
    candidates = crops(False) + crops(True)
    if current is None:
        return candidates[0]
    # The mask that is there is recognised by its score, so that pressing the button again goes on to the next one.
    here = int(np.argmin([abs(crop.iou_prediction - current) for crop in candidates]))
    turn = candidates[here + 1 :] + candidates[: here + 1]
    return next((crop for crop in turn if crop.mask.any()), turn[0])
