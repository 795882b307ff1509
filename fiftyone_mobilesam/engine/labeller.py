"""Pixels and prompts in, an answer a prompt out, none lost: the only place where masks are made."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fiftyone_mobilesam.engine.ask import LOST, NO_MASK
from fiftyone_mobilesam.engine.item import Answer
from fiftyone_mobilesam.options import MaskOptions, Options
from mobilesam import (
    EmbeddingCache,
    ImageEmbedding,
    MaskCrop,
    Prompt,
    SamAutomaticMaskGenerator,
    SamPredictor,
    load_model,
)
from mobilesam.fast.backend import resolve_precision
from mobilesam.geometry import Region, clip_region, tight_region
from mobilesam.geometry.overlap import Claims
from mobilesam.selftest import usable_precision
from mobilesam.utils.amg import remove_small_regions

# Masks in memory at once. All of them could be as large as the image.
PROMPTS_AT_ONCE = 64
# Share of its box's side by which a refined mask may leave the box of the mask before, measured in docs/accuracy.md.
REFINED_CLIP = 0.15


class Labeller:
    """A network, and what is made with it."""

    def __init__(self, predictor: SamPredictor, options: MaskOptions):
        self.predictor, self.options, self.generator = predictor, options, None
        if isinstance(options, Options) and not options.prompt_paths:  # here, as it raises on wrong options
            if given := options.changed().keys() & {"quality", "overlap"}:
                raise ValueError(f"{', '.join(sorted(given))} must go with prompts, got none. Name a prompt field.")
            self.generator = SamAutomaticMaskGenerator(predictor, **options.everything)

    def encode(self, images: Sequence[np.ndarray]) -> list[ImageEmbedding | Exception]:
        """Encode images in one pass; one by one if that fails, so that the failure has one owner."""
        try:
            return self.predictor.encode_images(images)
        except Exception as error:  # such as too little memory
            return [error] if len(images) == 1 else [found for image in images for found in self.encode([image])]

    def answers(
        self, pixels: np.ndarray, asked: Sequence[Answer], embedding: ImageEmbedding | None = None
    ) -> Iterator[Answer]:
        """Yield one answer a prompt of an image (H, W, 3) uint8 RGB, in order; `embedding` if it is encoded already."""
        answers = self._answers(pixels, asked, embedding)
        return answers if self.options.overlap == "keep" else self._exclusive(answers, pixels.shape[:2])

    def _answers(
        self, pixels: np.ndarray, asked: Sequence[Answer], embedding: ImageEmbedding | None
    ) -> Iterator[Answer]:
        for start in range(0, len(asked), PROMPTS_AT_ONCE):
            some = asked[start : start + PROMPTS_AT_ONCE]
            usable = [answer for answer in some if answer.prompt is not None]
            if usable and embedding is None:
                [embedding] = self.predictor.encode_images([pixels])
            crops = self._decode(usable, embedding) if usable else iter(())
            for answer in some:
                yield answer if answer.prompt is None else answered(answer, next(crops))

    def _exclusive(self, answers: Iterable[Answer], original_hw: tuple[int, int]) -> list[Answer]:
        """Return the answers of an image with masks that share no pixel. A mask that loses all of them is a failure."""
        claims, claimed = Claims(original_hw), []
        for index, answer in enumerate(answers):
            claimed.append(answer if answer.crop is None else replace(answer, crop=claims.add(index, answer.crop)))
        return [
            answer
            if answer.crop is None or answer.failure
            else answered(answer, claims.settled(index, answer.crop), LOST)
            for index, answer in enumerate(claimed)
        ]

    def everything(self, pixels: np.ndarray) -> list[Answer]:
        """Return an answer for each thing found in an image (H, W, 3) uint8 RGB."""
        return [Answer(crop=crop) for crop in self.generator.generate_crops(pixels) if crop.mask.any()]

    def _decode(self, asked: Sequence[Answer], embedding: ImageEmbedding) -> Iterator[MaskCrop]:
        options = self.options
        candidates = self.predictor.predict_batch(
            [self._prompt(answer, embedding.original_hw) for answer in asked],
            image=embedding,
            regions=[self._region(answer, embedding.original_hw) for answer in asked],
            multimask_output=options.multimask_output,
            best_only=True,
            quality=options.quality,
            return_logits=options.overlap == "exclusive",
        )
        return (cleaned(best, options.min_region_area) for (best,) in candidates)

    def _prompt(self, answer: Answer, original_hw: tuple[int, int]) -> Prompt:
        """Return what the network is asked. A mask to refine goes as low-res logits: whole images of all were many."""
        if answer.outline is None:
            return answer.prompt
        return replace(answer.prompt, mask_input=self.predictor.transform.apply_mask(answer.outline.full(original_hw)))

    def _region(self, answer: Answer, original_hw: tuple[int, int]) -> Region | None:
        """Return where the mask may be. A mask to refine may be too small, so that one may leave its box."""
        clip = self.options.clip
        if answer.outline is not None and clip is not False:
            clip = max(float(clip is not True and clip), REFINED_CLIP)
        return clip_region(answer.prompt.box, clip, original_hw=original_hw)


def load_predictor(
    weights: str | Path = "mobile_sam.pt",
    device: str | None = None,
    precision: str = "fp32",
    cache_dir: str | Path | None = None,
    *,
    verify: bool = True,
) -> tuple[SamPredictor, str]:
    """Load the network with what makes it fast, see `load_model`; return it with the precision as it was resolved."""
    sam = load_model(weights, device=device, verify=verify)
    if verify:
        precision = usable_precision(sam, precision)
    cache = None if cache_dir is None else EmbeddingCache(cache_dir)
    predictor = SamPredictor(sam, fast=True, precision=precision, cache=cache)
    return predictor, resolve_precision(precision, sam.device)


def answered(answer: Answer, crop: MaskCrop, why: str = NO_MASK) -> Answer:
    """Return an answer with its mask; an empty one is a failure."""
    return replace(answer, crop=crop, failure=None if crop.mask.any() else why)


def cleaned(crop: MaskCrop, min_region_area: float) -> MaskCrop:
    """Return a mask without holes and islands of fewer pixels. Its scores stay those of what the model said."""
    if min_region_area <= 0 or not crop.mask.any():
        return crop
    rim = math.ceil(math.sqrt(min_region_area) / 2)  # wide enough that what is outside the mask is no small hole
    mask, filled = remove_small_regions(np.pad(crop.mask, rim), min_region_area, "holes")
    mask, removed = remove_small_regions(mask[rim:-rim, rim:-rim], min_region_area, "islands")
    if not filled and not removed:
        return crop
    x0, y0, x1, y1 = tight_region(mask)
    left, top = crop.region[:2]
    logits = crop.logits if crop.logits is None else crop.logits[y0:y1, x0:x1]
    region = (left + x0, top + y0, left + x1, top + y1)
    return replace(crop, region=region, mask=mask[y0:y1, x0:x1].copy(), logits=logits)
