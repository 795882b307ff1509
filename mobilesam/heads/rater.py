"""Rates the masks of one call together: `mask_quality` of each."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from mobilesam.geometry import MaskCrop
from mobilesam.heads.files import Heads
from mobilesam.heads.quality_head import looked_at, signals
from mobilesam.prompts import Prompt


def kind_of(prompt: Prompt, quality: str) -> str | None:
    """Return which fit knows the masks of a prompt: one of `KINDS`, or None for none."""
    if prompt.mask_input is not None:
        return None
    if prompt.box is not None:
        return f"box {quality}"
    return "points" if (prompt.point_labels == 1).any() else None


class Rater:
    """Collects what is known of each mask while its logits are there, and rates all at the end.

    A mask is known by the index of its prompt and its own among the prompt's.
    """

    def __init__(self, heads: Heads, original_hw: tuple[int, int], quality: str = "fast"):
        self.heads, self.original_hw, self.quality = heads, original_hw, quality
        self._collected: dict[str, list[tuple[tuple[int, int], Tensor, Tensor, Callable]]] = defaultdict(list)

    def add(
        self,
        key: tuple[int, int],
        prompt: Prompt,
        crop: MaskCrop,
        logits: Tensor,
        *,
        tokens: Tensor,
        iou_predictions: Sequence[float],
        answer: int,
        agreement: float = 1.0,
    ) -> None:
        """Note a mask: its (h, w) logits, the (2, 256) tokens of the IoUs and of the answer it is."""
        kind = kind_of(prompt, self.quality)
        if kind not in self.heads.quality:
            return
        tell = partial(
            signals,
            crop=crop,
            box=prompt.box,
            original_hw=self.original_hw,
            iou_predictions=list(iou_predictions),
            answer=answer,
            agreement=agreement,
        )
        self._collected[kind].append((key, tokens, looked_at(logits), tell))

    @torch.no_grad()
    def rated(self, masks: Sequence[Sequence[MaskCrop]]) -> list[list[MaskCrop]]:
        """Return the masks of each prompt with their quality: 0 for an empty one, None for one of no known kind."""
        ratings: dict[tuple[int, int], float] = {}
        for kind, collected in self._collected.items():
            keys, tokens, looks, tell = zip(*collected, strict=True)
            shapes = [of_mask(looks) for of_mask, looks in zip(tell, torch.stack(looks).tolist(), strict=True)]
            iou, mask = torch.stack(tokens).float().unbind(dim=1)
            found = self.heads.quality[kind](iou, mask, torch.tensor(shapes, device=iou.device))
            ratings |= dict(zip(keys, found.tolist(), strict=True))
        return [
            [
                replace(crop, mask_quality=0.0 if (i, j) in ratings and not crop.mask.any() else ratings.get((i, j)))
                for j, crop in enumerate(crops)
            ]
            for i, crops in enumerate(masks)
        ]
