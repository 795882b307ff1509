"""`SamPredictor`: encode an image once, then ask for masks as often as needed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mobilesam.answers import Decoded
from mobilesam.base_predictor import BasePredictor, Decode
from mobilesam.embedding_cache import EmbeddingCache
from mobilesam.errors import ImageError
from mobilesam.fast.backend import Backend
from mobilesam.fast.products import fingerprint, linear
from mobilesam.geometry import ImageEmbedding, MaskCrop, whole_region
from mobilesam.geometry.masks import Matrices, Tile, tile_for
from mobilesam.geometry.transforms import TRANSFORMS
from mobilesam.heads.files import Heads, heads_for
from mobilesam.heads.mask_head import MaskHead
from mobilesam.heads.rater import Rater
from mobilesam.modeling import Sam
from mobilesam.prompts import Prompt

# Prompts decoded at once. 64 boxes took 5.5 ms each with 2, 4.5 with 4, 4.3 with 6 and 8, 5.1 with 12 and 16 (2 cores
# of AMD Zen 5, torch 2.14). With 6 a process stays 30 MB smaller than with 8.
PROMPTS_PER_CHUNK = 6
PROMPTS_PER_CHUNK_ON_GPU = 64
MASKS_AT_ONCE_ON_GPU = 16  # each as large as the image, at most


class SamPredictor(BasePredictor):
    """The original's predictor, and `predict_batch` for many prompts at once.

    Args:
        sam_model: a `Sam`, from `sam_model_registry["vit_t"](checkpoint)` or `load_model()`.
        preprocess: "sam" for the original's numbers, "ultralytics" for Ultralytics'.
        fast: encode with the fast encoder, and let `predict_batch` use the fast decoder: the same masks up
            to ties, in a third of the time. Logits then differ from upstream's by up to 3e-4 instead of 1e-4.
        precision: "fp32"; "bf16" for the fast path with the encoder in bfloat16, whose masks differ by about 1% of
            their area; "auto" for bf16 where the device multiplies it, and the fast path in fp32 elsewhere.
        cache: keeps image embeddings on disk.

    Raises:
        ValueError: an unknown `preprocess` or `precision`.

    Source: the interface of Segment Anything's `predictor.py`.
    """

    _linear = staticmethod(linear)
    _tile = staticmethod(tile_for)

    def __init__(
        self,
        sam_model: Sam,
        *,
        preprocess: str = "sam",
        fast: bool = False,
        precision: str = "fp32",
        cache: EmbeddingCache | None = None,
    ):
        if preprocess not in TRANSFORMS:
            raise ValueError(f"preprocess must be one of {sorted(TRANSFORMS)}, got {preprocess!r}.")
        self.model = sam_model
        self.transform = TRANSFORMS[preprocess](sam_model.image_encoder.img_size)
        self.backend = Backend(sam_model, fast=fast, precision=precision)
        self.cache = cache
        self._heads: tuple[list, Heads] | None = None
        self._kept_matrices: tuple[tuple, Matrices] | None = None

    @property
    def heads(self) -> Heads:
        """The fitted heads for the model's weights as they are now."""
        weights = fingerprint(self.model.mask_decoder) + fingerprint(self.model.prompt_encoder)
        if self._heads is None or self._heads[0] != weights:
            self._heads = weights, heads_for(self.model)
        return self._heads[1]

    @torch.no_grad()
    def set_torch_image(self, transformed_image: Tensor, original_image_size: tuple[int, ...]) -> None:
        """Encode an image that is already in the input frame.

        Args:
            transformed_image: (1, 3, h, w) RGB in [0, 255], long side 1024.
            original_image_size: (H, W) of the original image.

        Raises:
            ImageError: another shape.
        """
        side = self.model.image_encoder.img_size
        shape = tuple(transformed_image.shape)
        if len(shape) != 4 or shape[:2] != (1, 3) or max(shape[2:]) != side:
            raise ImageError(
                f"transformed_image must have shape (1, 3, h, w) with long side {side}, got {shape}. "
                "Resize it with predictor.transform.apply_image_torch()."
            )
        pixels = self.model.preprocess(self.transform.padded_pixels(transformed_image.to(self.device)))
        features = self.backend.encode_image(pixels)
        self.set_image_embedding(ImageEmbedding(features, tuple(original_image_size), shape[2:]))

    @torch.no_grad()
    def encode_images(self, images: Sequence[np.ndarray]) -> list[ImageEmbedding]:
        """Encode several images, of any sizes, in one pass.

        Args:
            images: (H, W, 3) uint8 RGB each.

        Returns:
            One embedding an image, in order; an empty list for none.
        """
        if not images:
            return []
        if self.cache is None:
            features = self._encode(images)
        else:
            model = f"{type(self.transform).__name__} {self.backend.encoder_name}"
            arrays = self.cache.features(images, lambda missing: self._encode(missing).cpu().numpy(), model=model)
            features = torch.from_numpy(np.stack(arrays)).to(self.device)
        return [
            ImageEmbedding(feature, image.shape[:2], self.transform.input_hw(image.shape[:2]), image)
            for feature, image in zip(features, images, strict=True)
        ]

    @property
    def device(self) -> torch.device:
        """The device the model is on."""
        return self.model.device

    @torch.no_grad()
    def predict_torch(
        self,
        point_coords: Tensor | None,
        point_labels: Tensor | None,
        boxes: Tensor | None = None,
        mask_input: Tensor | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predict the masks of `B` objects from tensors that are already in the input frame.

        Args:
            point_coords: (B, N, 2) xy, from `transform.apply_coords_torch`, or None.
            point_labels: (B, N), or None.
            boxes: (B, 4) xyxy, from `transform.apply_boxes_torch`, or None.
            mask_input: (B, 1, 256, 256), or None.
            multimask_output: three candidates instead of one.
            return_logits: logits instead of booleans.

        Returns:
            masks (B, C, H, W) bool or float32, iou_predictions (B, C), low_res_logits (B, C, 256, 256), on the device.

        Raises:
            NoImageSetError: no image is set.
        """
        image = self._require_image()
        points = None if point_coords is None else (point_coords, point_labels)
        embeddings = self.model.encode_prompts(points, boxes, mask_input)
        logits, iou_predictions = self.model.decode_masks(image.features, embeddings, multimask_output=multimask_output)
        masks = self._upscale(logits, self._matrices(image), whole_region(image.original_hw))
        return masks if return_logits else masks > self._mask_threshold, iou_predictions, logits

    @property
    def _mask_threshold(self) -> float:
        return self.model.mask_threshold

    @property
    def _prompts_per_chunk(self) -> int:
        return PROMPTS_PER_CHUNK if self.device.type == "cpu" else PROMPTS_PER_CHUNK_ON_GPU

    @property
    def _masks_at_once(self) -> int:
        return 1 if self.device.type == "cpu" else MASKS_AT_ONCE_ON_GPU

    @torch.no_grad()
    def _decode_plainly(
        self, prompts: Sequence[Prompt], image: ImageEmbedding, multimask_output: bool
    ) -> tuple[Tensor, Tensor]:
        return self.model.decode_masks(image.features, self._embed(prompts, image), multimask_output=multimask_output)

    def _decoder(self, image: ImageEmbedding, head: MaskHead | None = None) -> Decode:
        decode = self.backend.decoder(image.features, head)

        @torch.no_grad()
        def run(prompts: Sequence[Prompt], tiles: Sequence[Tile], answers: range) -> Decoded:
            has_mask = prompts[0].mask_input is not None
            return decode(self._embed(prompts, image), tiles, has_mask_input=has_mask, answers=answers)

        return run

    def _rater(self, image: ImageEmbedding, quality: str) -> Rater:
        return Rater(self.heads, image.original_hw, quality)

    def _predict_best(self, *arguments: Any) -> list[list[MaskCrop]]:
        from mobilesam.best import BestMasks  # which uses predictors

        return BestMasks(self, *arguments).predict()

    def _embed(self, prompts: Sequence[Prompt], image: ImageEmbedding) -> tuple[Tensor, Tensor]:
        """Encode prompts of one structure."""
        coords, labels, boxes, masks = self._stack(prompts, image)
        points = None if coords is None else (self._tensor(coords), torch.as_tensor(labels, device=self.device))
        return self.model.encode_prompts(points, self._tensor(boxes), self._tensor(masks))

    def _tensor(self, array: np.ndarray | None) -> Tensor | None:
        return None if array is None else torch.as_tensor(array.astype(np.float32), device=self.device)

    def _to_features(self, values: Tensor | np.ndarray) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self.device)

    def _encode(self, images: Sequence[np.ndarray]) -> Tensor:
        """Return the features of images, (B, 1, 256, 64, 64)."""
        return self.backend.encode_image(torch.stack([self._to_pixels(image) for image in images])).unsqueeze(1)

    def _to_pixels(self, image: np.ndarray) -> Tensor:
        resized = self.transform.apply_image_on(image, self.device).permute(2, 0, 1)
        return self.model.preprocess(self.transform.padded_pixels(resized))

    def _matrices(self, image: ImageEmbedding) -> Matrices:
        kept, key = self._kept_matrices, (image.original_hw, self.device)
        if kept is None or kept[0] != key:  # images of a size often follow each other
            rows, columns = self.transform.upscale_matrices(image.original_hw)
            kept = self._kept_matrices = key, (rows.to(self.device), columns.to(self.device))
        return kept[1]
