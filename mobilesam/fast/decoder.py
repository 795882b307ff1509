"""The mask decoder with far less work for the same masks: the fast twin of `modeling/mask_decoder.py`.

What it saves, for prompts without a mask input:

1. What depends on the image only is computed once an image, all of it in one product.
2. A prompt's own 4096 image tokens are never written out, see `image_tokens.py`.
3. Only the mask tokens that were asked for are decoded, and only the part of the image they are wanted in is upscaled.

The same sums in another order: logits differ by about 1e-4, masks in no pixel but ties.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobilesam.fast.image_tokens import (
    ImageTokens,
    Level,
    Projection,
    SharedTokens,
    Sharing,
    as_they_come,
    by_head,
)
from mobilesam.fast.products import fingerprint, linear
from mobilesam.geometry.masks import WHOLE_TILE, Tile
from mobilesam.modeling import Sam

ROUNDED = 256  # Tokens of tiles are filled up to multiples of it: for each new number oneDNN makes new kernels.


@dataclass(frozen=True, eq=False)
class Attended:
    """What the transformer says of `B` prompts, before anything is upscaled."""

    image_tokens: list[ImageTokens]  # of one prompt each
    tokens: Tensor  # (B, 1 + C, 256), of the IoUs and of each answer that was asked for
    vectors: Tensor  # (B, C, 32), whose products with the upscaled image tokens are the masks
    iou_predictions: Tensor  # (B, 4), of all answers


class TokenToImage:
    """An attention of a prompt's tokens to the image tokens of a level."""

    def __init__(self, level: Level, module: nn.Module, position: Tensor):
        self.module = module
        self.key = Projection(level, module.k_proj, module.num_heads, position, scale=_scale(module))
        self.value = Projection(level, module.v_proj, module.num_heads)

    def __call__(self, image: ImageTokens, queries: Tensor) -> Tensor:
        """(B, T, 256) -> (B, T, 256)."""
        scores = image.scores(self.key, by_head(self.module.q_proj(queries), self.module.num_heads))
        found = image.attended(self.value, torch.softmax(scores, dim=-1, out=scores))
        return self.module.out_proj(found.permute(2, 1, 0, 3).flatten(2))


class ImageToToken:
    """An attention of image tokens to a prompt's tokens, and the norm behind it: from one level to the next."""

    def __init__(self, below: Level, module: nn.Module, norm: nn.Module, position: Tensor):
        self.module = module
        self.level = Level(below, module, norm)
        self.query = Projection(below, module.q_proj, module.num_heads, position, scale=_scale(module))

    def __call__(self, image: ImageTokens, keys: Tensor, values: Tensor) -> ImageTokens:
        """Let the image look at keys and values (B, T, 256)."""
        heads = self.module.num_heads
        scores = image.scores(self.query, by_head(self.module.k_proj(keys), heads))
        return image.after_layer(self.level, scores, by_head(self.module.v_proj(values), heads))


