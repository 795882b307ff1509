"""How good a model is on examples: the IoU of each object's mask, made as labels are made."""

from collections.abc import Sequence

import numpy as np

from mobilesam.geometry import clip_region
from mobilesam.modeling import Sam
from mobilesam.predictor import SamPredictor
from mobilesam.training.examples import Example


def ious_of(sam: Sam, examples: Sequence[Example]) -> np.ndarray:
    """Return the IoU of each object's mask with its true mask, (N,), objects in order.

    Each object gets the prompt it came with, and its mask is cut at its box, as everywhere.
    """
    predictor, found = SamPredictor(sam, fast=True), []
    for one in examples:
        embedding = one.full_precision
        prompts = [truth.prompt for truth in one.objects]
        regions = [clip_region(prompt.box, True, original_hw=embedding.original_hw) for prompt in prompts]
        masks = predictor.predict_batch(prompts, image=embedding, regions=regions)
        found += [mask.iou(truth.mask) for [mask], truth in zip(masks, one.objects, strict=True)]
    return np.array(found)
