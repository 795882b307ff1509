"""A fifth answer of the mask decoder, for prompts with a box: what `quality="best"` upscales."""

import torch
from torch import Tensor, nn

TOKENS = 5  # of the IoU, of the single answer and of the three candidates
WIDTH = 256


class MaskHead(nn.Module):
    """Tokens of all answers -> one mask vector and its bias.

    A mask of the decoder is the product of its vector with the upscaled image tokens. This learns another vector from
    what all of the decoder's answers know, as a correction to a mixture of theirs. The image's side stays as it is, so
    it costs nothing beside the decoder. Fitted by `scripts/fit_heads.py`.
    """

    def __init__(self, hidden: int = 256, dropout: float = 0.4):
        super().__init__()
        self.correction = nn.Sequential(
            nn.LayerNorm(TOKENS * WIDTH),
            nn.Dropout(dropout),
            nn.Linear(TOKENS * WIDTH, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, WIDTH // 8 + 1),
        )
        nn.init.zeros_(self.correction[-1].weight)
        nn.init.zeros_(self.correction[-1].bias)
        self.mixture = nn.Parameter(torch.tensor([1.0, 0.0, 0.0, 0.0]))  # the single answer, until it is fitted

    def forward(self, tokens: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 5, 256) tokens and (B, 4, 32) mask vectors of the decoder -> (B, 32) and (B,), in float32."""
        correction = self.correction(tokens.flatten(1))
        return (self.mixture[:, None] * vectors).sum(dim=1) + correction[:, :-1], correction[:, -1]
