"""The mask decoder with far less work for the same masks: the fast twin of `modeling/mask_decoder.py`.

What it saves, for prompts without a mask input:

1. The image side of the first layer is the same for every prompt, so it is computed once an image.
2. A prompt has about 7 tokens and the image 4096. Projections of all image tokens, prompt by prompt, are folded into
   the few token vectors they are multiplied with: `q . (W k) = (W^T q) . k`. The multiplications of a prompt fall from
   3.6 to about 0.8 GFLOP. Constants that a softmax cancels are left out.
3. Only the mask tokens that were asked for are decoded, and only the part of the image they are wanted in is upscaled.
4. On a CPU the image side of a layer runs for one prompt and half of its image tokens at a time, which then stay in the
   processor's cache from one step to the next: memory, not arithmetic, is what the decoder waits for.

The same sums in another order: logits differ by about 1e-4, masks in no pixel but ties.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mobilesam.fast.products import batched_linear, fingerprint, linear
from mobilesam.geometry.masks import Tile
from mobilesam.modeling import Sam

GRID = 64
STRIP = 2048  # image tokens at once on a CPU; 1024 and 4096 were slower (2 cores of AMD Zen 5, torch 2.15)


@dataclass(frozen=True, eq=False)
class ImageSide:
    """What all prompts of an image share."""

    tokens: Tensor  # (4096, 256) image tokens with "no mask" added
    key: Tensor  # (1, 8, 4096, 16), as `value`, of the first attention of tokens to the image
    value: Tensor


@dataclass(frozen=True, eq=False)
class Attended:
    """What the transformer says of `B` prompts, before anything is upscaled."""

    image_tokens: list[Tensor]  # (4096, 256) a prompt
    tokens: Tensor  # (B, 1 + C, 256), of the IoUs and of each answer that was asked for
    vectors: Tensor  # (B, C, 32), whose products with the upscaled image tokens are the masks
    iou_predictions: Tensor  # (B, 4), of all answers


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
        # Without the key's bias: it adds the same to a query's score of every image token, and softmax cancels that.
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
    """Decodes many prompts of one image: `image_side` once, then `attend` and `upscale` for some prompts at a time.

    Folds the weights of a `Sam` when it is made, in about 2 ms. `dtype` is that of the 4096 image tokens and their
    products. The few tokens of a prompt, which decide what is segmented, stay in float32.
    """

    @torch.no_grad()
    def __init__(self, sam: Sam, dtype: torch.dtype = torch.float32):
        self._fingerprint = _fingerprint(sam)
        self.sam = sam
        self.dtype = dtype
        on_cpu = sam.device.type == "cpu"
        self.group = 1 if on_cpu else 64
        strip = STRIP if on_cpu else GRID * GRID
        self.strips = [slice(start, start + strip) for start in range(0, GRID * GRID, strip)]
        decoder = self.decoder = sam.mask_decoder
        self.first, self.second = decoder.transformer.layers
        self.dense_pe = sam.prompt_encoder.get_dense_pe().flatten(2)[0].T.contiguous()  # (4096, 256)
        self.position = self.dense_pe.to(dtype)
        self.first_out = FoldedAttention(self.first.cross_attn_image_to_token)
        self.second_in = FoldedAttention(self.second.cross_attn_token_to_image)
        self.second_out = FoldedAttention(self.second.cross_attn_image_to_token)
        self.final = FoldedAttention(decoder.transformer.final_attn_token_to_image)
        self.output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        # Transposed convolutions with stride = kernel are one matrix a token: (in, out, 2, 2) -> (in, 2 * 2 * out).
        up1, self.up_norm, self.up_act, up2, _ = decoder.output_upscaling
        self.up1, self.up2 = (
            (up.weight.permute(2, 3, 1, 0).flatten(0, 2).to(dtype).contiguous(), up.bias.repeat(4).to(dtype))
            for up in (up1, up2)
        )

    def fits(self, sam: Sam, dtype: torch.dtype) -> bool:
        """Whether the folded weights are still those of the model, in the precision wanted."""
        return self.dtype == dtype and self._fingerprint == _fingerprint(sam)

    @torch.no_grad()
    def image_side(self, features: Tensor) -> ImageSide:
        """Do the part of the work that does not depend on prompts. (1, 256, 64, 64) -> `ImageSide`."""
        tokens = (features.flatten(2)[0].T + self.sam.prompt_encoder.no_mask_embed.weight).contiguous()
        tokens_pe = tokens + self.dense_pe
        attention = self.first.cross_attn_token_to_image
        key, value = (
            linear(x, projection.weight, projection.bias).unflatten(-1, (attention.num_heads, -1)).transpose(0, 1)[None]
            for projection, x in ((attention.k_proj, tokens_pe), (attention.v_proj, tokens))
        )
        return ImageSide(tokens.to(self.dtype), key, value)

    @torch.no_grad()
    def attend(self, image: ImageSide, sparse_prompt_embeddings: Tensor, *, answers: range) -> Attended:
        """Run the two-way transformer on (B, T, 256) prompt embeddings, for some of the decoder's four answers."""
        batch = len(sparse_prompt_embeddings)
        prompt = torch.cat([self.output_tokens.expand(batch, -1, -1), sparse_prompt_embeddings], dim=1)

        tokens = self._first_tokens(image, prompt)
        second, final = self.second, self.decoder.transformer
        query = tokens + prompt
        looking = second.norm1(tokens + second.self_attn(q=query, k=query, v=tokens))
        queries = self.second_in.queries_to_image(looking + prompt)
        # The first layer reads the one copy that all prompts share and writes the first of their own.
        shared = [image.tokens.expand(len(some), -1, -1) for some in prompt.split(self.group)]
        groups = [torch.empty_like(tokens, memory_format=torch.contiguous_format) for tokens in shared]
        context = self._image_layer(self.first_out, self.first.norm4, tokens, prompt, shared, queries, out=groups)
        tokens = second.norm2(looking + self.second_in.output(context))
        tokens = second.norm3(tokens + _mlp(second.mlp, tokens))

        # Nobody looks at the other tokens any more.
        wanted = [0, *(1 + i for i in answers)]  # 0 knows the IoUs, the masks come after
        last = tokens[:, wanted]
        queries = self.final.queries_to_image(last + prompt[:, wanted])
        context = self._image_layer(self.second_out, second.norm4, tokens, prompt, groups, queries, out=groups)
        last = final.norm_final_attn(last + self.final.output(context))

        iou_predictions = self.decoder.iou_prediction_head(last[:, 0])
        mlps = self.decoder.output_hypernetworks_mlps
        vectors = torch.stack([mlps[index](last[:, 1 + i]) for i, index in enumerate(answers)], dim=1)
        return Attended([x for group in groups for x in group], last, vectors, iou_predictions)

    def _first_tokens(self, image: ImageSide, prompt: Tensor) -> Tensor:
        """Token side of the first layer; all prompts query the shared image as one sequence."""
        layer, attention = self.first, self.first.cross_attn_token_to_image
        tokens = layer.norm1(layer.self_attn(q=prompt, k=prompt, v=prompt))
        query = attention.q_proj(tokens + prompt).flatten(0, 1)
        query = query.unflatten(-1, (attention.num_heads, -1)).transpose(0, 1).unsqueeze(0)
        attended = F.scaled_dot_product_attention(query, image.key, image.value)[0].transpose(0, 1).flatten(1)
        tokens = layer.norm2(tokens + attention.out_proj(attended).view_as(tokens))
        return layer.norm3(tokens + _mlp(layer.mlp, tokens))

    def _image_layer(
        self,
        attention: FoldedAttention,
        norm: torch.nn.LayerNorm,
        tokens: Tensor,
        prompt: Tensor,
        groups: list[Tensor],
        queries: Tensor,
        *,
        out: list[Tensor],
    ) -> Tensor:
        """Let the image look at the tokens, then `queries` (B, Q, 256), folded, of the next attention at the image.

        `groups` are image tokens (b, 4096, 256) of some prompts each. The new ones go to `out`, which may be `groups`.
        """
        keys, bias = attention.keys_from_tokens(tokens + prompt)
        values = attention.values_from_tokens(tokens).transpose(1, 2).contiguous()
        parts = [x.to(self.dtype).split(self.group) for x in (keys, bias, values, queries)]
        context = []
        for image, after, key, key_bias, value, query in zip(groups, out, *parts, strict=True):
            # Scores of all strips, as a softmax over the image needs; the rest lives for one strip, in one buffer.
            scores = query.new_empty(*query.shape[:2], image.shape[1])
            buffer = torch.empty_like(image[:, self.strips[0]])
            for rows in self.strips:
                position, residual = self.position[rows], image[:, rows]
                with_position = torch.add(residual, position, out=buffer)
                # Image tokens last: a softmax over the few tokens of each head is then quick.
                weights = batched_linear(key, with_position).add_(key_bias)
                weights = weights.unflatten(1, (attention.heads, -1)).softmax(dim=2).flatten(1, 2)
                x = batched_linear(weights.transpose(1, 2), value, residual)
                x = _norm(norm, x)
                scores[:, :, rows] = batched_linear(query, torch.add(x, position, out=buffer))
                after[:, rows] = x
            context.append(batched_linear(scores.softmax(dim=-1), after.transpose(1, 2)))
        return torch.cat(context).float()

    @torch.no_grad()
    def upscale(self, image_tokens: Sequence[Tensor], vectors: Tensor, tiles: Sequence[Tile]) -> list[Tensor]:
        """Upscale each prompt's tile and take the product with its mask vectors: (C, 4 * rows, 4 * columns) a prompt.

        Image tokens (4096, 256) and vectors (B, C, 32) are from `attend`, of fewer prompts or candidates if wanted.
        """
        grids = [x.view(GRID, GRID, -1) for x in image_tokens]
        # A layer takes the tiles of all prompts as one list of tokens, so small tiles cost no more than their tokens.
        picked = torch.cat(
            [grid[r0:r1, c0:c1].flatten(0, 1) for grid, (r0, c0, r1, c1) in zip(grids, tiles, strict=True)]
        )
        x = linear(picked, *self.up1).unflatten(-1, (4, -1))
        x = self.up_act(_norm(self.up_norm, x))
        x = self.up_act(linear(x, *self.up2)).unflatten(-1, (4, -1))  # (tokens, 4, 4, 32)
        sizes = [(r1 - r0) * (c1 - c0) for r0, c0, r1, c1 in tiles]
        logits = []
        for own, part, (r0, c0, r1, c1) in zip(vectors, x.split(sizes), tiles, strict=True):
            # (tokens, 4, 4, C) -> rows, columns, then the two steps of two by two
            cells = (part.float() @ own.T).view(r1 - r0, c1 - c0, 2, 2, 2, 2, -1)
            logits.append(cells.permute(6, 0, 2, 4, 1, 3, 5).reshape(-1, 4 * (r1 - r0), 4 * (c1 - c0)))
        return logits


def _fingerprint(sam: Sam) -> list[tuple[int, int]]:
    return fingerprint(sam.prompt_encoder) + fingerprint(sam.mask_decoder)


def _norm(norm: torch.nn.Module, x: Tensor) -> Tensor:
    """Normalise the last axis of tokens. A GPU takes weights in the tokens' precision only; it sums in float32 too."""
    dtype = norm.weight.dtype if x.device.type == "cpu" else x.dtype
    return F.layer_norm(x, x.shape[-1:], norm.weight.to(dtype), norm.bias.to(dtype), norm.eps)


def _mlp(mlp: torch.nn.Module, tokens: Tensor) -> Tensor:
    """Run `MLPBlock` in oneDNN."""
    return linear(mlp.act(linear(tokens, mlp.lin1.weight, mlp.lin1.bias)), mlp.lin2.weight, mlp.lin2.bias)
