"""`OnnxPredictor`: `SamPredictor` on an exported ONNX pair. Needs numpy, Pillow and onnxruntime, and no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam.answers import CANDIDATES, SINGLE_ANSWER, Decoded
from mobilesam.base_predictor import BasePredictor, Decode
from mobilesam.errors import CheckpointError
from mobilesam.geometry.frames import LOW_RES, ImageEmbedding, ResizeLongestSide
from mobilesam.geometry.masks import Tile
from mobilesam.packages import require
from mobilesam.prompts import Prompt


class OnnxPredictor(BasePredictor):
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

    _prompts_per_chunk = 16  # which bounds the memory of a call

    def __init__(self, folder: str | Path, *, providers: Sequence[str] = ("CPUExecutionProvider",)):
        self._encoder_session = _session(Path(folder) / "encoder.onnx", providers)
        self._decoder_session = _session(Path(folder) / "decoder.onnx", providers)
        self.transform = ResizeLongestSide()

    def encode_images(self, images: Sequence[np.ndarray]) -> list[ImageEmbedding]:
        """Encode several images (H, W, 3) uint8 RGB, of any sizes, in one pass; one embedding each, in order."""
        if not images:
            return []
        resized = [self.transform.apply_image(image) for image in images]
        input_hw = np.array([image.shape[:2] for image in resized])
        batch = np.zeros((len(images), *input_hw.max(axis=0), 3), np.uint8)
        for row, image in zip(batch, resized, strict=True):
            row[: image.shape[0], : image.shape[1]] = image
        [features] = self._encoder_session.run(None, {"images": batch, "input_hw": input_hw})
        return [
            ImageEmbedding(feature[None], image.shape[:2], self.transform.input_hw(image.shape[:2]))
            for feature, image in zip(features, images, strict=True)
        ]

    def _to_features(self, values: Any) -> np.ndarray:
        return np.asarray(values, np.float32)

    def _matrices(self, image: ImageEmbedding) -> tuple[np.ndarray, np.ndarray]:
        return self.transform.upscale_arrays(image.original_hw)

    def _decoder(self, image: ImageEmbedding) -> Decode:
        def decode(prompts: Sequence[Prompt], tiles: Sequence[Tile], answers: range) -> Decoded:
            logits, iou_predictions = self._run(prompts, image)
            return Decoded(tiles, logits[:, list(answers)], iou_predictions)

        return decode

    def _decode_plainly(
        self, prompts: Sequence[Prompt], image: ImageEmbedding, multimask_output: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        wanted = list(CANDIDATES if multimask_output else SINGLE_ANSWER)
        logits, iou_predictions = self._run(prompts, image)
        return logits[:, wanted], iou_predictions[:, wanted]

    def _run(self, prompts: Sequence[Prompt], image: ImageEmbedding) -> tuple[np.ndarray, np.ndarray]:
        """Return logits (B, 4, 256, 256) and IoU predictions (B, 4) of prompts of one structure."""
        coords, labels, boxes, masks = self._stack(prompts, image)
        if coords is None:
            coords, labels = np.zeros((len(prompts), 0, 2)), np.zeros((len(prompts), 0))
        # To the graph a box is two points, and points without a box end in one that is none.
        more, kinds = (np.zeros((len(prompts), 1, 2)), [-1]) if boxes is None else (boxes.reshape(-1, 2, 2), [2, 3])
        if boxes is not None or coords.size:
            coords = np.concatenate([coords, more], axis=1)
            labels = np.concatenate([labels, np.tile(kinds, (len(prompts), 1))], axis=1)
        has_mask = masks is not None
        masks = masks if has_mask else np.zeros((1, 1, LOW_RES, LOW_RES), np.float32)
        feed = {
            "image_embeddings": image.features,
            "point_coords": coords.astype(np.float32),
            "point_labels": labels.astype(np.float32),
            "mask_input": masks,
            "has_mask_input": np.full(len(masks), has_mask, np.float32),
        }
        return tuple(self._decoder_session.run(None, feed))


def _session(path: Path, providers: Sequence[str]) -> Any:
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
