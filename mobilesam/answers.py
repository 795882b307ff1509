"""What the mask decoder answers: four masks a prompt, the first for a clear one, three for one that is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mobilesam.geometry.masks import Tile

if TYPE_CHECKING:  # arrays do as well, and then torch is not needed
    import numpy as np
    from torch import Tensor

    Values = Tensor | np.ndarray

SINGLE_ANSWER, CANDIDATES, ALL_ANSWERS = range(1), range(1, 4), range(4)


@dataclass(frozen=True, eq=False)
class Decoded:
    """What the decoder says of `B` prompts."""

    tiles: Sequence[Tile]  # that were decoded, one a prompt
    logits: Sequence[Values]  # (C, h, w) of each: of the answers that were wanted, or the one of a `MaskHead`
    iou_predictions: Values  # (B, 4), of all answers
    tokens: Tensor | None = None  # (B, 1 + C, 256), of the IoUs and of the answers; with a `MaskHead` of all four
