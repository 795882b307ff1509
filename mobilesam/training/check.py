"""How good a model is on examples: the IoU of each object's mask, made as labels are made, and what it says of it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mobilesam.geometry import clip_region
from mobilesam.modeling import Sam
from mobilesam.predictor import SamPredictor
from mobilesam.quality.metrics import calibration
from mobilesam.training.examples import Example


class Checked(NamedTuple):
    """The IoU of each mask with its true mask, (N,), what the model predicted, and `mask_quality`, NaN if unknown."""

    iou: np.ndarray
    predicted: np.ndarray
    quality: np.ndarray


def check(sam: Sam, examples: Sequence[Example]) -> Checked:
    """Prompt with what each object came with, cut masks at their boxes as everywhere, and compare; objects in order."""
    predictor, ious, predicted, quality = SamPredictor(sam, fast=True), [], [], []
    for one in examples:
        embedding = one.full_precision
        prompts = [truth.prompt for truth in one.objects]
        regions = [clip_region(prompt.box, True, original_hw=embedding.original_hw) for prompt in prompts]
        masks = predictor.predict_batch(prompts, image=embedding, regions=regions)
        ious += [mask.iou(truth.mask) for [mask], truth in zip(masks, one.objects, strict=True)]
        predicted += [mask.iou_prediction for [mask] in masks]
        quality += [mask.mask_quality for [mask] in masks]
    return Checked(np.array(ious), np.array(predicted), np.array(quality, dtype=float))


def joined(parts: Sequence[Checked]) -> Checked:
    """Return the masks of all parts as one."""
    return Checked(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def figures(before: Checked, after: Checked) -> dict[str, Any]:
    """Return what a model card says of masks before and after, of the same objects; IoUs and gains are shares of 1."""
    gain = after.iou - before.iou
    error = float(gain.std(ddof=1) / np.sqrt(len(gain))) if len(gain) > 1 else None
    return {
        "masks": len(gain),
        "mean_iou_before": float(before.iou.mean()),
        "mean_iou_after": float(after.iou.mean()),
        "gain": float(gain.mean()),
        "standard_error": error,
        "spearman_before": calibration(before.predicted, before.iou)["spearman"],
        "spearman_after": calibration(after.predicted, after.iou)["spearman"],
    }
