"""`SamPredictor`: encode an image once, then ask for masks as often as needed."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mobilesam.embedding_cache import EmbeddingCache
from mobilesam.errors import ImageError, NoImageSetError
from mobilesam.fast.backend import Backend
from mobilesam.fast.products import linear
from mobilesam.geometry import ImageEmbedding, Region
from mobilesam.geometry.masks import WHOLE_TILE, MaskCrop, Tile, crop_mask, tile_for, upscale_logits
from mobilesam.geometry.transforms import TRANSFORMS
from mobilesam.images import to_rgb
from mobilesam.modeling import Sam
from mobilesam.prompts import Prompt, check_inside, chunks

# Prompts decoded at once. The fast decoder works on their images one by one and shares the work on their few tokens: 4
# take 15% longer a prompt, 16 as long, with twice the memory (2 cores of AMD Zen 5, torch 2.15).
PROMPTS_PER_CHUNK = 8
PROMPTS_PER_CHUNK_ON_GPU = 64


class SamPredictor:
    """The original's predictor, and `predict_batch` for many prompts at once.

    Args:
        sam_model: a `Sam`, from `sam_model_registry["vit_t"](checkpoint)` or `load_model()`.
        preprocess: "sam" for the original's numbers, "ultralytics" for Ultralytics'.
        fast: encode with the fast encoder, on a CPU, and let `predict_batch` use the fast decoder: the same masks up
            to ties, in a third of the time. Logits then differ from upstream's by up to 3e-4 instead of 1e-4.
        precision: "fp32"; "bf16" for the fast path with its large products in bfloat16, whose masks differ by about
            1% of their area; "auto" for bf16 where the device multiplies it, and the fast path in fp32 elsewhere.
        cache: keeps image embeddings on disk.

    Raises:
        ValueError: an unknown `preprocess` or `precision`.

    Source: the interface of Segment Anything's `predictor.py`.
    """

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
        self._image: ImageEmbedding | None = None

    # ---- the image -------------------------------------------------------------------------------------------------

    def set_image(self, image: np.ndarray, image_format: str = "RGB") -> None:
        """Encode an image.

        Args:
            image: (H, W, 3) uint8. Gray, RGBA, PIL images and tensors are converted, see `mobilesam.images.to_rgb`.
            image_format: "RGB" or "BGR".

        Raises:
            ImageError: not an image.
        """
        self.set_image_embedding(self.encode_images([to_rgb(image, array_format=image_format)])[0])

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

    def set_image_embedding(self, embedding: ImageEmbedding) -> None:
        """Use an image that was encoded earlier, by `encode_images` or another predictor with the same weights."""
        self._image = embedding

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
            ImageEmbedding(feature, image.shape[:2], self.transform.input_hw(image.shape[:2]))
            for feature, image in zip(features, images, strict=True)
        ]

    def reset_image(self) -> None:
        """Forget the image."""
        self._image = None

    def get_image_embedding(self) -> Tensor:
        """Return the features of the image, (1, 256, 64, 64)."""
        return self._require_image().features

    @property
    def device(self) -> torch.device:
        """The device the model is on."""
        return self.model.device

    @property
    def is_image_set(self) -> bool:
        """Whether there is an image to predict in."""
        return self._image is not None

    @property
    def features(self) -> Tensor | None:
        """The features of the image, (1, 256, 64, 64), or None."""
        return self._image and self._image.features

    @property
    def original_size(self) -> tuple[int, int] | None:
        """(H, W) of the image, or None."""
        return self._image and self._image.original_hw

    @property
    def input_size(self) -> tuple[int, int] | None:
        """(h, w) of the image in the input frame without padding, or None."""
        return self._image and self._image.input_hw

    # ---- the masks -------------------------------------------------------------------------------------------------

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
        with torch.no_grad():
            embeddings = self._embed([prompt], image)
            decoded = self.model.decode_masks(image.features, embeddings, multimask_output=multimask_output)
        logits, iou_predictions = (x[0] for x in decoded)
        masks = upscale_logits(logits, self._matrices(image), _whole(image), linear=linear)
        if not return_logits:
            masks = masks > self.model.mask_threshold
        return masks.cpu().numpy(), iou_predictions.cpu().numpy(), logits.cpu().numpy()

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
        masks = upscale_logits(logits, self._matrices(image), _whole(image), linear=linear)
        return masks if return_logits else masks > self.model.mask_threshold, iou_predictions, logits

    @torch.no_grad()
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
            return_low_res_logits: keep the (256, 256) logits in each `MaskCrop`.

        Returns:
            One list a prompt, in order, of its candidates. An empty list for no prompts.

        Raises:
            NoImageSetError: no image is set or given.
            PromptError: a prompt does not fit the image; its index is named.
        """
        image = image or self._require_image()
        check_inside(prompts, image.original_hw)
        matrices = self._matrices(image)
        regions = [region or _whole(image) for region in regions or [None] * len(prompts)]
        tiles = [WHOLE_TILE if return_low_res_logits else tile_for(matrices, region) for region in regions]
        results: list[list[MaskCrop]] = [[] for _ in prompts]
        decoded = self._decode(prompts, image, tiles, multimask_output=multimask_output)
        for index, tile, logits, iou_predictions in decoded:
            keep = [int(iou_predictions.argmax())] if best_only else range(len(logits))
            results[index] = [
                crop_mask(
                    upscale_logits(logits[i], matrices, regions[index], tile, linear=linear),
                    regions[index],
                    mask_threshold=self.model.mask_threshold,
                    iou_prediction=float(iou_predictions[i]),
                    low_res_logits=logits[i] if return_low_res_logits else None,
                )
                for i in keep
            ]
        return results

    # ---- inside ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _decode(
        self, prompts: Sequence[Prompt], image: ImageEmbedding, tiles: Sequence[Tile], *, multimask_output: bool | None
    ) -> Iterator[tuple[int, Tile, Tensor, Tensor]]:
        """Yield, in any order, each prompt's index, tile, logits of the tile (C, h, w) and IoU predictions (C,)."""
        decode = self.backend.decoder(image.features)
        size = PROMPTS_PER_CHUNK if self.device.type == "cpu" else PROMPTS_PER_CHUNK_ON_GPU
        for chunk, multimask in chunks(prompts, multimask_output, size=size):
            embeddings = self._embed([prompts[i] for i in chunk], image)
            has_mask = prompts[chunk[0]].mask_input is not None
            wanted = [tiles[i] for i in chunk]
            decoded = decode(embeddings, wanted, has_mask_input=has_mask, multimask_output=multimask)
            yield from zip(chunk, *decoded, strict=True)

    def _embed(self, prompts: Sequence[Prompt], image: ImageEmbedding) -> tuple[Tensor, Tensor]:
        """Stack prompts of one structure, map them to the input frame and encode them."""
        has_box, num_points, has_mask = prompts[0].structure
        points = boxes = masks = None
        if num_points:
            coords = np.stack([prompt.point_coords for prompt in prompts])
            coords = self.transform.apply_coords(coords, image.original_hw)
            labels = np.stack([prompt.point_labels for prompt in prompts])
            points = self._tensor(coords), torch.as_tensor(labels, device=self.device)
        if has_box:
            boxes = np.stack([prompt.box for prompt in prompts])
            boxes = self._tensor(self.transform.apply_boxes(boxes, image.original_hw))
        if has_mask:
            masks = self._tensor(np.stack([self._mask_logits(prompt.mask_input) for prompt in prompts]))
        return self.model.encode_prompts(points, boxes, masks)

    def _mask_logits(self, mask_input: np.ndarray) -> np.ndarray:
        return self.transform.apply_mask(mask_input) if mask_input.dtype == bool else mask_input

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(array.astype(np.float32), device=self.device)

    def _encode(self, images: Sequence[np.ndarray]) -> Tensor:
        """Return the features of images, (B, 1, 256, 64, 64)."""
        return self.backend.encode_image(torch.stack([self._to_pixels(image) for image in images])).unsqueeze(1)

    def _to_pixels(self, image: np.ndarray) -> Tensor:
        resized = torch.from_numpy(self.transform.apply_image(image))
        return self.model.preprocess(self.transform.padded_pixels(resized.to(self.device).permute(2, 0, 1)))

    def _matrices(self, image: ImageEmbedding) -> tuple[Tensor, Tensor]:
        rows, columns = self.transform.upscale_matrices(image.original_hw)
        return rows.to(self.device), columns.to(self.device)

    def _require_image(self) -> ImageEmbedding:
        if self._image is None:
            raise NoImageSetError("An image must be set before masks are predicted, got none. Call set_image() first.")
        return self._image


def _whole(image: ImageEmbedding) -> Region:
    height, width = image.original_hw
    return 0, 0, width, height
