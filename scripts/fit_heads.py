"""Fit everything that ships beside MobileSAM's own weights, and measure it: one command, about 25 minutes on 2 cores.

    python scripts/fit_heads.py ../shared/data/coco_union

The folder holds `instances.json` and `images/`. It writes `mobilesam/assets/heads.safetensors` (the mask head of
`quality="best"`, and a quality head for each kind of prompt) and `benchmarks/results/heads.json` (figures by
cross-validation: each image is judged by heads that were fitted on other images). `tests/data/quality.csv` gets the
quality and the true IoU of each mask, which the tests of acceptance draw from.
"""

import argparse
import copy
import csv
import json
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from make_weights import sorted_header
from safetensors.torch import save
from torch.nn import functional as F

from mobilesam import EmbeddingCache, Prompt, SamPredictor, load_model
from mobilesam.answers import ALL_ANSWERS
from mobilesam.geometry import clip_region
from mobilesam.geometry.crops import plan_crops
from mobilesam.geometry.masks import interior_point, tile_for
from mobilesam.heads.files import KINDS, Heads, tensors_of, weights_of_tokens
from mobilesam.heads.mask_head import MaskHead
from mobilesam.heads.quality_head import SIGNALS, QualityHead
from mobilesam.heads.rater import Rater, kind_of
from mobilesam.images import read_image
from mobilesam.prompts import chunks
from mobilesam.quality.metrics import calibration, jittered, mask_iou, share_of_gain, size_of
from mobilesam.quality.validation import _load, _with_objects
from mobilesam.weights import HEADS

ROOT = Path(__file__).resolve().parents[1]
FOLDS, SEED, JITTER = 5, 0, 0.1
SAMPLES = 4000  # low-res pixels of a window that a step looks at


class Recorder(Rater):
    """Keeps what the quality heads are fitted on instead of rating."""

    def __init__(self, heads, original_hw, quality):
        super().__init__(heads, original_hw, quality)
        self.rows = []

    def add(self, key, prompt, crop, logits, region, *, tokens, **known):
        """Note what a mask is told from, and the mask."""
        self.heads = replace(self.heads, quality=dict.fromkeys(KINDS))
        super().add(key, prompt, crop, logits, region, tokens=tokens, **known)
        kind = kind_of(prompt, self.quality)
        if kind:
            _, tokens, signals = self._collected[kind].pop()
            self.rows.append({"key": key, "kind": kind, "tokens": tokens.half(), "signals": signals, "crop": crop})

    def rated(self, masks):
        """Leave the masks as they are."""
        return masks


# ---- the mask head -----------------------------------------------------------------------------------------------


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


# ---- the quality heads -------------------------------------------------------------------------------------------


def record(predictor, image, cases, rng):
    """Predict as users do, fast and best, and return the masks with what is known of them and their true IoUs."""
    hw, rows, recorder = image.original_hw, [], None

    def begin(_, quality):
        nonlocal recorder
        recorder = Recorder(predictor.heads, hw, quality)
        return recorder

    predictor._rater = begin
    boxes = [annotation_box(annotation) for annotation, _ in cases]
    moved = [jittered(box, JITTER, rng, hw) for box in boxes]
    points = [some_points(true, rng) for _, true in cases]
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
            annotation, true = cases[row["key"][0]]
            iou = mask_iou(row.pop("crop").full(hw), true)
            size = size_of(annotation.get("area", true.sum()))
            rows.append({**row, "prompts": name, "iou": iou, "size": size, "object": annotation["id"]})
    return rows


def fit_quality_head(rows, *, epochs=25, batch=128, rate=2e-3, decay=0.05, seed=SEED):
    """Fit a quality head on masks whose true IoU is known."""
    torch.manual_seed(seed)
    head, columns = QualityHead(), columns_of(rows)
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


def annotation_box(annotation):
    """Return the box (4,) xyxy of an annotation."""
    x, y, width, height = annotation["bbox"]
    return np.array([x, y, x + width, y + height], dtype=float)


# ---- all of it ---------------------------------------------------------------------------------------------------


def images_of(folder, limit):
    """Yield the index of an image, its pixels, and its annotations with their masks."""
    truth = _load(folder / "instances.json")
    for number, (entry, annotations) in enumerate(_with_objects(truth, limit)):
        pixels = read_image(folder / "images" / entry["file_name"])
        cases = [(a, truth.annToMask(a).astype(bool)) for a in annotations if min(a["bbox"][2:]) > 0]
        cases = [(a, true) for a, true in cases if true.any() and true.shape == pixels.shape[:2]]
        if cases:
            yield number, pixels, cases


def all_windows(predictor, pixels, cases, rng):
    """Return the windows of an image: true boxes, moved ones, some with a point, and those in crops."""
    [image] = predictor.encode_images([pixels])
    hw, truths = image.original_hw, [true for _, true in cases]
    boxes = [annotation_box(annotation) for annotation, _ in cases]
    moved = [Prompt(box=jittered(box, JITTER, rng, hw)) for box in boxes]
    moved = [
        replace(prompt, point_coords=some_points(true, rng)[:1]) if rng.random() < 0.2 else prompt
        for prompt, true in zip(moved, truths, strict=True)
    ]
    found = windows(predictor, image, [Prompt(box=box) for box in boxes] + moved, truths + truths)
    for (x0, y0, x1, y1), inside in plan_crops(boxes, hw):
        [view] = predictor.encode_images([np.ascontiguousarray(pixels[y0:y1, x0:x1])])
        prompts = [Prompt(box=boxes[i] - np.tile([x0, y0], 2)) for i in inside]
        found += windows(predictor, view, prompts, [truths[i][y0:y1, x0:x1] for i in inside])
    return found


