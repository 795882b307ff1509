"""Objects carried through ordered images: motion moves the mask of one image to the next, where the model sees it anew.

The box around the moved mask and its innermost point are the prompt. Of the model's three answers that one is taken
which is most like the moved mask, and which the model itself thinks well of. So an object is found that has moved by
its own size, and an answer that took in the background does not grow from image to image. An object that is lost, or
nearly, is also looked for where the image looks like it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from mobilesam.appearance import likeness, look_of, places_like
from mobilesam.carried import Carried, seen_again, size_of, started
from mobilesam.geometry import ImageEmbedding, MaskCrop, clip_box, clip_region
from mobilesam.geometry.boxes import Region, grow_box, snap_outward
from mobilesam.geometry.masks import crop_mask, interior_point, region_above
from mobilesam.motion import Motion
from mobilesam.predictor import SamPredictor
from mobilesam.prompts import Prompt

# Chosen on five clips of DAVIS, see docs/jobs.md.
PREDICTED_IOU_COUNTS = 0.8  # beside the IoU with the moved mask, when one of three answers is chosen
REACH = 0.25  # how far a mask may reach beyond its box, as a share of the box's size: less has to be decoded
# Less sure than this, an object is looked for elsewhere, in so many places. Found there is what has such a likeness to
# it, and such a predicted IoU.
DOUBT, PLACES, ALIKE, SAID = 0.5, 3, 0.85, 0.9
TAKEN = 0.5  # IoU with the mask of another object above which it is that one
FITS = 0.7  # least IoU of the box of a prompt with that of a moved mask for it to be the same object


@dataclass(frozen=True)
class Drift:
    """When a track is lost.

    Attributes:
        min_confidence: how sure it must be at least, in [0, 1], that a mask is of the object. Below it the track has no
            mask in the image; it goes on to be looked for where motion takes it, and where the image looks like it.
        margin: how far the next box reaches beyond the moved mask, as a fraction of its size on each side.
    """

    min_confidence: float = 0.4
    margin: float = 0.05


def start_tracks(
    predictor: SamPredictor,
    prompts: Sequence[Prompt],
    image: ImageEmbedding,
    expected: Sequence[MaskCrop | None] | None = None,
) -> list[Carried]:
    """Return what tracks start with, one a prompt. A mask may be empty.

    `expected` are the `moved_masks` of tracks that are going on, None for others. Where one fits the box of its prompt,
    it says which of the model's answers is meant.
    """
    expected = expected or [None] * len(prompts)
    fits = [i for i, moved in enumerate(expected) if moved is not None and _fits(prompts[i], moved)]
    others = [i for i in range(len(prompts)) if i not in fits]
    found = predictor.predict_batch(
        [prompts[i] for i in others], image=image, best_only=True, return_low_res_logits=True
    )
    masks = {i: best for i, (best,) in zip(others, found, strict=True)}
    asked = [replace(prompts[i], point_coords=innermost_point(expected[i])[None]) for i in fits]
    meant = _found(predictor, asked, [expected[i] for i in fits], image)
    masks |= dict(zip(fits, meant, strict=True))
    return [started(mask, image) for _, mask in sorted(masks.items())]


def moved_masks(
    predictor: SamPredictor, tracks: Sequence[Carried], motion: Motion, image: ImageEmbedding
) -> list[MaskCrop]:
    """Return where motion takes the masks of tracks in the next image. The model has not said anything of them."""
    matrices = predictor._matrices(image)
    return [_upscaled(predictor, motion.carry(track.crop.low_res_logits), matrices) for track in tracks]


def continue_tracks(
    predictor: SamPredictor,
    tracks: Sequence[Carried],
    motion: Motion,
    image: ImageEmbedding,
    drift: Drift | None = None,
) -> list[Carried]:
    """Find objects in the next image, which is from `encode_images` and of the same size as the one before.

    A lost object is looked for again. One that has left the image stays lost.
    """
    drift, moved = drift or Drift(), moved_masks(predictor, tracks, motion, image)
    seen = [i for i, crop in enumerate(moved) if crop.mask.any()]
    prompts = [_prompt(moved[i], image.original_hw, drift.margin) for i in seen]
    steps = [
        replace(track, crop=crop, sure=0.0, lost="it has left the image")
        for track, crop in zip(tracks, moved, strict=True)
    ]
    for i, mask in zip(seen, _found(predictor, prompts, [moved[i] for i in seen], image), strict=True):
        steps[i] = _step(tracks[i], moved[i], mask, image, drift)
    found = _elsewhere(predictor, {i: steps[i] for i in seen if steps[i].sure < DOUBT}, image)
    for i, step in found.items():
        others = (other.crop for j, other in enumerate(steps) if j != i and other.lost is None)
        if step.sure >= drift.min_confidence and not any(step.crop.iou(crop) > TAKEN for crop in others):
            steps[i] = step
    return steps


def better(forwards: Carried, backwards: Carried) -> Carried:
    """Return which of two masks of an object in one image, carried from both sides, is more to be trusted."""
    return max(forwards, backwards, key=lambda carried: carried.confidence)


def innermost_point(crop: MaskCrop) -> np.ndarray:
    """Return the centre of the mask's pixel that is furthest from its edge, (2,) float64 xy of the original image."""
    return np.add(crop.region[:2], interior_point(crop.mask))


