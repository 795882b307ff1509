"""Fit the heads that tell `mask_quality`; `fit_heads.py` calls this."""

from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional as F

from mobilesam import Prompt
from mobilesam.geometry import clip_region
from mobilesam.geometry.masks import interior_point
from mobilesam.heads.files import KINDS
from mobilesam.heads.quality_head import QualityHead
from mobilesam.heads.rater import Rater, kind_of
from mobilesam.quality.metrics import jittered, mask_iou, size_of

SEED, JITTER = 0, 0.1


class Recorder(Rater):
    """Keeps what the quality heads are fitted on instead of rating."""

    def __init__(self, heads, original_hw, quality):
        super().__init__(heads, original_hw, quality)
        self.rows = []

    def add(self, key, prompt, crop, logits, *, tokens, **known):
        """Note what a mask is told from, and the mask."""
        self.heads = replace(self.heads, quality=dict.fromkeys(KINDS))
        super().add(key, prompt, crop, logits, tokens=tokens, **known)
        kind = kind_of(prompt, self.quality)
        if kind:
            _, tokens, looks, tell = self._collected[kind].pop()
            signals = tell(looks.tolist())
            self.rows.append({"key": key, "kind": kind, "tokens": tokens.half(), "signals": signals, "crop": crop})

    def rated(self, masks):
        """Leave the masks as they are."""
        return masks


def record(predictor, image, cases, rng):
    """Predict as users do, fast and best, and return the masks with what is known of them and their true IoUs."""
    hw, rows, recorder = image.original_hw, [], None

    def begin(_, quality):
        nonlocal recorder
        recorder = Recorder(predictor.heads, hw, quality)
        return recorder

    predictor._rater = begin
    boxes = [prompt.box for _, _, prompt in cases]
    moved = [jittered(box, JITTER, rng, hw) for box in boxes]
    points = [some_points(true, rng) for _, true, _ in cases]
    calls = [
        ("box", boxes, "fast", False),
        ("jitter", moved, "fast", False),
        ("candidates", boxes, "fast", True),
        ("box", boxes, "best", False),
        ("jitter", moved, "best", False),
        ("points", None, "best", False),
    ]
    for name, given, quality, multimask in calls:
        prompts = [Prompt(box=box) for box in given] if given else [Prompt(point_coords=some) for some in points]
        regions = [clip_region(prompt.box, True, original_hw=hw) for prompt in prompts]
        predictor.predict_batch(prompts, image=image, regions=regions, multimask_output=multimask, quality=quality)
        for row in recorder.rows:
            annotation, true, _ = cases[row["key"][0]]
            iou = mask_iou(row.pop("crop").full(hw), true)
            size = size_of(annotation.get("area", true.sum()))
            rows.append({**row, "prompts": name, "iou": iou, "size": size, "object": annotation["id"]})
    return rows


def fit_quality_head(rows, *, epochs=25, batch=128, rate=2e-3, decay=0.05, seed=SEED):
    """Fit a quality head on masks whose true IoU is known."""
    torch.manual_seed(seed)
    head, columns, batch = QualityHead(), columns_of(rows), min(batch, len(rows))
    signals = columns[2]
    head.mean.copy_(signals.mean(0))
    head.scale.copy_(1 / (signals.std(0) + 1e-3))
    true = torch.tensor([row["iou"] for row in rows], dtype=torch.float32)
    optimizer = torch.optim.AdamW(head.parameters(), rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, epochs * (len(rows) // batch))
    for _ in range(epochs):
        for some in torch.randperm(len(rows)).split(batch)[: len(rows) // batch]:
            loss = F.smooth_l1_loss(head(*(column[some] for column in columns)), true[some], beta=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return head.eval()


def columns_of(rows):
    """Return what a quality head takes of rows."""
    tokens = torch.stack([row["tokens"] for row in rows]).float()
    return tokens[:, 0], tokens[:, 1], torch.tensor([row["signals"] for row in rows])


def some_points(true, rng):
    """Return 1 point on an object, the innermost or any, or 2 to 6."""
    kind = rng.integers(3)
    if kind == 0:
        return [interior_point(true)]
    ys, xs = np.nonzero(true)
    chosen = rng.integers(len(xs), size=1 if kind == 1 else rng.integers(2, 7))
    return np.stack([xs[chosen], ys[chosen]], axis=1) + 0.5