def figures_of(rows):
    """Return, by kind of prompts and quality, mean IoUs by size and how well the quality tells the true IoU."""
    groups, table = defaultdict(list), {}
    for row in rows:
        groups[f"{row['prompts']}, {row['kind'].split()[-1]}"].append(row)
    for name, some in groups.items():
        true, told = (np.array([row[column] for row in some]) for column in ("iou", "mask_quality"))
        predicted = np.array([row["signals"][answer_of(row)] for row in some])
        found, before = calibration(told, true), calibration(predicted, true)
        table[name] = {
            "masks": len(some),
            "mean_iou": float(true.mean()),
            "by_size": {
                s: float(np.mean([r["iou"] for r in some if r["size"] == s])) for s in ("small", "medium", "large")
            },
            "mask_quality": {
                "spearman": found["spearman"],
                "expected_calibration_error": found["expected_calibration_error"],
                "share_of_gain": share_of_gain(told, true),
            },
            "predicted_iou": {
                "spearman": before["spearman"],
                "expected_calibration_error": before["expected_calibration_error"],
                "share_of_gain": share_of_gain(predicted, true),
            },
        }
    by_object = defaultdict(list)
    for row in groups["points, points"]:
        by_object[row["image"], row["object"]].append(row)
    usual = [
        max(four[1:], key=lambda r: r["signals"][SIGNALS.index("predicted_iou_0") + answer_of(r)])
        for four in by_object.values()
    ]
    chosen = [max(four, key=lambda row: row["mask_quality"]) for four in by_object.values()]
    table["points, chosen by predicted IoU of three"] = {"mean_iou": float(np.mean([row["iou"] for row in usual]))}
    table["points, chosen by quality of four"] = {"mean_iou": float(np.mean([row["iou"] for row in chosen]))}
    return table


def answer_of(row):
    """Return which of the decoder's answers a mask is."""
    return row["signals"][4:8].index(1.0)


def main():
    """Fit, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, help="use so many images, to try it")
    parser.add_argument("--output", type=Path, default=HEADS)
    parser.add_argument("--precision", default="auto")
    args, start = parser.parse_args(), time.time()

    def say(text):
        print(f"{time.time() - start:6.0f} s  {text}", flush=True)

    sam = load_model()
    with tempfile.TemporaryDirectory() as cache:
        predictor = SamPredictor(sam, fast=True, precision=args.precision, cache=EmbeddingCache(cache))
        rng, by_image = np.random.default_rng(SEED), {}
        for number, pixels, cases in images_of(args.folder, args.limit):
            by_image[number] = all_windows(predictor, pixels, cases, rng)
        order = np.random.default_rng(SEED).permutation(sorted(by_image))
        fold_of = {int(number): i % FOLDS for i, number in enumerate(order)}
        say(f"{sum(map(len, by_image.values()))} windows of {len(by_image)} images")
        heads = []
        for fold in (*range(FOLDS), None):
            heads.append(fit_mask_head([w for n, some in by_image.items() if fold_of[n] != fold for w in some]))
            say(f"mask head {'of all' if fold is None else fold}")
        del by_image
        rng, rows = np.random.default_rng(SEED), []
        for number, pixels, cases in images_of(args.folder, args.limit):
            [image] = predictor.encode_images([pixels])
            _ = predictor.heads  # notes the weights they are for
            predictor._heads = predictor._heads[0], Heads(heads[fold_of[number]], dict.fromkeys(KINDS))
            rows += [{**row, "image": number} for row in record(predictor, image, cases, rng)]
    say(f"{len(rows)} masks to tell the quality of")
    quality = {}
    for kind in KINDS:
        some = [row for row in rows if row["kind"] == kind]
        for fold in range(FOLDS):
            judged = [row for row in some if fold_of[row["image"]] == fold]
            head = fit_quality_head([row for row in some if fold_of[row["image"]] != fold])
            with torch.no_grad():
                for row, value in zip(judged, head(*columns_of(judged)).tolist(), strict=True):
                    row["mask_quality"] = value
        quality[kind] = fit_quality_head(some)
        say(f"quality of {kind}")
    figures = figures_of(rows)
    print(json.dumps(figures, indent=1))
    if args.limit:
        return
    (ROOT / "benchmarks" / "results" / "heads.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    (ROOT / "tests" / "data").mkdir(exist_ok=True)
    with open(ROOT / "tests" / "data" / "quality.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "object", "mask_quality", "iou"])
        wanted = [r for r in rows if r["kind"] == "box fast" and r["prompts"] == "box"]
        writer.writerows([r["image"], r["object"], f"{r['mask_quality']:.4f}", f"{r['iou']:.4f}"] for r in wanted)
    metadata = {
        "weights": weights_of_tokens(sam),
        "data": f"{args.folder.name}, {len(fold_of)} images, seed {SEED}",
        "script": "scripts/fit_heads.py",
        "format": "pt",
    }
    args.output.write_bytes(sorted_header(save(tensors_of(Heads(heads[-1], quality)), metadata)))
    say(f"wrote {args.output}")


if __name__ == "__main__":
    main()
