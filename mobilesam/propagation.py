"""Objects carried through ordered images: the mask in one image is the prompt in the next.

The box grown around a mask, its innermost point and its logits name the same object in the next frame of a video or
the next view of a scene, as Segment Anything in 3D does between views. A track ends when the model doubts its mask, the
mask does not overlap the one before, or the model finds something else without those logits: told of a mask, it sees it
with a predicted IoU of 0.95 also where the object is gone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mobilesam.geometry import ImageEmbedding, MaskCrop, clip_box
from mobilesam.geometry.boxes import grow_box
from mobilesam.geometry.masks import interior_point
from mobilesam.predictor import SamPredictor
from mobilesam.prompts import Prompt


@dataclass(frozen=True)
class Drift:
    """When a track ends.

    Attributes:
        min_iou: least predicted IoU of a mask.
        min_overlap: least IoU of a mask with the one in the image before.
        min_agreement: least IoU of a mask with what the box and the point alone give. Seen with a drawn object that
            moves by a fifth of its size: 0.98 while it is there, 0.5 once it is gone.
        margin: how far the next box reaches beyond the mask, as a fraction of its size on each side: the object moves.
    """

    min_iou: float = 0.6
    min_overlap: float = 0.3
    min_agreement: float = 0.7
    margin: float = 0.1


@dataclass(frozen=True, eq=False)
class Step:
    """What became of a track in an image."""

    crop: MaskCrop | None  # the mask, with its logits; None if the track has ended
    reason: str | None = None  # why it has ended


def start_tracks(predictor: SamPredictor, prompts: Sequence[Prompt], image: ImageEmbedding) -> list[MaskCrop]:
    """Return the masks that tracks start with, one a prompt. A mask may be empty."""
    found = predictor.predict_batch(prompts, image=image, best_only=True, return_low_res_logits=True)
    return [best for (best,) in found]


def continue_tracks(
    predictor: SamPredictor, crops: Sequence[MaskCrop], image: ImageEmbedding, drift: Drift | None = None
) -> list[Step]:
    """Find the objects of the image before in this one, of the same size; one step a crop.

    The crops are their masks there, none empty, with their logits.
    """
    drift = drift or Drift()
    prompts = [_next_prompt(crop, image.original_hw, drift.margin) for crop in crops]
    found = start_tracks(predictor, prompts, image)
    untold = start_tracks(predictor, [replace(prompt, mask_input=None) for prompt in prompts], image)
    return [_judge(*masks, drift) for masks in zip(crops, found, untold, strict=True)]


def _next_prompt(crop: MaskCrop, original_hw: tuple[int, int], margin: float) -> Prompt:
    """Return the box, point and logits by which the next image finds an object."""
    box = clip_box(grow_box(crop.region, margin), original_hw=original_hw)
    return Prompt(box=box, point_coords=innermost_point(crop)[None], mask_input=crop.low_res_logits[None])


def innermost_point(crop: MaskCrop) -> np.ndarray:
    """Return the centre of the mask's pixel that is furthest from its edge, (2,) float64 xy of the original image."""
    return np.add(crop.region[:2], interior_point(crop.mask))


def overlap(a: MaskCrop, b: MaskCrop) -> float:
    """Return the IoU of two masks of images of one size; 0 if both are empty."""
    x0, y0 = np.maximum(a.region[:2], b.region[:2])
    x1, y1 = np.minimum(a.region[2:], b.region[2:])
    shared = 0
    if x1 > x0 and y1 > y0:
        parts = [
            crop.mask[y0 - crop.region[1] : y1 - crop.region[1], x0 - crop.region[0] : x1 - crop.region[0]]
            for crop in (a, b)
        ]
        shared = int((parts[0] & parts[1]).sum())
    union = a.area + b.area - shared
    return shared / union if union else 0.0


def _judge(before: MaskCrop, now: MaskCrop, untold: MaskCrop, drift: Drift) -> Step:
    if not now.mask.any():
        return Step(None, "the object is not seen any more")
    if now.iou_prediction < drift.min_iou:
        return Step(None, f"its predicted IoU fell to {now.iou_prediction:.2f}, below {drift.min_iou}")
    if (shared := overlap(before, now)) < drift.min_overlap:
        return Step(None, f"its mask overlaps the one before by {shared:.2f}, less than {drift.min_overlap}")
    if (agreement := overlap(now, untold)) < drift.min_agreement:
        return Step(
            None, f"without the mask before the model finds another: {agreement:.2f}, below {drift.min_agreement}"
        )
    return Step(now)