class FastDecoder:
    """Decodes many prompts of one image: `image_side` once, then `attend` and `upscale` for some prompts at a time.

    Folds the weights of a `Sam` when it is made, in about 30 ms. Everything is float32.
    """

    @torch.no_grad()
    def __init__(self, sam: Sam):
        self._fingerprint = _fingerprint(sam)
        self.sam = sam
        decoder = self.decoder = sam.mask_decoder
        position = sam.prompt_encoder.get_dense_pe().flatten(2)[0].T  # (4096, 256)
        with sam.device:
            levels = [Level()]
        self.looks: list[tuple[TokenToImage, ImageToToken]] = []
        for layer in decoder.transformer.layers:
            look = TokenToImage(levels[-1], layer.cross_attn_token_to_image, position)
            back = ImageToToken(levels[-1], layer.cross_attn_image_to_token, layer.norm4, position)
            self.looks.append((look, back))
            levels.append(back.level)
        self.last_look = TokenToImage(levels[-1], decoder.transformer.final_attn_token_to_image, position)
        projections = [x for look, back in self.looks for x in (look.key, look.value, back.query)]
        self.sharing = Sharing(levels, [*projections, self.last_look.key, self.last_look.value])
        self.output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        # Transposed convolutions with stride = kernel are one matrix a token: (in, out, 2, 2) -> (2 * 2 * out, in).
        up1, self.up_norm, self.up_act, up2, _ = decoder.output_upscaling
        (weight, bias), self.up2 = (
            (up.weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous(), up.bias.repeat(4)) for up in (up1, up2)
        )
        self.up1 = weight * levels[-1].weight, bias + weight @ levels[-1].bias

    def fits(self, sam: Sam) -> bool:
        """Whether the folded weights are still those of the model."""
        return self._fingerprint == _fingerprint(sam)

    @torch.no_grad()
    def image_side(self, features: Tensor) -> SharedTokens:
        """Do the part of the work that does not depend on prompts. (1, 256, 64, 64) -> what all of them share."""
        tokens = features.flatten(2)[0].T + self.sam.prompt_encoder.no_mask_embed.weight
        return self.sharing(tokens.contiguous())

    @torch.no_grad()
    def attend(self, shared: SharedTokens, sparse_prompt_embeddings: Tensor, *, answers: range) -> Attended:
        """Run the two-way transformer on (B, T, 256) prompt embeddings, for some of the decoder's four answers.

        On a CPU 6 prompts at a time are quickest, a GPU takes 64 at once.
        """
        output_tokens = self.output_tokens.expand(len(sparse_prompt_embeddings), -1, -1)
        tokens = prompt = torch.cat([output_tokens, sparse_prompt_embeddings], dim=1)
        image = as_they_come(shared, self.sharing.levels[0], len(prompt))
        for layer, (look, back) in zip(self.decoder.transformer.layers, self.looks, strict=True):
            if layer.skip_first_layer_pe:
                tokens = layer.norm1(layer.self_attn(q=tokens, k=tokens, v=tokens))
            else:
                query = tokens + prompt
                tokens = layer.norm1(tokens + layer.self_attn(q=query, k=query, v=tokens))
            tokens = layer.norm2(tokens + look(image, tokens + prompt))
            tokens = layer.norm3(tokens + _mlp(layer.mlp, tokens))
            image = back(image, tokens + prompt, tokens)

        # Nobody looks at the other tokens any more.
        wanted = [0, *(1 + i for i in answers)]  # 0 knows the IoUs, the masks come after
        last = tokens[:, wanted]
        last = last + self.last_look(image, last + prompt[:, wanted])
        last = self.decoder.transformer.norm_final_attn(last)

        iou_predictions = self.decoder.iou_prediction_head(last[:, 0])
        mlps = self.decoder.output_hypernetworks_mlps
        vectors = torch.stack([mlps[index](last[:, 1 + i]) for i, index in enumerate(answers)], dim=1)
        return Attended([image.of(i) for i in range(len(image))], last, vectors, iou_predictions)

    @torch.no_grad()
    def upscale(self, image_tokens: Sequence[ImageTokens], vectors: Tensor, tiles: Sequence[Tile]) -> list[Tensor]:
        """Upscale each prompt's tile and take the product with its mask vectors: (C, 4 * rows, 4 * columns) a prompt.

        Image tokens and vectors (B, C, 32) are from `attend`, of fewer prompts or candidates if wanted.
        """
        weight, bias = self.up1
        sizes = [(r1 - r0) * (c1 - c0) for r0, c0, r1, c1 in tiles]
        if set(tiles) == {WHOLE_TILE}:  # then what prompts share pays for itself at the second one
            x = torch.cat([tokens.projected(weight) for tokens in image_tokens]).add_(bias)
        else:  # all tiles are one list of tokens, so small ones cost no more than their tokens
            parts = [tokens.of_tile(tile) for tokens, tile in zip(image_tokens, tiles, strict=True)]
            filling = parts[0].new_zeros(-sum(sizes) % ROUNDED, parts[0].shape[-1])
            x = linear(torch.cat([*parts, filling]), weight, bias)
        x = x.unflatten(-1, (4, -1))
        x = self.up_act(F.layer_norm(x, x.shape[-1:], self.up_norm.weight, self.up_norm.bias, self.up_norm.eps))
        x = self.up_act(linear(x, *self.up2)).unflatten(-1, (4, -1))[: sum(sizes)]  # (tokens, 4, 4, 32)
        logits = []
        for own, part, (r0, c0, r1, c1) in zip(vectors, x.split(sizes), tiles, strict=True):
            # (tokens, 4, 4, C) -> rows, columns, then the two steps of two by two
            cells = (part @ own.T).view(r1 - r0, c1 - c0, 2, 2, 2, 2, -1)
            logits.append(cells.permute(6, 0, 2, 4, 1, 3, 5).reshape(-1, 4 * (r1 - r0), 4 * (c1 - c0)))
        return logits


def _fingerprint(sam: Sam) -> list[tuple[int, int]]:
    return fingerprint(sam.prompt_encoder) + fingerprint(sam.mask_decoder)


def _scale(attention: torch.nn.Module) -> float:
    """What scores of an attention are multiplied with."""
    return 1 / math.sqrt(attention.q_proj.out_features / attention.num_heads)


def _mlp(mlp: torch.nn.Module, tokens: Tensor) -> Tensor:
    """Run `MLPBlock` in oneDNN."""
    return linear(mlp.act(linear(tokens, mlp.lin1.weight, mlp.lin1.bias)), mlp.lin2.weight, mlp.lin2.bias)
