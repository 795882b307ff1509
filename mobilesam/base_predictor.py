"""What `SamPredictor` and `OnnxPredictor` have in common: the image that is set, and masks from low-res logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mobilesam.answers import CANDIDATES, SINGLE_ANSWER, Decoded
from mobilesam.geometry import ImageEmbedding, MaskCrop, Region, whole_region
from mobilesam.geometry.masks import (
    WHOLE_TILE,
    Cut,
    Matrices,
    Tile,
    crop_mask,
    crop_masks,
    to_numpy,
    upscale_logits,
    whole_logits,
)
from mobilesam.images import to_rgb
from mobilesam.kept_image import KeptImage
from mobilesam.prompts import Prompt, check_inside, chunks

if TYPE_CHECKING:  # this file works on arrays as well, and then without torch
    from torch import Tensor

    Values = Tensor | np.ndarray

QUALITIES = ("fast", "best")
# Prompts, a tile for each, answers wanted -> a `Decoded`.
Decode = Callable[[Sequence[Prompt], Sequence[Tile], range], Decoded]


class BasePredictor(KeptImage):
    """Cuts masks out of logits. How images and prompts reach the network is a subclass's business.

    Prompts that go to `_decode_plainly` or to what `_decoder` returns are of one structure.
    """

    encode_images: Callable[[Sequence[np.ndarray]], list[ImageEmbedding]]
    _prompts_per_chunk: int  # decoded at once
    _masks_at_once: int = (
        1  # upscaled and cut out; the memory of one is enough, but a GPU would be waited for each time
    )
    _matrices: Callable[[ImageEmbedding], Matrices]
    _decode_plainly: Callable[[Sequence[Prompt], ImageEmbedding, bool], tuple[Values, Values]]  # whole logits, scores
    _decoder: Callable[[ImageEmbedding], Decode]

    _mask_threshold: float = 0.0
    _linear: Callable[[Tensor, Tensor], Tensor] | None = None  # a quicker one for `upscale_logits`

    def set_image(self, image: Any, image_format: str = "RGB") -> None:
        """Encode an image.

        Args:
            image: (H, W, 3) uint8. Gray, RGBA, PIL images and tensors are converted, see `mobilesam.images.to_rgb`.
            image_format: "RGB" or "BGR".

        Raises:
            ImageError: not an image.
        """
        self.set_image_embedding(self.encode_images([to_rgb(image, array_format=image_format)])[0])

    def predict(
        self,
        point_coords: Any = None,
        point_labels: Any = None,
        box: Any = None,
        mask_input: Any = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predict the masks of one object.

        Args:
            point_coords: (N, 2) xy pixels of the original image, all on or beside one object.
            point_labels: (N,) 1 foreground, 0 background. Default: all 1.
            box: (4,) xyxy pixels of the original image.
            mask_input: (1, 256, 256) low-res logits of an earlier prediction, or a (H, W) bool mask.
            multimask_output: three candidates instead of one. Better for one ambiguous point; choose by score.
            return_logits: logits instead of booleans.

        Returns:
            masks (C, H, W) bool or float32, iou_predictions (C,) float32, low_res_logits (C, 256, 256) float32.

        Raises:
            NoImageSetError: no image is set.
            PromptError: a prompt is wrong.
        """
        image = self._require_image()
        prompt = Prompt(box=box, point_coords=point_coords, point_labels=point_labels, mask_input=mask_input)
        logits, iou_predictions = (x[0] for x in self._decode_plainly([prompt], image, multimask_output))
        masks = self._upscale(logits, self._matrices(image), whole_region(image.original_hw))
        masks = masks if return_logits else masks > self._mask_threshold
        return to_numpy(masks), to_numpy(iou_predictions), to_numpy(logits)

    def predict_batch(
        self,
        prompts: Sequence[Prompt],
        *,
        image: ImageEmbedding | None = None,
        regions: Sequence[Region | None] | None = None,
        multimask_output: bool | None = False,
        best_only: bool = False,
        return_low_res_logits: bool = False,
        quality: str = "fast",
        return_logits: bool = False,
    ) -> list[list[MaskCrop]]:
        """Predict the masks of many objects, each of which may have its own kinds and number of prompts.

        No object's mask depends on the others in the call. Masks are upscaled one at a time and only inside their
        region, so memory does not grow with the number of prompts.

        Args:
            prompts: from `make_prompts` or `Prompt`.
            image: the image to predict in. Default: the one that is set.
            regions: per prompt the `(x0, y0, x1, y1)` of the original image outside of which the mask is not wanted,
                or None for the whole image.
            multimask_output: three candidates instead of one; None for three where the prompt is one single point,
                which may name a part or a whole, and one elsewhere.
            best_only: keep the candidate with the highest IoU prediction.
            return_low_res_logits: keep the (256, 256) logits in each `MaskCrop`. Those that a region has no use for may
                be background.
            quality: "fast", or "best" for better masks at about 1 to 3 times the time, see `mobilesam/best.py`: one
                mask a prompt, so without `multimask_output=True`.
            return_logits: keep the logits of the mask's pixels in each `MaskCrop`.

        Returns:
            One list a prompt, in order, of its candidates. An empty list for no prompts.

        Raises:
            NoImageSetError: no image is set or given.
            PromptError: a prompt does not fit the image; its index is named.
            ValueError: another `quality`, or one that does not go with the other options.
        """
        check_quality(quality, multimask_output)
        image = image or self._require_image()
        check_inside(prompts, image.original_hw)
        given = regions or [None] * len(prompts)
        regions = [region or whole_region(image.original_hw) for region in given]
        options = {"mask_threshold": self._mask_threshold, "keep_logits": return_logits}
        if quality == "best":
            return self._predict_best(prompts, image, regions, partial(crop_mask, **options), return_low_res_logits)
        matrices, decode, rater = self._matrices(image), self._decoder(image), self._rater(image, quality)
        tiles = [
            WHOLE_TILE if return_low_res_logits and asked is None else self._tile(matrices, region)
            for asked, region in zip(given, regions, strict=True)
        ]
        results: list[list[MaskCrop]] = [[] for _ in prompts]
        for chunk, multimask in chunks(prompts, multimask_output, size=self._prompts_per_chunk):
            answers = CANDIDATES if multimask else SINGLE_ANSWER
            decoded = decode([prompts[i] for i in chunk], [tiles[i] for i in chunk], answers)
            scores = to_numpy(decoded.iou_predictions).tolist()
            wanted = [
                (row, answer)
                for row, of_row in enumerate(scores)
                for answer in ([max(answers, key=of_row.__getitem__)] if best_only else answers)
            ]
            for start in range(0, len(wanted), self._masks_at_once):
                some, cuts = wanted[start : start + self._masks_at_once], []
                for row, answer in some:
                    low_res, region = decoded.logits[row][answers.index(answer)], regions[chunk[row]]
                    logits = self._upscale(low_res, matrices, region, decoded.tiles[row])
                    kept = whole_logits(low_res, decoded.tiles[row]) if return_low_res_logits else None
                    cuts.append(Cut(logits, region, scores[row][answer], kept))
                for (row, answer), cut, crop in zip(some, cuts, crop_masks(cuts, **options), strict=True):
                    index = chunk[row]
                    if rater:
                        tokens = decoded.tokens[row, [0, 1 + answers.index(answer)]]
                        given = {"tokens": tokens, "iou_predictions": scores[row], "answer": answer}
                        rater.add((index, len(results[index])), prompts[index], crop, cut.logits, **given)
                    results[index].append(crop)
        return rater.rated(results) if rater else results

    def _rater(self, image: ImageEmbedding, quality: str) -> Any:
        """Return what rates the masks of a call, None where nobody can: an exported model has no tokens."""
        return None

    def _predict_best(self, *_: Any) -> list[list[MaskCrop]]:
        raise ValueError(
            'quality must be "fast" here, got "best", which an exported model does not have. Use SamPredictor.'
        )

    def _tile(self, matrices: Matrices, region: Region) -> Tile:
        """Return the image tokens to decode for a region: all, where the decoder knows no parts."""
        return WHOLE_TILE

    def _upscale(self, logits: Values, matrices: Matrices, region: Region, tile: Tile = WHOLE_TILE) -> Values:
        return upscale_logits(logits, matrices, region, tile, linear=self._linear)

    def _stack(self, prompts: Sequence[Prompt], image: ImageEmbedding) -> tuple[np.ndarray | None, ...]:
        """Stack prompts of one structure in the input frame: points, labels, boxes, mask inputs; None for no such."""
        coords, labels, boxes = (
            None if getattr(prompts[0], name) is None else np.stack([getattr(prompt, name) for prompt in prompts])
            for name in ("point_coords", "point_labels", "box")
        )
        coords = None if coords is None else self.transform.apply_coords(coords, image.original_hw)
        boxes = None if boxes is None else self.transform.apply_boxes(boxes, image.original_hw)
        if prompts[0].mask_input is None:
            return coords, labels, boxes, None
        masks = [prompt.mask_input for prompt in prompts]
        masks = np.stack([self.transform.apply_mask(mask) if mask.dtype == bool else mask for mask in masks])
        return coords, labels, boxes, masks


def check_quality(quality: str, multimask_output: bool | None) -> None:
    """Check that a `quality` is one, and goes with what else is asked for."""
    if quality not in QUALITIES:
        raise ValueError(f"quality must be one of {', '.join(map(repr, QUALITIES))}, got {quality!r}.")
    if quality == "best" and multimask_output:
        raise ValueError('quality="best" makes one mask of all candidates, got multimask_output=True. Leave one out.')
