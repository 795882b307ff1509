"""Objects carried through ordered images: motion moves the mask of one image to the next, where the model sees it anew.

The box around the moved mask and its innermost point are the prompt. Of the model's three answers that one is taken
which is most like the moved mask, and which the model itself thinks well of. So an object is found that has moved by
its own size, and an answer that took in the background does not grow from image to image.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mobilesam.geometry import ImageEmbedding, MaskCrop, clip_box
from mobilesam.geometry.boxes import grow_box
from mobilesam.geometry.masks import crop_mask, interior_point, region_above
from mobilesam.motion import Motion
from mobilesam.predictor import SamPredictor
from mobilesam.prompts import Prompt

# Chosen on five clips of DAVIS, see docs/jobs.md.
PREDICTED_IOU_COUNTS = 0.8  # beside the IoU with the moved mask, when one of three answers is chosen
# Of likeness, predicted IoU, stability score and least overlap, and what is added: `benchmarks/clips.py --fit`.
CONFIDENCE, OFFSET = np.array([0.78, 1.25, 1.01, 0.17]), -2.19


@dataclass(frozen=True)
class Drift:
    """When a track is lost.

    Attributes:
        min_confidence: least confidence of a mask. Below it the track has no mask in the image; it goes on to be looked
            for where motion takes it.
        margin: how far the next box reaches beyond the moved mask, as a fraction of its size on each side.
    """

    min_confidence: float = 0.4
    margin: float = 0.05


@dataclass(frozen=True, eq=False)
class Carried:
    """An object on its way.

    Attributes:
        crop: its mask in an image, with its logits; while it is lost, where motion took it.
        look: (256,) mean of the image embedding in its mask where it was prompted.
        confidence: the IoU with the true mask that is to be expected, in [0, 1].
        least_overlap: least IoU, since it was prompted, of its mask with where motion had moved the one before.
        lost: why it has no mask in the image; None if it has one.
    """

    crop: MaskCrop
    look: Tensor
    confidence: float
    least_overlap: float = 1.0
    lost: str | None = None


def start_tracks(predictor: SamPredictor, prompts: Sequence[Prompt], image: ImageEmbedding) -> list[Carried]:
    """Return what tracks start with, one a prompt. A mask may be empty."""
    found = predictor.predict_batch(prompts, image=image, best_only=True, return_low_res_logits=True)
    return [Carried(best, _look(best, image), _confidence(1.0, best, 1.0)) for (best,) in found]


def continue_tracks(
    predictor: SamPredictor,
    tracks: Sequence[Carried],
    before: ImageEmbedding,
    image: ImageEmbedding,
    drift: Drift | None = None,
) -> list[Carried]:
    """Find the objects of one image in the next one, of the same size; both come from `encode_images`.

    A lost object is looked for again. One that has left the image stays lost.
    """
    if not tracks:
        return []
    drift, motion, matrices = drift or Drift(), Motion(before, image), predictor._matrices(image)
    moved = [_upscaled(predictor, motion.carry(track.crop.low_res_logits), matrices) for track in tracks]
    seen = [i for i, crop in enumerate(moved) if crop.mask.any()]
    prompts = [_prompt(moved[i], image.original_hw, drift.margin) for i in seen]
    found = predictor.predict_batch(prompts, image=image, multimask_output=True, return_low_res_logits=True)
    steps = [
        replace(track, crop=crop, confidence=0.0, lost="it has left the image")
        for track, crop in zip(tracks, moved, strict=True)
    ]
    for i, answers in zip(seen, found, strict=True):
        steps[i] = _step(tracks[i], moved[i], answers, image, drift)
    return steps


def better(forwards: Carried, backwards: Carried) -> Carried:
    """Return which of two masks of an object in one image, carried from both sides, is more to be trusted."""
    return max(forwards, backwards, key=lambda carried: (carried.lost is None, carried.confidence))


def innermost_point(crop: MaskCrop) -> np.ndarray:
    """Return the centre of the mask's pixel that is furthest from its edge, (2,) float64 xy of the original image."""
    return np.add(crop.region[:2], interior_point(crop.mask))


def _prompt(crop: MaskCrop, original_hw: tuple[int, int], margin: float) -> Prompt:
    """Return the box and the point by which an image is asked for what motion has moved there."""
    box = clip_box(grow_box(crop.region, margin), original_hw=original_hw)
    return Prompt(box=box, point_coords=innermost_point(crop)[None])


def _step(track: Carried, moved: MaskCrop, answers: Sequence[MaskCrop], image: ImageEmbedding, drift: Drift) -> Carried:
    """Choose an answer and judge it."""
    best = max(answers, key=lambda crop: crop.iou(moved) + PREDICTED_IOU_COUNTS * crop.iou_prediction)
    least_overlap = min(track.least_overlap, best.iou(moved))
    likeness = float(F.cosine_similarity(track.look, _look(best, image), dim=0))
    confidence = _confidence(likeness, best, least_overlap)
    if best.mask.any() and confidence >= drift.min_confidence:
        return Carried(best, track.look, confidence, least_overlap)
    # While it is lost, what is found elsewhere says nothing of its own way.
    why = f"its confidence fell to {confidence:.2f}, below {drift.min_confidence}"
    return replace(track, crop=moved, confidence=confidence, lost=why)


def _confidence(likeness: float, crop: MaskCrop, least_overlap: float) -> float:
    """Return the IoU with the true mask that is to be expected; 0 for an empty mask."""
    if not crop.mask.any():
        return 0.0
    signals = [likeness, crop.iou_prediction, crop.stability_score, least_overlap]
    return float(np.clip(CONFIDENCE @ signals + OFFSET, 0, 1))


def _look(crop: MaskCrop, image: ImageEmbedding) -> Tensor:
    """Return the mean of the image embedding in a mask, (256,); zeros if it is empty."""
    features = image.features[0]
    inside = torch.as_tensor(crop.low_res_logits > 0, dtype=features.dtype, device=features.device)
    share = F.avg_pool2d(inside[None], 4)[0]  # (64, 64)
    return (features * share).sum((1, 2)) / share.sum().clamp(min=1e-6)


def _upscaled(predictor: SamPredictor, low_res_logits: np.ndarray, matrices: tuple[Tensor, Tensor]) -> MaskCrop:
    """Return the mask of (256, 256) logits, which nobody has predicted anything of."""
    logits = torch.as_tensor(low_res_logits, device=predictor.device)
    threshold = predictor.model.mask_threshold
    region = region_above(logits, matrices, threshold)
    upscaled = predictor._upscale(logits, matrices, region)
    return crop_mask(upscaled, region, mask_threshold=threshold, iou_prediction=0.0, low_res_logits=low_res_logits)
