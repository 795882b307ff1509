"""Image embedding and prompt embeddings -> low-res mask logits and predicted IoU.

Source: the architecture of Segment Anything's `mask_decoder.py`. Only the mask tokens that were asked for are decoded.
"""

import torch
from torch import Tensor, nn

from mobilesam.modeling.common import MLP, LayerNorm2d
from mobilesam.modeling.transformer import TwoWayTransformer


class MaskDecoder(nn.Module):
    """Token 0 answers `multimask_output=False`; tokens 1 to 3 answer `multimask_output=True`."""

    def __init__(
        self,
        *,
        transformer_dim: int,
        transformer: TwoWayTransformer,
        num_multimask_outputs: int = 3,
        activation: type[nn.Module] = nn.GELU,
        iou_head_depth: int = 3,
        iou_head_hidden_dim: int = 256,
    ):
        super().__init__()
        self.transformer = transformer
        self.num_mask_tokens = num_multimask_outputs + 1
        self.iou_token = nn.Embedding(1, transformer_dim)
        self.mask_tokens = nn.Embedding(self.num_mask_tokens, transformer_dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(transformer_dim, transformer_dim // 4, kernel_size=2, stride=2),
            LayerNorm2d(transformer_dim // 4),
            activation(),
            nn.ConvTranspose2d(transformer_dim // 4, transformer_dim // 8, kernel_size=2, stride=2),
            activation(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            MLP(transformer_dim, transformer_dim, transformer_dim // 8, 3) for _ in range(self.num_mask_tokens)
        )
        self.iou_prediction_head = MLP(transformer_dim, iou_head_hidden_dim, self.num_mask_tokens, iou_head_depth)

    def forward(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
    ) -> tuple[Tensor, Tensor]:
        """Decode the masks of `B` objects in one image.

        Args:
            image_embeddings: (1, 256, 64, 64).
            image_pe: (1, 256, 64, 64).
            sparse_prompt_embeddings: (B, T, 256).
            dense_prompt_embeddings: (B, 256, 64, 64).
            multimask_output: three candidates instead of one.

        Returns:
            Low-res logits (B, C, 256, 256) and IoU predictions (B, C), C being 3 or 1.
        """
        wanted = slice(1, None) if multimask_output else slice(0, 1)
        return self.predict_masks(
            image_embeddings, image_pe, sparse_prompt_embeddings, dense_prompt_embeddings, wanted=wanted
        )

    def predict_masks(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        *,
        wanted: slice = slice(None),
    ) -> tuple[Tensor, Tensor]:
        """`forward` for any of the tokens: all four, as exported models want them, if `wanted` does not choose."""
        tokens, upscaled = self.attend(image_embeddings, image_pe, sparse_prompt_embeddings, dense_prompt_embeddings)
        vectors = self.vectors(tokens, wanted)
        low_res_logits = (vectors @ upscaled.flatten(2)).unflatten(-1, upscaled.shape[-2:])
        iou_predictions = self.iou_prediction_head(tokens[:, 0])[:, wanted]
        return low_res_logits, iou_predictions

    def attend(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the tokens of the IoUs and of the four answers, (B, 5, 256), and the upscaled image (B, 32, 256, 256).

        Arguments are those of `forward`.
        """
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        batch = sparse_prompt_embeddings.shape[0]
        tokens = torch.cat([output_tokens.expand(batch, -1, -1), sparse_prompt_embeddings], dim=1)
        image = image_embeddings + dense_prompt_embeddings
        tokens, image_tokens = self.transformer(image, image_pe, tokens)
        upscaled = self.output_upscaling(image_tokens.transpose(1, 2).unflatten(-1, image.shape[-2:]))
        return tokens[:, : 1 + self.num_mask_tokens], upscaled

    def vectors(self, tokens: Tensor, wanted: slice = slice(None)) -> Tensor:
        """Return the mask vectors of answers, (B, C, 32), from the tokens (B, 5, 256) of `attend`."""
        indices = range(self.num_mask_tokens)[wanted]
        return torch.stack([self.output_hypernetworks_mlps[i](tokens[:, 1 + i]) for i in indices], dim=1)