def _prompt(crop: MaskCrop, original_hw: tuple[int, int], margin: float) -> Prompt:
    """Return the box and the point by which an image is asked for what motion has moved there."""
    box = clip_box(grow_box(crop.region, margin), original_hw=original_hw)
    return Prompt(box=box, point_coords=innermost_point(crop)[None])


def _fits(prompt: Prompt, moved: MaskCrop) -> bool:
    """Whether a prompt is a box alone, about that of a mask that is not empty."""
    if prompt.box is None or prompt.point_coords is not None or not moved.mask.any():
        return False
    return float(box_iou(*torch.tensor([[prompt.box.tolist()], [moved.region]], dtype=torch.float64))) >= FITS


def _found(
    predictor: SamPredictor, prompts: Sequence[Prompt], moved: Sequence[MaskCrop], image: ImageEmbedding
) -> list[MaskCrop]:
    """Return for each prompt that of three answers which is most like the moved mask, and good in the model's eyes."""
    regions = [clip_region(prompt.box, REACH, original_hw=image.original_hw) for prompt in prompts]
    options = {"multimask_output": True, "return_low_res_logits": True}
    answers = predictor.predict_batch(prompts, image=image, regions=regions, **options)
    return [
        max(some, key=lambda crop: crop.iou(mask) + PREDICTED_IOU_COUNTS * crop.iou_prediction)
        for some, mask in zip(answers, moved, strict=True)
    ]


def _step(track: Carried, moved: MaskCrop, found: MaskCrop, image: ImageEmbedding, drift: Drift) -> Carried:
    """Judge what was found of an object."""
    step = seen_again(track, found, image, min(track.least_overlap, found.iou(moved)))
    if found.mask.any() and step.sure >= drift.min_confidence:
        return step
    # While it is lost, what is found elsewhere says nothing of its own way.
    why = f"its confidence fell to {step.sure:.2f}, below {drift.min_confidence}"
    return replace(track, crop=moved, sure=step.sure, lost=why)


def _elsewhere(predictor: SamPredictor, tracks: dict[int, Carried], image: ImageEmbedding) -> dict[int, Carried]:
    """Look for objects where the image looks like them; return those that are found."""
    places = [(i, place) for i, track in tracks.items() for place in places_like(track.look, image, track.size, PLACES)]
    prompts = [Prompt(point_coords=np.array([place])) for _, place in places]
    regions = [_around(place, tracks[i].size, image.original_hw) for i, place in places]
    options = {"multimask_output": True, "return_low_res_logits": True}
    found: dict[int, Carried] = {}
    scores = dict.fromkeys(tracks, 0.0)
    answers = predictor.predict_batch(prompts, image=image, regions=regions, **options)
    for i, crop in ((i, crop) for (i, _), some in zip(places, answers, strict=True) for crop in some):
        track = tracks[i]
        alike = likeness(track.look, look_of(crop, image))
        same_size = all(0.5 < now / was < 2 for now, was in zip(size_of(crop), track.size, strict=True))
        if same_size and alike > ALIKE and crop.iou_prediction > SAID and alike + crop.iou_prediction > scores[i]:
            scores[i] = alike + crop.iou_prediction
            found[i] = seen_again(track, crop, image, 0.0)
    return found


def _around(point: tuple[float, float], size: tuple[int, int], original_hw: tuple[int, int]) -> Region:
    """Return a region that holds an object of a size wherever in it the point is."""
    box = [*np.subtract(point, size), *np.add(point, size)]
    return snap_outward(np.array(box), original_hw=original_hw)


def _upscaled(predictor: SamPredictor, low_res_logits: np.ndarray, matrices: tuple[Tensor, Tensor]) -> MaskCrop:
    """Return the mask of (256, 256) logits, which nobody has predicted anything of."""
    logits = torch.as_tensor(low_res_logits, device=predictor.device)
    threshold = predictor.model.mask_threshold
    region = region_above(logits, matrices, threshold)
    upscaled = predictor._upscale(logits, matrices, region)
    return crop_mask(upscaled, region, mask_threshold=threshold, iou_prediction=0.0, low_res_logits=low_res_logits)
