"""An image and its prompts, as plain data -> one record a prompt: the step that COCO jobs and Ray's actors share."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fiftyone_mobilesam.options import Options
from fiftyone_mobilesam.report import NO_MASK
from mobilesam import EmbeddingCache, MaskCrop, MobileSamError, Prompt, PromptError, SamPredictor, load_model
from mobilesam.geometry import clip_box, clip_region, rle
from mobilesam.images import read_image
from mobilesam.selftest import usable_precision
from mobilesam.weights import sha256_of_state

# Masks in memory at once. All of them could be as large as the image.
PROMPTS_AT_ONCE = 64

PlainPrompt = dict[str, Any]  # {"box": xyxy}, {"points": [[x, y], ...], "labels": [1, ...]}, both, or {"failure": why}
Record = dict[str, Any]


class Segmenter:
    """Makes the masks of an image's prompts.

    Args:
        weights: see `mobilesam.load_model`.
        device: where to run. Default: a GPU if there is one.
        precision: "fp32", "bf16" or "auto", see `SamPredictor`.
        clip: cut each mask at its prompt box; a number grows the box first; False keeps all.
        multimask_output: take the best of three candidates. Default: for single points only.
        max_pixels: see `mobilesam.images.read_image`.
        cache_dir: see `EmbeddingCache`.
        verify: test the model on a known image first.

    Attributes:
        fingerprint: of the weights and of all settings that a mask depends on.

    Raises:
        CheckpointError: the weights do not load, or the model fails its self-test.
        ValueError: a wrong setting.
    """

    def __init__(
        self,
        weights: str | Path = "mobile_sam.pt",
        *,
        device: str | None = None,
        precision: str = "fp32",
        clip: bool | float = True,
        multimask_output: bool | None = None,
        max_pixels: int | None = None,
        cache_dir: str | Path | None = None,
        verify: bool = True,
    ):
        Options(clip=clip, multimask_output=multimask_output)  # checks them
        sam = load_model(weights, device=device, verify=verify)
        cache = None if cache_dir is None else EmbeddingCache(cache_dir)
        self.predictor = SamPredictor(sam, fast=True, precision=usable_precision(sam, precision), cache=cache)
        self.clip = clip
        self.multimask_output = multimask_output
        self.max_pixels = max_pixels
        weights_hash, dtype = sha256_of_state(sam.state_dict()), str(self.predictor.backend.dtype)
        self.fingerprint = digest([weights_hash, dtype, clip, multimask_output, cache is not None])

    def read(self, path: str | Path, size: Sequence[Any] | None = None) -> np.ndarray | str:
        """Return the pixels (H, W, 3) of a file, or the reason why there are none. Never raises; for any thread.

        Args:
            path: of the file.
            size: (width, height) it must have, None where any will do.
        """
        try:
            pixels = read_image(path, max_pixels=self.max_pixels)
        except Exception as error:
            return reason(error)
        height, width = pixels.shape[:2]
        if any(said not in (None, found) for said, found in zip(size or (), (width, height), strict=False)):
            return (
                f"image must have the size that the file says, {size[0]} x {size[1]}, got {width} x {height} once it "
                "is upright. Its boxes would not fit: correct one."
            )
        return pixels

    def attempt(self, pixels: np.ndarray | str, prompts: Sequence[PlainPrompt]) -> tuple[list[Record], str | None]:
        """Return the records of prompts, and None; or, for an image of no use, its failure in all and here.

        Args:
            pixels: from `read`.
            prompts: see `records`.
        """
        failure = pixels if isinstance(pixels, str) else None
        if failure is None:
            try:
                return self.records(pixels, prompts), None
            except Exception as error:  # such as too little memory
                failure = reason(error)
        return [failed(failure)] * len(prompts), failure

    def records(self, pixels: np.ndarray, prompts: Sequence[PlainPrompt]) -> list[Record]:
        """Return one record a prompt, in order.

        Args:
            pixels: (H, W, 3) uint8 RGB.
            prompts: in pixels of the image, or fractions of its sides where `"relative": True`.

        Returns:
            `segmentation` (uncompressed COCO run lengths), `area`, `bbox` (tight, x, y, w, h), `predicted_iou`,
            `stability_score` and `failure`, which is None; a prompt without a mask has the last three only.
        """
        hw = pixels.shape[:2]
        records = [_prepared(prompt, hw) for prompt in prompts]
        usable = [i for i, record in enumerate(records) if isinstance(record, Prompt)]
        embedding = self.predictor.encode_images([pixels])[0] if usable else None
        for start in range(0, len(usable), PROMPTS_AT_ONCE):
            some = usable[start : start + PROMPTS_AT_ONCE]
            crops = self.predictor.predict_batch(
                [records[i] for i in some],
                image=embedding,
                regions=[clip_region(records[i].box, self.clip, original_hw=hw) for i in some],
                multimask_output=self.multimask_output,
                best_only=True,
            )
            for i, [crop] in zip(some, crops, strict=True):
                records[i] = _record(crop, hw)
        return records


def digest(value: Any) -> str:
    """Return a fingerprint of plain data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def failed(why: str) -> Record:
    """Return the record of a prompt that got no mask."""
    return {"predicted_iou": None, "stability_score": None, "failure": why}


def reason(error: Exception) -> str:
    """Return an error as a text that says what to do, if it is one of ours, and else what it was."""
    return str(error) if isinstance(error, MobileSamError) else f"{type(error).__name__}: {error}"


def _prepared(prompt: PlainPrompt, hw: tuple[int, int]) -> Prompt | Record:
    """Return a prompt in pixels, its box clipped to the image, or the record of its failure."""
    if "failure" in prompt:
        return failed(prompt["failure"])
    scale = np.array(hw[::-1] if prompt.get("relative") else (1, 1), dtype=np.float64)
    box = None if prompt.get("box") is None else np.array(prompt["box"], dtype=np.float64) * np.tile(scale, 2)
    points = labels = None
    try:
        if prompt.get("points"):
            points, labels = np.array(prompt["points"], dtype=np.float64) * scale, np.array(prompt["labels"])
            inside = ((points >= 0) & (points <= hw[::-1])).all(axis=1)
            points, labels = (points[inside], labels[inside]) if inside.any() else (None, None)
            if box is None and (points is None or not (labels == 1).any()):
                raise PromptError(
                    f"keypoints must have a visible point in the image of {hw[1]} x {hw[0]}, got none. Add a box."
                )
        Prompt(box=box, point_coords=points, point_labels=labels).check_inside(hw)
        if box is not None:
            box = clip_box(box, original_hw=hw)
        return Prompt(box=box, point_coords=points, point_labels=labels)
    except PromptError as error:
        return failed(str(error))


def _record(crop: MaskCrop, hw: tuple[int, int]) -> Record:
    scores = {"predicted_iou": crop.iou_prediction, "stability_score": crop.stability_score}
    if not crop.mask.any():
        return {**scores, "failure": NO_MASK}
    x0, y0, x1, y1 = crop.region
    return {
        "segmentation": rle.encode(crop.mask, corner=(x0, y0), size=hw),
        "area": crop.area,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        **scores,
        "failure": None,
    }
