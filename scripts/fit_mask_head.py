"""Fit the mask head of `quality="best"`; `fit_heads.py` calls this."""

import copy

import numpy as np
import torch
from torch.nn import functional as F

from mobilesam.answers import ALL_ANSWERS
from mobilesam.geometry import clip_region
from mobilesam.geometry.masks import tile_for
from mobilesam.heads.mask_head import MaskHead
from mobilesam.prompts import chunks

SEED = 0
SAMPLES = 4000  # low-res pixels of a window that a step looks at


def windows(predictor, image, prompts, truths):
    """Return what each mask can be made of, and its truth: tokens, vectors, the upscaled image around its box."""
    fast, found = predictor.backend._fast_decoder(), [None] * len(prompts)
    side, matrices = fast.image_side(image.features), predictor._matrices(image)
    for chunk, _ in chunks(prompts, False, size=8):
        embeddings = predictor._embed([prompts[i] for i in chunk], image)
        attended = fast.attend(side, embeddings[0], answers=ALL_ANSWERS)
        for row, i in enumerate(chunk):
            around = clip_region(prompts[i].box, 0.25, original_hw=image.original_hw)
            r0, c0, r1, c1 = tile = tile_for(matrices, around)
            [upscaled] = fast.upscale([attended.image_tokens[row]], torch.eye(32)[None], [tile])
            share = predictor.transform.apply_mask(truths[i])[0, 4 * r0 : 4 * r1, 4 * c0 : 4 * c1] / 20 + 0.5
            box = prompts[i].box * 256 / max(image.original_hw)
            ys, xs = np.arange(4 * r0, 4 * r1) + 0.5, np.arange(4 * c0, 4 * c1) + 0.5
            inside = np.outer((ys > box[1] - 0.5) & (ys < box[3] + 0.5), (xs > box[0] - 0.5) & (xs < box[2] + 0.5))
            found[i] = {
                "tokens": attended.tokens[row],
                "vectors": attended.vectors[row],
                "upscaled": upscaled.flatten(1).half(),
                "truth": torch.from_numpy(share.astype(np.float16)).flatten(),
                "weight": torch.from_numpy(np.where(inside, 1, 0.1).astype(np.float16)).flatten(),
            }
    return found


def fit_mask_head(rows, *, epochs=8, batch=16, rate=4e-3, decay=0.1):
    """Fit a mask head on windows: cross-entropy and dice, most of all inside the box; the mean of the last steps."""
    torch.manual_seed(SEED)
    head, generator = MaskHead(), torch.Generator().manual_seed(SEED)
    mean, optimizer = copy.deepcopy(head), torch.optim.AdamW(head.parameters(), rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, epochs * (len(rows) // batch), pct_start=0.1)
    for _ in range(epochs):
        order = torch.randperm(len(rows), generator=generator)
        for start in range(0, len(rows) - batch + 1, batch):
            some = [rows[i] for i in order[start : start + batch]]
            made = zip(
                *head(*(torch.stack([row[name] for row in some]) for name in ("tokens", "vectors"))), strict=True
            )
            loss = sum(mask_loss(row, *one, generator) for row, one in zip(some, made, strict=True)) / batch
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                for average, value in zip(mean.parameters(), head.parameters(), strict=True):
                    average.lerp_(value, 0.01)
    return mean.eval()


def mask_loss(row, vector, bias, generator):
    """Return the loss of one mask vector in its window."""
    upscaled, truth, weight = (row[name] for name in ("upscaled", "truth", "weight"))
    if len(truth) > SAMPLES:
        some = torch.randint(len(truth), (SAMPLES,), generator=generator)
        upscaled, truth, weight = upscaled[:, some], truth[some], weight[some]
    truth, weight, logits = truth.float(), weight.float(), vector @ upscaled.float() + bias
    share = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, truth, weight, reduction="sum") / weight.sum()
    both = (share * truth * weight).sum()
    return entropy + 1 - (2 * both + 1) / ((share * weight).sum() + (truth * weight).sum() + 1)
