"""How wrong the decoder is on objects of one image: of masks in a window around each, and of its scores."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mobilesam.geometry.boxes import grow_box
from mobilesam.geometry.masks import Tile, interior_point
from mobilesam.predictor import SamPredictor
from mobilesam.prompts import Prompt, chunks
from mobilesam.quality.metrics import jittered
from mobilesam.training.decoder import GRID, decode
from mobilesam.training.examples import Example, TrueMask

JITTER = 0.1  # of a box's sides: as far as the edges of a detector's boxes are off
OUTSIDE = 0.1  # weight of pixels outside the box, which are cut off where boxes are prompts
OTHER_ANSWERS = 0.2  # weight of the best of the three answers that a point can get
SCORE = 1.0  # weight of the error of the predicted IoU
SMOOTH = 1.0  # low-res pixels: an object of one or two does not rule a batch


def prompt_for(truth: TrueMask, kind: str, original_hw: tuple[int, int], rng: np.random.Generator) -> Prompt:
    """Return a prompt that an object might have had.

    `kind` is "given" for what it was prompted with, "box" for the box of that or of its mask, "point" for a click in
    its mask. Edges of boxes are moved by up to `JITTER`, as a detector's are.
    """
    if kind == "point":
        return Prompt(point_coords=np.array([_click(truth, rng)]))
    own = truth.prompt
    box = truth.box if own.box is None or (kind == "box" and rng.random() < 0.5) else own.box
    box = jittered(box, JITTER * rng.random(), rng, original_hw)
    if kind == "box" or own.point_coords is None:
        return Prompt(box=box)
    return Prompt(box=None if own.box is None else box, point_coords=own.point_coords, point_labels=own.point_labels)


def _click(truth: TrueMask, rng: np.random.Generator) -> tuple[float, float]:
    """Return the pixel of a mask that is farthest inside, or any: people click in the middle, more or less."""
    x0, y0, _, _ = truth.mask.region
    if rng.random() < 0.5:
        x, y = interior_point(truth.mask.mask)
    else:
        ys, xs = np.nonzero(truth.mask.mask)
        chosen = rng.integers(len(ys))
        x, y = xs[chosen] + 0.5, ys[chosen] + 0.5
    return x0 + x, y0 + y


def loss_of(
    predictor: SamPredictor, example: Example, objects: Sequence[TrueMask], prompts: Sequence[Prompt]
) -> Tensor:
    """Return the sum of the losses of some objects of an image, for the gradients of the decoder."""
    total, embedding = torch.zeros((), device=predictor.device), example.full_precision
    for chunk, _ in chunks(prompts, False, size=len(prompts)):
        with torch.no_grad():
            sparse, _ = predictor._embed([prompts[i] for i in chunk], embedding)
        windows = [_window(objects[i], prompts[i], embedding.original_hw) for i in chunk]
        logits, iou_predictions = decode(predictor.model, embedding.features, sparse, [tile for tile, _, _ in windows])
        for one, (_, target, weight), scores in zip(logits, windows, iou_predictions, strict=True):
            total = total + mask_loss(one, target.to(one.device), weight.to(one.device), scores)
    return total


def mask_loss(logits: Tensor, target: Tensor, weight: Tensor, iou_predictions: Tensor) -> Tensor:
    """Return the loss of the four answers (4, h, w) to one prompt, with a weight (h, w) and true shares (h, w).

    Cross-entropy and the soft IoU, which is what masks are judged by, of the single answer and of the best of the
    other three; and the error of the predicted IoU (4,) of these two.
    """
    wrong = F.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none")
    share = logits.sigmoid()
    both = (share * target * weight).sum((1, 2))
    either = ((share + target - share * target) * weight).sum((1, 2))
    loss = (wrong * weight).sum((1, 2)) / weight.sum() + 1 - (both + SMOOTH) / (either + SMOOTH)
    best = 1 + int(loss[1:].argmin())
    with torch.no_grad():
        mask, true, counts = logits > 0, target > 0.5, weight == 1
        union = ((mask | true) & counts).sum((1, 2))
        true_iou = ((mask & true & counts).sum((1, 2)) / union.clip(min=1))[[0, best]]
    return loss[0] + OTHER_ANSWERS * loss[best] + SCORE * (iou_predictions[[0, best]] - true_iou).square().sum()


def _window(truth: TrueMask, prompt: Prompt, original_hw: tuple[int, int]) -> tuple[Tile, Tensor, Tensor]:
    """Return where a loss looks, and there the true share (h, w) and the weight (h, w) of each low-res pixel."""
    r0, c0, r1, c1 = truth.tile
    target = torch.from_numpy(truth.target).float() / 255
    if prompt.box is None:  # nothing cuts the mask off: look as far again around it
        (r0, c0, r1, c1), before = _grown(truth.tile), truth.tile
        target = F.pad(target, [4 * x for x in (before[1] - c0, c1 - before[3], before[0] - r0, r1 - before[2])])
        return (r0, c0, r1, c1), target, torch.ones_like(target)
    x0, y0, x1, y1 = truth.box * (4 * GRID / max(original_hw))
    ys, xs = torch.arange(4 * r0, 4 * r1) + 0.5, torch.arange(4 * c0, 4 * c1) + 0.5
    inside = ((ys > y0 - 0.5) & (ys < y1 + 0.5))[:, None] & ((xs > x0 - 0.5) & (xs < x1 + 0.5))[None]
    return truth.tile, target, torch.where(inside, 1.0, OUTSIDE)


def _grown(tile: Tile) -> Tile:
    y0, x0, y1, x1 = np.clip(grow_box(np.array(tile, dtype=float), 1.0), 0, GRID).astype(int).tolist()
    return y0, x0, y1, x1
