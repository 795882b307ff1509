"""The mask decoder as training runs it: `modeling/mask_decoder.py` with gradients, for a third of the work.

A prompt has about 7 tokens and the image 4096. As in `fast/decoder.py`, projections of all image tokens are folded into
the few token vectors they are multiplied with, `q . (W k) = (W^T q) . k`; here the folding is part of what is
differentiated, so every weight of the decoder still learns. The image side of the first layer is computed once for all
prompts of an image, and only the tile that a loss looks at is upscaled.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mobilesam.geometry.masks import Tile
from mobilesam.modeling import Sam
from mobilesam.modeling.transformer import Attention

GRID = 64


def decode(
    sam: Sam, features: Tensor, sparse_prompt_embeddings: Tensor, tiles: Sequence[Tile]
) -> tuple[list[Tensor], Tensor]:
    """Decode all four answers of `B` prompts without mask inputs, in one image.

    Args:
        sam: the model; its mask decoder gets gradients where it wants them.
        features: (1, 256, 64, 64) image embedding.
        sparse_prompt_embeddings: (B, T, 256).
        tiles: a prompt's `(r0, c0, r1, c1)` of the 64 x 64 image tokens.

    Returns:
        Low-res logits of each tile, (4, 4 * rows, 4 * columns) a prompt, and IoU predictions (B, 4).
    """
    decoder = sam.mask_decoder
    first, second = decoder.transformer.layers
    output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    prompt = torch.cat([output_tokens.expand(len(sparse_prompt_embeddings), -1, -1), sparse_prompt_embeddings], dim=1)
    image = (
        features.flatten(2).transpose(1, 2) + sam.prompt_encoder.no_mask_embed.weight
    ).contiguous()  # (1, 4096, 256)
    position = sam.prompt_encoder.get_dense_pe().flatten(2).transpose(1, 2).contiguous()

    tokens = first.norm1(first.self_attn(q=prompt, k=prompt, v=prompt))
    # All prompts query the image that they share as one sequence.
    query = (tokens + prompt).flatten(0, 1)[None]
    attended = first.cross_attn_token_to_image(q=query, k=image + position, v=image)
    tokens = first.norm2(tokens + attended.view_as(tokens))
    tokens = first.norm3(tokens + first.mlp(tokens))
    seen = first.norm4(
        image + look_at_tokens(first.cross_attn_image_to_token, image + position, tokens + prompt, tokens)
    )

    query = tokens + prompt
    tokens = second.norm1(tokens + second.self_attn(q=query, k=query, v=tokens))
    attended = look_at_image(second.cross_attn_token_to_image, tokens + prompt, seen + position, seen)
    tokens = second.norm2(tokens + attended)
    tokens = second.norm3(tokens + second.mlp(tokens))
    seen_pe = seen + position
    seen = second.norm4(seen + look_at_tokens(second.cross_attn_image_to_token, seen_pe, tokens + prompt, tokens))

    transformer = decoder.transformer
    attended = look_at_image(transformer.final_attn_token_to_image, tokens + prompt, seen + position, seen)
    tokens = transformer.norm_final_attn(tokens + attended)
    vectors = decoder.vectors(tokens)  # (B, 4, 32)
    grids = seen.transpose(1, 2).unflatten(-1, (GRID, GRID))
    logits = []
    for grid, vector, (r0, c0, r1, c1) in zip(grids, vectors, tiles, strict=True):
        upscaled = decoder.output_upscaling(grid[None, :, r0:r1, c0:c1])[0]
        logits.append((vector @ upscaled.flatten(1)).unflatten(-1, upscaled.shape[-2:]))
    return logits, decoder.iou_prediction_head(tokens[:, 0])


def look_at_image(attention: Attention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """`attention` of few queries (B, T, C) to many keys and values (B, K, C), without projecting these."""
    heads = attention.num_heads
    few = attention._split_heads(attention.q_proj(query))  # (B, heads, T, dim)
    # Without the key's bias: it adds the same to a query's score of every key, and softmax cancels that.
    folded = few @ attention.k_proj.weight.unflatten(0, (heads, -1)) / math.sqrt(few.shape[-1])
    weights = (folded.flatten(1, 2) @ key.transpose(1, 2)).softmax(dim=-1)
    context = (weights @ value).unflatten(1, (heads, -1))  # (B, heads, T, C)
    values = context @ attention.v_proj.weight.unflatten(0, (heads, -1)).transpose(1, 2)
    return attention.out_proj(values.transpose(1, 2).flatten(2) + attention.v_proj.bias)


def look_at_tokens(attention: Attention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """`attention` of many queries (1 or B, K, C) to few keys and values (B, T, C), without projecting these queries."""
    heads = attention.num_heads
    keys = attention._split_heads(attention.k_proj(key)) / math.sqrt(attention.k_proj.out_features / heads)
    folded = (keys @ attention.q_proj.weight.unflatten(0, (heads, -1))).flatten(1, 2)  # (B, heads * T, C)
    bias = (keys @ attention.q_proj.bias.view(heads, -1, 1)).flatten(1, 2)  # (B, heads * T, 1)
    values = attention._split_heads(attention.v_proj(value)) @ attention.out_proj.weight.T.unflatten(0, (heads, -1))
    scores = folded @ query.transpose(1, 2) + bias  # tokens before image tokens: a softmax over few is quick that way
    weights = scores.unflatten(1, (heads, -1)).softmax(dim=2).flatten(1, 2)
    return weights.transpose(1, 2) @ values.flatten(1, 2) + attention.out_proj.bias
