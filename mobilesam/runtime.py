"""`OnnxPredictor`: `SamPredictor` on an exported ONNX pair. Needs numpy, Pillow and onnxruntime, and no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam.errors import CheckpointError, NoImageSetError
from mobilesam.geometry import Region
from mobilesam.geometry.frames import LOW_RES, ImageEmbedding, LongestSideFrames
from mobilesam.geometry.masks import MaskCrop, crop_mask, upscale_logits
from mobilesam.images import to_rgb
from mobilesam.packages import require
from mobilesam.prompts import Prompt, check_inside, chunks

# Prompts decoded at once, which bounds the memory of a call.
PROMPTS_PER_CHUNK = 16
MASK_THRESHOLD = 0.0


class OnnxPredictor:
    """The interface of `SamPredictor` on ONNX Runtime.

        predictor = OnnxPredictor("mobile_sam_mobilesam_fp32")
        predictor.set_image(image)
        masks, scores, logits = predictor.predict(box=[439, 437, 524, 709], multimask_output=False)

    Args:
        folder: with `encoder.onnx` and `decoder.onnx`, from `export_onnx` with its own signature, in any precision.
        providers: execution providers of ONNX Runtime. Default: the CPU.

    Raises:
        CheckpointError: the files are not there, or were exported for another program.
        MissingPackageError: onnxruntime is not installed.
    """

    def __init__(self, folder: str | Path, *, providers: Sequence[str] = ("CPUExecutionProvider",)):
        self._encoder, self._decoder = (
            _session(Path(folder) / f"{part}.onnx", providers) for part in ("encoder", "decoder")
        )
        self.transform = LongestSideFrames()
        self._image: ImageEmbedding | None = None

    def set_image(self, image: Any, image_format: str = "RGB") -> None:
        """Encode an image. See `SamPredictor.set_image`."""
        [self._image] = self.encode_images([to_rgb(image, array_format=image_format)])

    def set_image_embedding(self, embedding: ImageEmbedding) -> None:
        """Use an image that was encoded earlier."""
        self._image = embedding

    def encode_images(self, images: Sequence[np.ndarray]) -> list[ImageEmbedding]:
        """Encode several images (H, W, 3) uint8 RGB, of any sizes, in one pass; one embedding each, in order."""
        if not images:
            return []
        resized = [self.transform.apply_image(image) for image in images]
        input_hw = np.array([image.shape[:2] for image in resized])
        batch = np.zeros((len(images), *input_hw.max(axis=0), 3), np.uint8)
        for row, image in zip(batch, resized, strict=True):
            row[: image.shape[0], : image.shape[1]] = image
        [features] = self._encoder.run(None, {"images": batch, "input_hw": input_hw})
        return [
            ImageEmbedding(feature[None], image.shape[:2], self.transform.input_hw(image.shape[:2]))
            for feature, image in zip(features, images, strict=True)
        ]

    def reset_image(self) -> None:
        """Forget the image."""
        self._image = None

    def get_image_embedding(self) -> np.ndarray:
        """Return the features of the image, (1, 256, 64, 64)."""
        return self._require_image().features

    @property
    def is_image_set(self) -> bool:
        """Whether there is an image to predict in."""
        return self._image is not None

    def predict(
        self,
        point_coords: Any = None,
        point_labels: Any = None,
        box: Any = None,
        mask_input: Any = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predict the masks of one object. See `SamPredictor.predict`."""
        image = self._require_image()
        prompt = Prompt(box=box, point_coords=point_coords, point_labels=point_labels, mask_input=mask_input)
        logits, iou_predictions = (x[0] for x in self._decode([prompt], image, multimask_output))
        masks = upscale_logits(logits, self.transform.upscale_arrays(image.original_hw), _whole(image))
        return masks if return_logits else masks > MASK_THRESHOLD, iou_predictions, logits

    def predict_batch(
        self,
        prompts: Sequence[Prompt],
        *,
        image: ImageEmbedding | None = None,
        regions: Sequence[Region | None] | None = None,
        multimask_output: bool | None = False,
        best_only: bool = False,
        return_low_res_logits: bool = False,
    ) -> list[list[MaskCrop]]:
        """Predict the masks of many objects, each with its own kinds of prompts. See `SamPredictor.predict_batch`."""
        image = image or self._require_image()
        check_inside(prompts, image.original_hw)
        matrices = self.transform.upscale_arrays(image.original_hw)
        results: list[list[MaskCrop]] = [[] for _ in prompts]
        for chunk, multimask in chunks(prompts, multimask_output, size=PROMPTS_PER_CHUNK):
            decoded = self._decode([prompts[i] for i in chunk], image, multimask)
            for index, logits, iou_predictions in zip(chunk, *decoded, strict=True):
                region = (regions and regions[index]) or _whole(image)
                keep = [int(iou_predictions.argmax())] if best_only else range(len(logits))
                results[index] = [
                    crop_mask(
                        upscale_logits(logits[i], matrices, region),
                        region,
                        mask_threshold=MASK_THRESHOLD,
                        iou_prediction=float(iou_predictions[i]),
                        low_res_logits=logits[i] if return_low_res_logits else None,
                    )
                    for i in keep
                ]
        return results

    def _decode(
        self, prompts: Sequence[Prompt], image: ImageEmbedding, multimask_output: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Decode prompts of one structure -> low-res logits (B, C, 256, 256) and IoU predictions (B, C)."""
        coords, labels = zip(*(self._points(prompt, image) for prompt in prompts), strict=True)
        masks = np.zeros((1, 1, LOW_RES, LOW_RES), np.float32)
        if has_mask := prompts[0].mask_input is not None:
            masks = np.stack([self._mask_logits(prompt.mask_input) for prompt in prompts])
        feed = {
            "image_embeddings": image.features,
            "point_coords": np.stack(coords).astype(np.float32),
            "point_labels": np.stack(labels).astype(np.float32),
            "mask_input": masks,
            "has_mask_input": np.full(len(masks), has_mask, np.float32),
        }
        logits, iou_predictions = self._decoder.run(None, feed)
        wanted = slice(1, None) if multimask_output else slice(0, 1)
        return logits[:, wanted], iou_predictions[:, wanted]

    def _points(self, prompt: Prompt, image: ImageEmbedding) -> tuple[np.ndarray, np.ndarray]:
        """Write a prompt as points (N, 2) of the input frame and labels (N,), with its box or a padding point last."""
        coords, labels = np.zeros((0, 2)), np.zeros(0)
        if prompt.point_coords is not None:
            coords, labels = self.transform.apply_coords(prompt.point_coords, image.original_hw), prompt.point_labels
        if prompt.box is not None:
            corners = self.transform.apply_boxes(prompt.box, image.original_hw).reshape(2, 2)
            return np.concatenate([coords, corners]), np.concatenate([labels, [2, 3]])
        if prompt.point_coords is not None:
            return np.concatenate([coords, [[0, 0]]]), np.concatenate([labels, [-1]])
        return coords, labels

    def _mask_logits(self, mask_input: np.ndarray) -> np.ndarray:
        return self.transform.apply_mask(mask_input) if mask_input.dtype == bool else mask_input

    def _require_image(self) -> ImageEmbedding:
        if self._image is None:
            raise NoImageSetError("An image must be set before masks are predicted, got none. Call set_image() first.")
        return self._image


def _session(path: Path, providers: Sequence[str]):
    onnxruntime = require("onnxruntime")
    if not path.is_file():
        raise CheckpointError(
            f"folder must hold encoder.onnx and decoder.onnx, got none at {str(path)!r}. Export first."
        )
    session = onnxruntime.InferenceSession(path, providers=list(providers))
    signature = session.get_modelmeta().custom_metadata_map.get("signature")
    if signature != "mobilesam":
        raise CheckpointError(
            f'{path} must be exported by export_onnx(signature="mobilesam"), got the signature {signature!r}. '
            "Export it again."
        )
    return session


def _whole(image: ImageEmbedding) -> Region:
    height, width = image.original_hw
    return 0, 0, width, height
