"""The confidence of a mask whose prompt has none: a number of its own, and how that is told from a detector's."""

from collections.abc import Mapping
from typing import Any

AS_MADE = "mask_quality_as_made"  # before `fom.calibrate`
NUMBERS = ("predicted_iou", "mask_quality", AS_MADE)


def own_confidence(predicted_iou: float, mask_quality: float | None = None) -> float:
    """Return the confidence of a mask, 0 to 1: its quality where that is known, else its predicted IoU."""
    return min(1.0, max(0.0, float(predicted_iou if mask_quality is None else mask_quality)))


def is_own(label: Mapping[str, Any]) -> bool:
    """Whether the `confidence` in a label's values is its own mask's number. Then it says nothing of the prompt."""
    confidence, numbers = label.get("confidence"), [label.get(name) for name in NUMBERS]
    return isinstance(confidence, float) and confidence in [own_confidence(n) for n in numbers if n is not None]
