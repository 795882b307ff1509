"""TinyViT's attention within windows on a CPU, without padding: the twin of timm's `Attention` and what surrounds it.

A map of 64 x 64 tokens is no multiple of windows of 14 x 14, so timm pads it with zeros, which tokens at the edge
attend to: 4900 tokens instead of 4096, and a third more scores. But all padding is the same token. It has one key and
one value, and a token that sees n of it sees one whose bias is the logarithm of the sum of their n exponentials. So a
window at the edge has the tokens that are there, and one more to look at.
"""

from collections.abc import Iterator

import torch
from timm.models.tiny_vit import Attention
from torch import Tensor
from torch.nn import functional as F

from mobilesam.fast.products import packed_linear

# Attention scores at once, 4 MiB of them in float32. Half and double take the same time, all of them 40% more.
MAX_SCORES = 2**20


class WindowAttention:
    """What an attention with its norm adds to a map, in windows of `side` x `side` tokens.

    `dtype` is that of products. Scores are float32 whatever that is: in bfloat16 they have two or three digits.
    """

    def __init__(self, module: Attention, side: int, dtype: torch.dtype):
        self.norm, self.side, self.heads, self.dim = module.norm, side, module.num_heads, module.key_dim
        weight, bias = module.qkv.weight.detach().clone(), module.qkv.bias.detach().clone()
        for parameter in (weight, bias):  # queries come scaled
            parameter.unflatten(0, (self.heads, 3, -1))[:, 0] *= module.scale
        self.project_in = packed_linear(weight, bias, dtype)
        self.project_out = packed_linear(module.proj.weight, module.proj.bias, dtype)
        self.bias = module.attention_biases[:, module.attention_bias_idxs].detach()  # (heads, side**2, side**2)
        # What is projected of the norm of zeros, query, key and value: (3, heads, dim).
        padding = F.linear(self.norm.bias, weight, bias).unflatten(0, (self.heads, 3, -1)).transpose(0, 1)
        self.padding = padding.detach().to(dtype)
        self._biases: dict[tuple[int, int], Tensor] = {}

    def add_to(self, rows: Tensor) -> None:
        """Add to a map (H, W, C), in place, some rows of windows at a time."""
        for strip in self._strips(rows):
            strip += self.project_out(self._attend_strip(self.project_in(self.norm(strip))))

    def _strips(self, rows: Tensor) -> Iterator[Tensor]:
        """Rows of whole windows, as many as `MAX_SCORES` allows, and then what is left below them."""
        windows = max(1, MAX_SCORES // self.bias.numel())
        whole = len(rows) // self.side * self.side
        yield from rows[:whole].split(self.side * max(1, windows // (rows.shape[1] // self.side or 1)))
        if whole < len(rows):
            yield rows[whole:]

    def _attend_strip(self, projected: Tensor) -> Tensor:
        """Attend in a strip (R, W, heads * 3 * dim) of whole windows, or of less than one in height: (R, W, C)."""
        rows, width, _ = projected.shape
        out = projected.new_empty(rows, width, self.heads * self.dim)
        height, whole = min(rows, self.side), width // self.side * self.side
        if whole:
            self._attend(projected[:, :whole], height, self.side, out[:, :whole])
        if whole < width:
            self._attend(projected[:, whole:], height, width - whole, out[:, whole:])
        return out

    def _attend(self, projected: Tensor, height: int, width: int, out: Tensor) -> None:
        """Attend in windows of `height` x `width` tokens, which a part of a strip is made of."""
        grid = len(projected) // height, projected.shape[1] // width
        bias = self._bias(height, width)
        seen, tokens = bias.shape[1:]
        projected = projected.unflatten(1, (grid[1], width)).unflatten(0, (grid[0], height))
        projected = projected.unflatten(-1, (self.heads, 3, self.dim)).permute(5, 0, 2, 4, 1, 3, 6)
        qkv = projected.new_empty(3, *grid, self.heads, seen, self.dim)
        qkv[..., :tokens, :].unflatten(-2, (height, width)).copy_(projected)
        if seen > tokens:
            qkv[..., tokens, :] = self.padding[:, None, None]
        query, key, value = qkv.flatten(1, 3)
        # Keys are rows: a softmax over 49 rows takes half the time of one over 49 columns.
        scores = torch.bmm(key, query[:, :tokens].mT).view(-1, *bias.shape).float().add_(bias)
        weights = torch.softmax(scores, dim=-2, out=scores).to(value.dtype).flatten(0, 1)
        found = torch.bmm(weights.mT, value).view(*grid, self.heads, height, width, self.dim)
        out = out.unflatten(1, (grid[1], width)).unflatten(0, (grid[0], height)).unflatten(-1, (self.heads, -1))
        out.copy_(found.permute(0, 3, 1, 4, 2, 5))

    def _bias(self, height: int, width: int) -> Tensor:
        """Return the biases of a window of which `T` tokens are in the map: (heads, T, T) or (heads, T + 1, T)."""
        if (height, width) not in self._biases:
            inside = torch.zeros(self.side, self.side, dtype=torch.bool)
            inside[:height, :width] = True
            inside = inside.flatten()
            own = self.bias[:, inside]
            parts = [own[..., inside]]
            if not inside.all():
                parts.append(own[..., ~inside].logsumexp(dim=-1, keepdim=True))
            self._biases[height, width] = torch.cat(parts, dim=-1).mT.contiguous()
        return self._biases[height, width]
