"""What a training writes, without the minutes that it takes: a model card, and weights that changed a little."""

from copy import deepcopy
from pathlib import Path

import torch

from mobilesam.modeling import Sam
from mobilesam.training.quality import lend_heads
from mobilesam.weights import save_checkpoint

FIGURES = {"masks": 10, "mean_iou_before": 0.5, "mean_iou_after": 0.6, "gain": 0.1, "standard_error": None}
CARD = {
    "data": {"images": 2, "masks": 10, "sha256": "0" * 64, "left_out": 0},
    "started_from": {"weights": "mobile_sam.pt", "sha256": "0" * 64},
    "settings": {"recipe": {"passes": 1}, "parts": 2, "share": 1.0},
    "images_left_out": {**FIGURES, "spearman_before": None, "spearman_after": None},
    "photographs": None,
    "made_with": "mobilesam",
    "kept": "new weights",
    "reason": "",
}


def nudged(sam: Sam, by: float = 1.001) -> Sam:
    """Return a model whose decoder is a little another one's; it has the quality heads of the model it began with."""
    new = deepcopy(sam)
    with torch.no_grad():
        new.mask_decoder.iou_token.weight.mul_(by)
    return lend_heads(sam, new)


def write_trained(sam: Sam, path: str | Path, by: float = 1.001) -> Path:
    """Write the checkpoint of a nudged model."""
    save_checkpoint(nudged(sam, by).state_dict(), path, CARD)
    return Path(path)
