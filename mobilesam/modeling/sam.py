"""The whole model, and the steps it is cut into: `encode_image`, `encode_prompts`, `decode_masks`."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobilesam.modeling.mask_decoder import MaskDecoder
from mobilesam.modeling.prompt_encoder import PromptEncoder
from mobilesam.modeling.tiny_vit_sam import TinyViT

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


class Sam(nn.Module):
    """MobileSAM with the attributes and methods of the original `Sam`.

    Source: the interface of Segment Anything's `sam.py`.
    """

    mask_threshold: float = 0.0
    image_format: str = "RGB"
    inherits: dict[str, Any] | None = None  # what the weights' card says of `mask_quality`, see `heads/inherited.py`
    fine_tuned: bool = False  # whether the weights' card says that a training made its mask decoder

    def __init__(
        self,
        image_encoder: TinyViT,
        prompt_encoder: PromptEncoder,
        mask_decoder: MaskDecoder,
        pixel_mean: Sequence[float] = PIXEL_MEAN,
        pixel_std: Sequence[float] = PIXEL_STD,
    ):
        super().__init__()
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.register_buffer(
            "pixel_mean", torch.tensor(pixel_mean, dtype=torch.float32).view(-1, 1, 1), persistent=False
        )
        self.register_buffer("pixel_std", torch.tensor(pixel_std, dtype=torch.float32).view(-1, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        """The device the model is on."""
        return self.pixel_mean.device

    def preprocess(self, x: Tensor) -> Tensor:
        """Normalise pixels and pad them with zeros, right and bottom.

        (..., 3, h, w) RGB in [0, 255] with long side 1024 -> (..., 3, 1024, 1024).
        """
        x = (x - self.pixel_mean) / self.pixel_std
        side = self.image_encoder.img_size
        return F.pad(x, (0, side - x.shape[-1], 0, side - x.shape[-2]))

    def encode_image(self, pixels: Tensor) -> Tensor:
        """(B, 3, 1024, 1024) from `preprocess` -> image embeddings (B, 256, 64, 64)."""
        return self.image_encoder(pixels)

    def encode_prompts(
        self, points: tuple[Tensor, Tensor] | None, boxes: Tensor | None, masks: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Embed the prompts of `B` objects, in the input frame. See `PromptEncoder.forward`."""
        return self.prompt_encoder(points=points, boxes=boxes, masks=masks)

    def decode_masks(
        self, image_embedding: Tensor, prompt_embeddings: tuple[Tensor, Tensor], *, multimask_output: bool
    ) -> tuple[Tensor, Tensor]:
        """(1, 256, 64, 64) and `encode_prompts`' answer -> low-res logits (B, C, 256, 256), IoU (B, C)."""
        return self.mask_decoder(
            image_embeddings=image_embedding,
            image_pe=self.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=prompt_embeddings[0],
            dense_prompt_embeddings=prompt_embeddings[1],
            multimask_output=multimask_output,
        )

    def postprocess_masks(self, masks: Tensor, input_size: tuple[int, ...], original_size: tuple[int, ...]) -> Tensor:
        """Upscale logits as the original does: to 1024, cut the padding off, to the image.

        This is the plain version of `mobilesam.geometry.masks.upscale_logits`, and takes a full float image per mask.

        Args:
            masks: (B, C, 256, 256) low-res logits.
            input_size: (h, w) of the image in the input frame, without padding.
            original_size: (H, W) of the original image.

        Returns:
            (B, C, H, W) logits.
        """
        side = self.image_encoder.img_size
        masks = F.interpolate(masks, (side, side), mode="bilinear", align_corners=False)
        masks = masks[..., : input_size[0], : input_size[1]]
        return F.interpolate(masks, tuple(original_size), mode="bilinear", align_corners=False)

    @torch.no_grad()
    def forward(self, batched_input: list[dict[str, Any]], multimask_output: bool) -> list[dict[str, Tensor]]:
        """Images and prompts in, masks out, without a predictor.

        Args:
            batched_input: one dict an image: `image` (3, h, w) pixels of the input frame, `original_size` (H, W), and
                any of `point_coords` (B, N, 2) with `point_labels` (B, N), `boxes` (B, 4), `mask_inputs`
                (B, 1, 256, 256), in the input frame.
            multimask_output: three candidates instead of one.

        Returns:
            One dict an image: `masks` bool (B, C, H, W), `iou_predictions` (B, C), `low_res_logits` (B, C, 256, 256).
        """
        embeddings = self.encode_image(torch.stack([self.preprocess(x["image"]) for x in batched_input]))
        results = []
        for record, embedding in zip(batched_input, embeddings, strict=True):
            points = (record["point_coords"], record["point_labels"]) if "point_coords" in record else None
            prompts = self.encode_prompts(points, record.get("boxes"), record.get("mask_inputs"))
            logits, ious = self.decode_masks(embedding.unsqueeze(0), prompts, multimask_output=multimask_output)
            masks = self.postprocess_masks(logits, record["image"].shape[-2:], record["original_size"])
            results.append({"masks": masks > self.mask_threshold, "iou_predictions": ious, "low_res_logits": logits})
        return results
