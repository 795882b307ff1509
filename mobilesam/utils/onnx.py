"""`SamOnnxModel`: the original's exported decoder, which AnyLabeling, samexporter and many web demos call."""

import torch
from torch import Tensor, nn

from mobilesam.geometry.masks import stability_score
from mobilesam.modeling import Sam

# Points, the padding one included, from which the token for an unambiguous prompt answers.
CLEAR_FROM_POINTS = 2.5


class SamOnnxModel(nn.Module):
    """Prompt encoder, mask decoder and upscaling as one module to export.

    Args:
        model: the model.
        return_single_mask: one mask instead of four: that of token 0 from three points on, the padding point counted,
            else the best of tokens 1 to 3.
        use_stability_score: give stability scores in place of IoU predictions.
        return_extra_metrics: give stability scores and areas of the upscaled masks as well.

    Source: the interface and behaviour of Segment Anything's `utils/onnx.py`. An empty mask's stability is 0, not NaN.
    """

    def __init__(
        self,
        model: Sam,
        return_single_mask: bool,
        use_stability_score: bool = False,
        return_extra_metrics: bool = False,
    ):
        super().__init__()
        self.model = model
        self.img_size = model.image_encoder.img_size
        self.return_single_mask = return_single_mask
        self.use_stability_score = use_stability_score
        self.stability_score_offset = 1.0
        self.return_extra_metrics = return_extra_metrics
        self.train(model.training)

    @torch.no_grad()
    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        orig_im_size: Tensor,
    ) -> tuple[Tensor, ...]:
        """Decode the masks of `B` objects.

        Args:
            image_embeddings: (1, 256, 64, 64).
            point_coords: (B, N, 2) xy in the input frame. A box is two points; without one, pad with (0, 0).
            point_labels: (B, N) float: 1 foreground, 0 background, 2 and 3 corners of a box, -1 padding.
            mask_input: (1 or B, 1, 256, 256) low-res logits.
            has_mask_input: (1,) float: 1 to use `mask_input`, 0 not to.
            orig_im_size: (2,) float: H, W of the image.

        Returns:
            masks (B, C, H, W) logits, iou_predictions (B, C), low_res_masks (B, C, 256, 256), C being 4 or 1. With
            extra metrics stability_scores (B, C) and areas (B, C) come before the last.
        """
        low_res_masks, scores = decode_all(
            self.model, image_embeddings, point_coords, point_labels, mask_input, has_mask_input
        )
        if self.use_stability_score:
            scores = self._stability(low_res_masks)
        if self.return_single_mask:
            low_res_masks, scores = select_mask(low_res_masks, scores, point_coords.shape[1])
        masks = self.mask_postprocessing(low_res_masks, orig_im_size)
        if not self.return_extra_metrics:
            return masks, scores, low_res_masks
        areas = (masks > self.model.mask_threshold).sum((-1, -2))
        return masks, scores, self._stability(masks), areas, low_res_masks

    def mask_postprocessing(self, masks: Tensor, orig_im_size: Tensor) -> Tensor:
        """Upscale low-res logits to the image. (B, C, 256, 256) -> (B, C, H, W)."""
        size = orig_im_size.float()
        inner = torch.floor(size * (self.img_size / size.max()) + 0.5).to(torch.int64)
        size = orig_im_size.to(torch.int64)
        return self.model.postprocess_masks(masks, (inner[0], inner[1]), (size[0], size[1]))

    def _stability(self, logits: Tensor) -> Tensor:
        return stability_score(logits, mask_threshold=self.model.mask_threshold, offset=self.stability_score_offset)


def decode_all(
    model: Sam,
    image_embeddings: Tensor,
    point_coords: Tensor,
    point_labels: Tensor,
    mask_input: Tensor,
    has_mask_input: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return low-res logits (B, 4, 256, 256) and IoU predictions (B, 4).

    With plain arithmetic where the model branches, so that one traced graph serves every prompt.
    """
    encoder = model.prompt_encoder
    has_mask = has_mask_input.reshape(-1, 1, 1, 1)
    no_mask = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
    return model.mask_decoder.predict_masks(
        image_embeddings=image_embeddings,
        image_pe=encoder.get_dense_pe(),
        sparse_prompt_embeddings=encoder.embed_points(point_coords, point_labels, pad=False),
        dense_prompt_embeddings=has_mask * encoder.mask_downscaling(mask_input) + (1 - has_mask) * no_mask,
    )


def select_mask(masks: Tensor, scores: Tensor, num_points: int | Tensor) -> tuple[Tensor, Tensor]:
    """Choose one of four masks, (B, 1, 256, 256) and its scores (B, 1).

    That is token 0 from three points on, the padding point counted, else the best of the others.
    """
    preference = torch.tensor([[1000.0, 0, 0, 0]], device=scores.device)
    best = (scores + (num_points - CLEAR_FROM_POINTS) * preference).argmax(dim=1, keepdim=True)
    return masks.gather(1, best[..., None, None].expand(-1, -1, *masks.shape[-2:])), scores.gather(1, best)
