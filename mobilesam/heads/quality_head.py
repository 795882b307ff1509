"""How good a mask is: its expected IoU with a person's, told from the decoder's tokens and its own shape."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mobilesam.geometry import MaskCrop

WIDTH = 256
ANSWERS = 4
CUTS = (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0)
SAMPLES = 128  # logits that are looked at along each side of a region, at most
# In this order; what each is stands in `signals`.
SIGNALS = (
    *(f"predicted_iou_{index}" for index in range(ANSWERS)),
    *(f"is_answer_{index}" for index in range(ANSWERS)),
    *("stability_1", "stability_2", "stability_4", "fill"),
    *("gap_left", "gap_top", "gap_right", "gap_bottom", "gap_most"),
    *("log_width", "log_height", "log_aspect", "log_image", "depth_inside", "depth", "undecided", "agreement"),
)


class QualityHead(nn.Module):
    """The decoder's IoU token, the mask's token and `SIGNALS` -> expected IoU. Fitted by `scripts/fit_heads.py`."""

    def __init__(self, hidden: int = 64, dropout: float = 0.5):
        super().__init__()
        self.tokens = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(WIDTH), nn.Dropout(dropout), nn.Linear(WIDTH, hidden)) for _ in range(2)
        )
        self.register_buffer("mean", torch.zeros(len(SIGNALS)))
        self.register_buffer("scale", torch.ones(len(SIGNALS)))
        self.signals = nn.Linear(len(SIGNALS), hidden)
        self.out = nn.Sequential(
            nn.GELU(), nn.Dropout(dropout / 2), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, 1)
        )

    def forward(self, iou_token: Tensor, mask_token: Tensor, signals: Tensor) -> Tensor:
        """(N, 256), (N, 256) and (N, len(SIGNALS)) -> (N,) in [0, 1]."""
        standard = ((signals - self.mean) * self.scale).clamp(-4, 4)
        hidden = self.tokens[0](iou_token) + self.tokens[1](mask_token) + self.signals(standard)
        return self.out(hidden)[:, 0].sigmoid()


def looked_at(logits: Tensor) -> Tensor:
    """Return what `signals` takes of the logits (h, w) of a region, (10,) on their device, which is not waited for."""
    height, width = logits.shape
    some = logits[:: math.ceil(height / SAMPLES), :: math.ceil(width / SAMPLES)]
    above = torch.stack([(some > cut).sum() for cut in CUTS])
    depth = some.abs()
    return torch.cat([above, torch.stack([some.clamp(min=0).sum(), depth.mean(), (depth < 2).float().mean()])])


def signals(
    looks: Sequence[float],
    crop: MaskCrop,
    *,
    box: np.ndarray | None,
    original_hw: tuple[int, int],
    iou_predictions: list[float],
    answer: int,
    agreement: float = 1.0,
) -> list[float]:
    """Return what a mask's shape and logits say about it, in the order of `SIGNALS`.

    Args:
        looks: what `looked_at` says of the logits of the region, from which the mask was cut at 0.
        crop: the mask.
        box: (4,) xyxy of the prompt; None for the mask's own.
        original_hw: size of the image.
        iou_predictions: the decoder's, of its four answers.
        answer: which of them this mask is; the single one for that of `MaskHead`.
        agreement: IoU of what two views of the image say; 1 where there is one view.
    """
    *above, positive, depth, undecided = looks
    stable = [above[-1 - i] / max(1, above[i]) for i in (2, 1, 0)]
    inside = positive / max(1, above[3])
    x0, y0, x1, y1 = crop.region
    left, top, right, bottom = (x0, y0, x1, y1) if box is None else (float(edge) for edge in box)
    w, h = max(right - left, 1.0), max(bottom - top, 1.0)
    gaps = [(x0 - left) / w, (y0 - top) / h, (right - x1) / w, (bottom - y1) / h] if x1 else [1.0] * 4
    scale = 1024 / max(original_hw)
    return [
        *iou_predictions,
        *(float(index == answer) for index in range(ANSWERS)),
        *stable,
        crop.area / (w * h),
        *gaps,
        max(gaps),
        math.log(w * scale),
        math.log(h * scale),
        math.log(h / w),
        math.log(max(original_hw)),
        inside,
        depth,
        undecided,
        agreement,
    ]
