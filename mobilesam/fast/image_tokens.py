"""The image tokens of a prompt, 4096 x 256 numbers, without writing them out.

In a layer of the decoder each image token looks at the prompt's `T` tokens with 8 heads, adds what it sees, and is
normalised. What it adds is a sum of R = 8 T vectors with weights of its own, and a norm divides it by one number. So
behind any layer the image tokens of a prompt are

    x = weight * n + bias,    n = scale * (shared + vectors^T coefficients)

with `weight` and `bias` of the norm, a `scale` and R `coefficients` (twice as many behind two layers) for each image
token, a few `vectors`, and `shared` image tokens that all prompts of an image have in common. Nobody needs `x` itself:

- An attention multiplies few queries with a projection of all image tokens: q . W x. That is q . (W shared), projected
  once an image, and (W vectors . q) . coefficients.
- A norm needs |n|^2: products of `vectors` with each other and with `shared`. Means are taken off beforehand.
- Upscaling begins with a linear layer, and most masks need it in a tile of the image only.

A box takes 0.41 GFLOP instead of 3.6 (`benchmarks/bench.py` counts them), and its maps are 56 x 4096 numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mobilesam.fast.products import linear
from mobilesam.geometry.masks import WHOLE_TILE, Tile

GRID = 64
WIDTH = 256


class Level:
    """The image tokens as they come, or after a layer: what its weights make of those of the level below.

    Attributes:
        weight, bias: (256,) of the layer's norm.
        from_tokens: (256, 256), which makes `shared` of the image tokens as they come.
        outputs: for each layer so far a (8, dim + 1, 256) matrix that makes its `vectors` of its `values`: of what its
            attention projects the prompt's tokens to, and of a 1, for biases, as the weights of a head sum to 1.
    """

    def __init__(self, below: "Level | None" = None, attention: nn.Module | None = None, norm: nn.Module | None = None):
        self.below = below
        if below is None:
            self.weight, self.bias, self.from_tokens = torch.ones(WIDTH), torch.zeros(WIDTH), torch.eye(WIDTH)
            self.outputs: list[Tensor] = []
            return
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        heads = attention.num_heads
        output = attention.out_proj.weight.T.unflatten(0, (heads, -1))
        bias = ((attention.out_proj.bias + below.bias) / heads).expand(heads, 1, WIDTH)
        outputs = (*(output * below.weight for output in below.outputs), torch.cat([output, bias], dim=1))
        self.outputs = [_centred(output) for output in outputs]
        self.from_tokens = _centred(below.from_tokens.T * below.weight).T


class Projection:
    """`W x + b` of the image tokens `x` of a level, by head, or of `x` and their positions (4096, 256).

    Attributes:
        weight: (8, dim, 256), for `n`.
        constant: (8, dim, 4096), or (8, dim, 1) without positions: `W x + b` where `n` is 0. As long as `scale` is 1,
            which it is before the first layer, it is in the image's map.
    """

    def __init__(
        self, level: Level, module: nn.Linear, heads: int, position: Tensor | None = None, *, scale: float = 1.0
    ):
        self.level = level
        x = level.bias[None] if position is None else position + level.bias
        self.weight = (scale * module.weight * level.weight).unflatten(0, (heads, -1))
        self.constant = scale * (module.weight @ x.T + module.bias[:, None]).unflatten(0, (heads, -1))


@dataclass(frozen=True, eq=False)
class SharedTokens:
    """What all prompts of an image share.

    Attributes:
        tokens: (4096, 256) `shared` of the last level, the one that is upscaled.
        squares: for each level above the first (4096,), their squared length.
        maps: for each projection and each of a level's `outputs` (8, dim, 4096), its product with `shared`.
        products: see `product`.
    """

    tokens: Tensor
    squares: dict[Level, Tensor]
    maps: dict[Projection | Tensor, Tensor]
    products: dict[Tensor, Tensor] = field(default_factory=dict)

    def product(self, weight: Tensor) -> Tensor:
        """Return (4096, N), `tokens` times a (N, 256) weight, made when it is first asked for."""
        if weight not in self.products:
            self.products[weight] = linear(self.tokens, weight)
        return self.products[weight]


class Sharing:
    """Makes `SharedTokens` of an image, all maps in one product. `levels` begin with the tokens as they come."""

    def __init__(self, levels: Sequence[Level], projections: Sequence[Projection]):
        self.levels = levels
        parts = [(p, p.weight, p.level) for p in projections]
        parts += [(output, output, level) for level in levels for output in level.outputs]
        self.names = [name for name, *_ in parts]
        self.shapes = [weight.shape[:2] for _, weight, _ in parts]
        self.unscaled = {p for p in projections if p.level.below is None}
        self.weight = torch.cat([weight.flatten(0, 1) @ level.from_tokens for _, weight, level in parts])

    def __call__(self, tokens: Tensor) -> SharedTokens:
        """(4096, 256) image tokens as they come -> what their prompts share."""
        products = linear(self.weight, tokens).split([shape.numel() for shape in self.shapes])
        parts = zip(self.names, products, self.shapes, strict=True)
        maps = {name: product.unflatten(0, shape) for name, product, shape in parts}
        for projection in maps.keys() & self.unscaled:
            maps[projection] += projection.constant
        squares = {}
        for level in self.levels[1:]:
            tokens = _centred(tokens * level.below.weight)
            squares[level] = tokens.square().sum(dim=1)
        return SharedTokens(tokens, squares, maps)


@dataclass(frozen=True, eq=False)
class ImageTokens:
    """The image tokens of `B` prompts, see above.

    Rows of all prompts come before the image tokens in every map: so the rows of one head of all prompts are one
    matrix, and those of all heads of one prompt are too.

    Attributes:
        shared: of the image.
        level: as they come, or behind which layer.
        scale: (B, 4096).
        coefficients: (K, B, 4096), K = 8 * T times the layers so far.
        vectors: (K, B, 256).
        values: for each layer (8, T, B, dim + 1), of which the level's `outputs` make `vectors`.
    """

    shared: SharedTokens
    level: Level
    scale: Tensor
    coefficients: Tensor
    vectors: Tensor
    values: tuple[Tensor, ...]

    def __len__(self) -> int:
        """How many prompts."""
        return self.coefficients.shape[1]

    def of(self, i: int) -> "ImageTokens":
        """Return those of one prompt."""
        one = slice(i, i + 1)
        values = tuple(value[:, :, one] for value in self.values)
        return ImageTokens(
            self.shared, self.level, self.scale[one], self.coefficients[:, one], self.vectors[:, one], values
        )

    def scores(self, projection: Projection, queries: Tensor) -> Tensor:
        """Multiply queries (8, Q, B, dim) with projected image tokens: (8 * Q, B, 4096)."""
        scores = product_by_head(queries, self.shared.maps[projection])
        if not self.level.below:
            return scores
        folded = (queries.flatten(1, 2) @ projection.weight).view(len(scores), len(self), WIDTH)
        folded = torch.bmm(folded.transpose(0, 1), self.vectors.permute(1, 2, 0))
        scores.add_(product_by_prompt(folded, self.coefficients)).mul_(self.scale)
        return product_by_head(queries, projection.constant, scores, beta=1)

    def attended(self, projection: Projection, weights: Tensor) -> Tensor:
        """Take means of projected image tokens, with weights (8 * Q, B, 4096) that sum to 1: (8, Q, B, dim)."""
        maps = self.shared.maps[projection].transpose(1, 2)
        if not self.level.below:
            return torch.bmm(weights.view(len(maps), -1, maps.shape[1]), maps).unflatten(1, (-1, len(self)))
        weights = weights * self.scale
        means = torch.bmm(weights.view(len(maps), -1, maps.shape[1]), maps)
        means_of_coefficients = torch.bmm(weights.transpose(0, 1), self.coefficients.permute(1, 2, 0))
        mixed = torch.bmm(means_of_coefficients, self.vectors.transpose(0, 1)).transpose(0, 1)
        means.baddbmm_(mixed.reshape(len(maps), -1, WIDTH), projection.weight.transpose(1, 2))
        return means.unflatten(1, (-1, len(self))) + projection.constant.transpose(1, 2)[:, None]

    def after_layer(self, level: Level, scores: Tensor, values: Tensor) -> "ImageTokens":
        """Let image tokens take up what they see in a prompt's tokens, and normalise them.

        Args:
            level: of the layer.
            scores: (8 * T, B, 4096), how much an image token looks at each of the prompt's tokens, before a softmax.
            values: (8, T, B, dim), what it sees there.
        """
        values = (*self.values, nn.functional.pad(values, (0, 1), value=1.0))
        parts = list(zip(values, level.outputs, strict=True))
        vectors = torch.cat([(v.flatten(1, 2) @ output).view(len(scores), len(self), WIDTH) for v, output in parts])
        coefficients, products = scores.new_empty(2, len(vectors), *scores.shape[1:])
        known, rows = len(self.coefficients), len(scores)
        old, new = coefficients.split([known, rows])
        old.copy_(self.coefficients)
        by_token = new.view(*values[-1].shape[:2], -1)
        torch.softmax(scores.view_as(by_token), dim=1, out=by_token)
        if self.level.below:
            new.div_(self.scale)
        # |shared + V^T c|^2 = |shared|^2 + c . (2 V shared + V V^T c). V V^T is symmetric: blocks below its diagonal
        # are taken twice, those above it never.
        for part, (value, output) in zip(products.split(rows), parts, strict=True):
            product_by_head(2 * value, self.shared.maps[output], part)
        by_prompt = vectors.transpose(0, 1)
        gram = torch.bmm(by_prompt, by_prompt.mT)
        for start in range(0, len(vectors), rows):
            block = slice(start, start + rows)
            gram[:, start + rows :, block] *= 2
            products[start:].add_(product_by_prompt(gram[:, start:, block], coefficients[block]))
        squares = products.mul_(coefficients).sum(dim=0).add_(self.shared.squares[level])
        scale = self.scale * torch.rsqrt(squares.mul_(self.scale.square() / WIDTH).add_(level.eps))
        return ImageTokens(self.shared, level, scale, coefficients, vectors, values)

    def of_tile(self, tile: Tile) -> Tensor:
        """Return `n` of a tile, for one prompt: (rows * columns, 256)."""
        return self._combined(tile, self.shared.tokens, self.vectors[:, 0])

    def projected(self, weight: Tensor) -> Tensor:
        """Return (4096, N), all of `n` times a (N, 256) weight, for one prompt; the shared part once an image."""
        return self._combined(WHOLE_TILE, self.shared.product(weight), self.vectors[:, 0] @ weight.T)

    def _combined(self, tile: Tile, shared: Tensor, vectors: Tensor) -> Tensor:
        r0, c0, r1, c1 = tile
        coefficients, scale, shared = (
            x.unflatten(0, (GRID, GRID))[r0:r1, c0:c1].flatten(0, 1)
            for x in (self.coefficients[:, 0].T, self.scale[0, :, None], shared)
        )
        return torch.addmm(shared, coefficients, vectors).mul_(scale)


def as_they_come(shared: SharedTokens, level: Level, batch: int) -> ImageTokens:
    """Return the image tokens of `batch` prompts before the first layer, where all have the same."""
    new, count = shared.tokens.new_empty, GRID * GRID
    return ImageTokens(shared, level, new(1, count).fill_(1), new(0, batch, count), new(0, batch, WIDTH), ())


def by_head(x: Tensor, heads: int) -> Tensor:
    """(B, T, heads * dim) -> (heads, T, B, dim)."""
    return x.unflatten(-1, (heads, -1)).permute(2, 1, 0, 3).contiguous()


def product_by_head(rows: Tensor, maps: Tensor, out: Tensor | None = None, *, beta: float = 0) -> Tensor:
    """Multiply (8, T, B, dim) with (8, dim, 4096) that the prompts share: (8 * T, B, 4096), plus `beta * out`."""
    heads, count, batch, _ = rows.shape
    if out is None:
        out = rows.new_empty(heads * count, batch, maps.shape[-1])
    out.view(heads, count * batch, -1).baddbmm_(rows.flatten(1, 2), maps, beta=beta)
    return out


def product_by_prompt(matrices: Tensor, maps: Tensor) -> Tensor:
    """Multiply (B, M, K) with the (K, B, 4096) of each prompt: (M, B, 4096)."""
    return torch.bmm(matrices, maps.transpose(0, 1)).transpose(0, 1)


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)
