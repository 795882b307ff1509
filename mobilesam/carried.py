"""An object on its way through images, and how far its mask in one of them can be trusted."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from mobilesam.appearance import likeness, look_of
from mobilesam.geometry import ImageEmbedding, MaskCrop

# How sure it is that a mask is of the object: of likeness, predicted IoU, stability score and least overlap, and what
# is added. Fitted on five clips of DAVIS to the IoU, see docs/jobs.md, when objects were not looked for elsewhere yet.
SURE, SURE_OFFSET = np.array([0.78, 1.25, 1.01, 0.17]), -2.19
# The IoU to be expected: of that, of the quality of the mask and of that of the label's, and what is added, by
# `benchmarks/clips.py --fit`. Less if it was found elsewhere: that it is another one just like it, no signal tells.
EXPECTED, EXPECTED_OFFSET, FOUND_ELSEWHERE = np.array([0.44, 0.44, 0.31]), -0.14, -0.2


@dataclass(frozen=True, eq=False)
class Carried:
    """An object on its way.

    Attributes:
        crop: its mask in an image, with its logits; while it is lost, where motion took it.
        look: (256,) mean of the image embedding in its mask where it was prompted.
        label_quality: the quality of that mask.
        sure: how sure it is that this is the object, in [0, 1].
        least_overlap: least IoU, since it was prompted, of its mask with where motion had moved the one before; 0 if it
            was found elsewhere.
        lost: why it has no mask in the image; None if it has one.
        size: width and height of its last mask, in pixels.
    """

    crop: MaskCrop
    look: Tensor
    label_quality: float
    sure: float
    least_overlap: float = 1.0
    lost: str | None = None
    size: tuple[int, int] = (0, 0)

    @property
    def signals(self) -> list[float]:
        """What `confidence` is told from."""
        return [self.sure, quality_of(self.crop), self.label_quality]

    @property
    def confidence(self) -> float:
        """The IoU with the true mask that is to be expected, in [0, 1]; 0 while it is lost."""
        if self.lost is not None or not self.crop.mask.any():
            return 0.0
        elsewhere = FOUND_ELSEWHERE if self.least_overlap == 0 else 0.0
        return float(np.clip(EXPECTED @ self.signals + EXPECTED_OFFSET + elsewhere, 0, 1))


def started(crop: MaskCrop, image: ImageEmbedding) -> Carried:
    """Return what a track starts with."""
    return Carried(crop, look_of(crop, image), quality_of(crop), sure_of(1.0, crop, 1.0), size=size_of(crop))


def seen_again(track: Carried, crop: MaskCrop, image: ImageEmbedding, least_overlap: float) -> Carried:
    """Return a track with its mask in another image."""
    sure = sure_of(likeness(track.look, look_of(crop, image)), crop, least_overlap)
    return Carried(crop, track.look, track.label_quality, sure, least_overlap, size=size_of(crop))


def sure_of(alike: float, crop: MaskCrop, least_overlap: float) -> float:
    """Return how sure it is that a mask is of an object that it is so much alike; 0 for an empty mask."""
    if not crop.mask.any():
        return 0.0
    signals = [alike, crop.iou_prediction, crop.stability_score, least_overlap]
    return float(np.clip(SURE @ signals + SURE_OFFSET, 0, 1))


def quality_of(crop: MaskCrop) -> float:
    """Return a mask's quality, or where nothing was fitted to tell it, its predicted IoU."""
    return crop.iou_prediction if crop.mask_quality is None else crop.mask_quality


def size_of(crop: MaskCrop) -> tuple[int, int]:
    """Return width and height of a mask."""
    x0, y0, x1, y1 = crop.region
    return x1 - x0, y1 - y0
