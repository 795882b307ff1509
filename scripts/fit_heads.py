"""Fit everything that ships beside MobileSAM's own weights, and measure it: one command, 40 minutes on 2 busy cores.

    python scripts/fit_heads.py ../shared/data/coco_union

The folder holds `instances.json` and `images/`. It writes `mobilesam/assets/heads.safetensors` (the mask head of
`quality="best"`, and a quality head for each kind of prompt) and `benchmarks/results/heads.json` (figures by
cross-validation: each image is judged by heads that were fitted on other images). `tests/data/quality.csv` gets the
quality and the true IoU of each mask, which the tests of acceptance draw from.
"""

import argparse
import csv
import json
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from fit_mask_head import SEED, fit_mask_head, windows
from fit_quality_head import JITTER, columns_of, fit_quality_head, record, some_points
from make_weights import sorted_header
from safetensors.torch import save

from mobilesam import EmbeddingCache, Prompt, SamPredictor, load_model
from mobilesam.geometry.crops import plan_crops
from mobilesam.heads.files import KINDS, Heads, tensors_of, weights_of_tokens
from mobilesam.heads.quality_head import SIGNALS
from mobilesam.images import read_image
from mobilesam.quality.metrics import calibration, jittered, share_of_gain
from mobilesam.quality.validation import load_truth, usable_cases, with_objects
from mobilesam.weights import HEADS

ROOT = Path(__file__).resolve().parents[1]
FOLDS = 5


def images_of(folder, limit):
    """Yield the index of an image, its pixels, and its annotations with their masks and boxes."""
    truth = load_truth(folder / "instances.json")
    for number, (entry, annotations) in enumerate(with_objects(truth, limit)):
        pixels = read_image(folder / "images" / entry["file_name"])
        cases, _ = usable_cases(truth, annotations, pixels.shape[:2])
        if cases:
            yield number, pixels, cases


def all_windows(predictor, pixels, cases, rng):
    """Return the windows of an image: true boxes, moved ones, some with a point, and those in crops."""
    [image] = predictor.encode_images([pixels])
    hw, truths = image.original_hw, [true for _, true, _ in cases]
    boxes = [prompt.box for _, _, prompt in cases]
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
