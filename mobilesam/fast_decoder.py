"""The mask decoder with far less work for the same masks: the fast twin of `modeling/mask_decoder.py`.

What it saves, for prompts without a mask input:

1. The image side of the first layer is the same for every prompt, so it is computed once an image.
2. A prompt has about 7 tokens and the image 4096. Projections of all image tokens, prompt by prompt, are folded into
   the few token vectors they are multiplied with: `q . (W k) = (W^T q) . k`. The multiplications of a prompt fall from
   3.6 to about 0.8 GFLOP. Constants that a softmax cancels are left out.
3. Only the mask tokens that were asked for are decoded, and only the part of the image they are wanted in is upscaled.

The same sums in another order: logits differ by about 1e-4, masks in no pixel but ties.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mobilesam.masks import Tile
from mobilesam.modeling import MaskDecoder, Sam
from mobilesam.products import batched_linear, linear

GRID = 64


@dataclass(frozen=True, eq=False)
class ImageSide:
    """What all prompts of an image share.

    Attributes:
        tokens: (4096, 256) image tokens with "no mask" added.
        tokens_pe: (4096, 256) `tokens` plus their positional encoding.
        key, value: (1, 8, 4096, 16) of the first attention of tokens to the image.
    """

    tokens: Tensor
    tokens_pe: Tensor
    key: Tensor
    value: Tensor


class FoldedAttention:
    """The weights of one cross-attention, split by head: `heads` x `dim` of inner width, 256 outside."""

    def __init__(self, attention: torch.nn.Module):
        self.module = attention
        self.heads = attention.num_heads
        self.dim = attention.q_proj.out_features // self.heads
        scale = 1 / math.sqrt(self.dim)
        self.query = self._by_head(attention.q_proj.weight) * scale  # (heads, dim, 256)
        self.query_bias = attention.q_proj.bias.view(self.heads, self.dim) * scale
        self.key = self._by_head(attention.k_proj.weight) * scale
        self.value = self._by_head(attention.v_proj.weight).transpose(1, 2)  # (heads, 256, dim)
        self.value_bias = attention.v_proj.bias.view(self.heads, 1, self.dim)
        self.out = attention.out_proj.weight.T.reshape(self.heads, self.dim, -1)  # (heads, dim, 256)
        # Each head's weights sum to 1 over the tokens, so a share of the bias in every row adds up to the bias.
        self.out_bias_share = attention.out_proj.bias / self.heads

    def _by_head(self, weight: Tensor) -> Tensor:
        return weight.view(self.heads, self.dim, -1)

    def split(self, x: Tensor) -> Tensor:
        """(B, T, heads * dim) -> (B, heads, T, dim)."""
        return x.unflatten(-1, (self.heads, self.dim)).transpose(1, 2)

    def queries_to_image(self, tokens: Tensor) -> Tensor:
        """Fold the key projection of the image into the queries. (B, T, 256) -> (B, heads * T, 256)."""
        return (self.split(self.module.q_proj(tokens)) @ self.key).flatten(1, 2)

    def output(self, context: Tensor) -> Tensor:
        """Project the attended image tokens. (B, heads * T, 256) -> (B, T, 256)."""
        values = context.unflatten(1, (self.heads, -1)) @ self.value + self.value_bias
        return self.module.out_proj(values.transpose(1, 2).flatten(2))

    def keys_from_tokens(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Fold the query projection of the image into the keys.

        (B, T, 256) -> (B, heads * T, 256), and what the projection's bias adds, (B, heads * T, 1).
        """
        keys = self.split(self.module.k_proj(tokens))
        return (keys @ self.query).flatten(1, 2), (keys @ self.query_bias[..., None]).flatten(1, 2)

    def values_from_tokens(self, tokens: Tensor) -> Tensor:
        """Fold the output projection into the values. (B, T, 256) -> (B, heads * T, 256)."""
        values = self.split(self.module.v_proj(tokens))
        return (values @ self.out).flatten(1, 2) + self.out_bias_share


class FastDecoder:
    """Decodes many prompts of one image.

    Reads the weights of a `Sam` when it is made, in about 2 ms: make one when it is needed and do not keep it.

    Args:
        sam: the model.
        dtype: of the 4096 image tokens and their products. The few tokens of a prompt, which decide what is segmented,
            stay in float32.
    """

    @torch.no_grad()
    def __init__(self, sam: Sam, dtype: torch.dtype = torch.float32):
        self.sam = sam
        self.dtype = dtype
        decoder: MaskDecoder = sam.mask_decoder
        self.decoder = decoder
        transformer = decoder.transformer
        self.first, self.second = transformer.layers
        self.position = sam.prompt_encoder.get_dense_pe().flatten(2)[0].T.to(dtype).contiguous()  # (4096, 256)
        self.first_out = FoldedAttention(self.first.cross_attn_image_to_token)
        self.second_in = FoldedAttention(self.second.cross_attn_token_to_image)
        self.second_out = FoldedAttention(self.second.cross_attn_image_to_token)
        self.final = FoldedAttention(transformer.final_attn_token_to_image)
        self.output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        # Transposed convolutions with stride = kernel are one matrix a token: (in, out, 2, 2) -> (in, 2 * 2 * out).
        up1, self.up_norm, _, up2, _ = decoder.output_upscaling
        self.up1, self.up2 = (
            (up.weight.permute(2, 3, 1, 0).flatten(0, 2).to(dtype).contiguous(), up.bias.repeat(4).to(dtype))
            for up in (up1, up2)
        )

    def image_side(self, features: Tensor) -> ImageSide:
        """Do the part of the work that does not depend on prompts. (1, 256, 64, 64) -> `ImageSide`."""
        tokens = (features.flatten(2)[0].T + self.sam.prompt_encoder.no_mask_embed.weight).contiguous()
        tokens_pe = tokens + self.sam.prompt_encoder.get_dense_pe().flatten(2)[0].T
        attention = self.first.cross_attn_token_to_image
        key, value = (
            projection(x).unflatten(-1, (attention.num_heads, -1)).transpose(0, 1).unsqueeze(0)
            for projection, x in ((attention.k_proj, tokens_pe), (attention.v_proj, tokens))
        )
        return ImageSide(tokens.to(self.dtype), tokens_pe.to(self.dtype).contiguous(), key, value)

    def decode(
        self, image: ImageSide, sparse_prompt_embeddings: Tensor, tiles: list[Tile], *, multimask_output: bool
    ) -> tuple[list[Tensor], Tensor]:
        """Decode the masks of `B` prompts, each in its own tile: `attend`, then `upscale`.

        Args:
            image: from `image_side`.
            sparse_prompt_embeddings: (B, T, 256), from the prompt encoder.
            tiles: per prompt the image tokens `(row0, column0, row1, column1)` to upscale.
            multimask_output: three candidates instead of one.

        Returns:
            Per prompt low-res logits (C, 4 * rows, 4 * columns), and IoU predictions (B, C).
        """
        image_tokens, hyper, iou = self.attend(image, sparse_prompt_embeddings, multimask_output=multimask_output)
        return self.upscale(image_tokens, hyper, tiles), iou

    @torch.no_grad()
    def attend(
        self, image: ImageSide, sparse_prompt_embeddings: Tensor, *, multimask_output: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the two-way transformer, which is all that IoU predictions need.

        Returns:
            image tokens (B, 4096, 256) and mask vectors (B, C, 32), both for `upscale`, and IoU predictions (B, C).
        """
        batch = len(sparse_prompt_embeddings)
        indices = range(1, 4) if multimask_output else range(1)
        prompt = torch.cat([self.output_tokens.expand(batch, -1, -1), sparse_prompt_embeddings], dim=1)

        tokens = self._first_tokens(image, prompt)
        image_tokens = self._image_attends(self.first_out, self.first.norm4, image, None, tokens, prompt)
        tokens = self._second_tokens(image_tokens, tokens, prompt)
        image_tokens = self._image_attends(self.second_out, self.second.norm4, image, image_tokens, tokens, prompt)

        # Nobody looks at the other tokens any more.
        wanted = [0, *(1 + i for i in indices)]
        last = tokens[:, wanted]
        attended = self._attend_image(self.final, image_tokens, last + prompt[:, wanted])
        last = self.decoder.transformer.norm_final_attn(last + attended)

        iou_predictions = self.decoder.iou_prediction_head(last[:, 0])[:, list(indices)]
        mlps = self.decoder.output_hypernetworks_mlps
        hyper = torch.stack([mlps[index](last[:, 1 + i]) for i, index in enumerate(indices)], dim=1)
        return image_tokens, hyper, iou_predictions

    def _first_tokens(self, image: ImageSide, prompt: Tensor) -> Tensor:
        """Token side of the first layer; all prompts query the shared image as one sequence."""
        layer, attention = self.first, self.first.cross_attn_token_to_image
        tokens = layer.norm1(layer.self_attn(q=prompt, k=prompt, v=prompt))
        query = attention.q_proj(tokens + prompt).flatten(0, 1)
        query = query.unflatten(-1, (attention.num_heads, -1)).transpose(0, 1).unsqueeze(0)
        attended = F.scaled_dot_product_attention(query, image.key, image.value)[0].transpose(0, 1).flatten(1)
        tokens = layer.norm2(tokens + attention.out_proj(attended).view_as(tokens))
        return layer.norm3(tokens + layer.mlp(tokens))

    def _second_tokens(self, image_tokens: Tensor, tokens: Tensor, prompt: Tensor) -> Tensor:
        layer = self.second
        query = tokens + prompt
        tokens = layer.norm1(tokens + layer.self_attn(q=query, k=query, v=tokens))
        tokens = layer.norm2(tokens + self._attend_image(self.second_in, image_tokens, tokens + prompt))
        return layer.norm3(tokens + layer.mlp(tokens))

    def _attend_image(self, attention: FoldedAttention, image_tokens: Tensor, query: Tensor) -> Tensor:
        """Tokens look at the image. (B, 4096, 256), (B, T, 256) -> (B, T, 256)."""
        folded = attention.queries_to_image(query).to(self.dtype)
        scores = batched_linear(folded, image_tokens, linear(folded, self.position))
        return attention.output(batched_linear(scores.softmax(dim=-1), image_tokens.transpose(1, 2)).float())

    def _image_attends(
        self,
        attention: FoldedAttention,
        norm: torch.nn.LayerNorm,
        image: ImageSide,
        image_tokens: Tensor | None,
        tokens: Tensor,
        prompt: Tensor,
    ) -> Tensor:
        """The image looks at the tokens. `image_tokens` None: those of the image, shared. -> (B, 4096, 256)."""
        folded, bias = (x.to(self.dtype) for x in attention.keys_from_tokens(tokens + prompt))
        shared = image.tokens_pe if image_tokens is None else self.position
        scores = linear(folded, shared).add_(bias)
        if image_tokens is not None:
            scores = batched_linear(folded, image_tokens, scores)
        # Image tokens last: a softmax over the few tokens of each head is then quick.
        weights = scores.unflatten(1, (attention.heads, -1)).softmax(dim=2).flatten(1, 2)
        residual = image.tokens.expand(len(tokens), -1, -1) if image_tokens is None else image_tokens
        values = attention.values_from_tokens(tokens).to(self.dtype)
        image_tokens = batched_linear(weights.transpose(1, 2), values.transpose(1, 2), residual)
        return F.layer_norm(image_tokens, norm.normalized_shape, norm.weight, norm.bias, norm.eps)

    @torch.no_grad()
    def upscale(self, image_tokens: Tensor, hyper: Tensor, tiles: list[Tile]) -> list[Tensor]:
        """Upscale each prompt's tile and take the product with its mask vectors.

        Args:
            image_tokens: (B, 4096, 256), from `attend`.
            hyper: (B, C, 32), from `attend`; fewer prompts or candidates than there were are welcome.
            tiles: per prompt the image tokens to upscale.

        Returns:
            Per prompt low-res logits (C, 4 * rows, 4 * columns).
        """
        grid = image_tokens.unflatten(1, (GRID, GRID))
        picked = torch.cat([grid[b, r0:r1, c0:c1].flatten(0, 1) for b, (r0, c0, r1, c1) in enumerate(tiles)])
        x = linear(picked, *self.up1).unflatten(-1, (4, -1))
        x = F.gelu(F.layer_norm(x, x.shape[-1:], self.up_norm.weight, self.up_norm.bias, self.up_norm.eps))
        x = F.gelu(linear(x, *self.up2)).unflatten(-1, (4, -1))  # (tokens, 4, 4, 32)
        sizes = [(r1 - r0) * (c1 - c0) for r0, c0, r1, c1 in tiles]
        logits = []
        for vectors, part, (r0, c0, r1, c1) in zip(hyper, x.split(sizes), tiles, strict=True):
            # (tokens, 4, 4, C) -> rows, columns, then the two steps of two by two
            cells = (part.float() @ vectors.T).view(r1 - r0, c1 - c0, 2, 2, 2, 2, -1)
            logits.append(cells.permute(6, 0, 2, 4, 1, 3, 5).reshape(-1, 4 * (r1 - r0), 4 * (c1 - c0)))
        return logits
