"""Masks of `quality="fast"` and `"best"` beside true ones, on folders of COCO data, and what they cost.

    python benchmarks/quality.py ../shared/data/dsb2018_nuclei ../shared/data/neu_seg --limit 50 --json out.json

A folder holds `instances.json` and `images/`. "exclusive" are the masks of true boxes without overlap; `--exclusive`
makes these alone. "apart" are those of objects that share less than half of their true mask with other true masks: COCO
has things that are annotated twice, of which only one mask can have the pixels. Seconds are those of one pass over the
images, with reading them and comparing the masks.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from mobilesam import SamPredictor, load_model
from mobilesam.geometry import clip_region
from mobilesam.geometry.overlap import exclusive
from mobilesam.images import read_image
from mobilesam.quality.metrics import calibration, mask_iou
from mobilesam.quality.validation import load_truth, usable_cases, validate, with_objects

ROWS = (("box", 0), ("jitter", 0.05), ("jitter", 0.1), ("point", 0))


def compare(predictor: SamPredictor, folder: Path, limit: int | None, rows: tuple = ROWS) -> dict:
    """Return the figures of a folder."""
    images = folder / "images" if (folder / "images").is_dir() else folder
    found = {}
    for prompts, jitter in rows:
        for quality in ("fast", "best"):
            start = time.perf_counter()
            run = validate(
                predictor,
                folder / "instances.json",
                images,
                prompts=prompts,
                jitter=jitter,
                quality=quality,
                limit=limit,
            )
            told = run.calibration("mask_quality")
            figures = {size: run.mean(size=size) for size in ("small", "medium", "large")}
            figures = {
                "objects": len(run.rows),
                "mean_iou": run.mean(),
                "boundary_iou": run.mean("boundary_iou"),
                **figures,
            }
            known = told["count"] == len(run.rows)
            figures |= {name: told[name] if known else None for name in ("share_of_gain", "spearman")}
            figures["mean_quality"] = run.mean("mask_quality") if known else None
            figures["seconds"] = time.perf_counter() - start
            found[f"{prompts} {jitter:.0%}, {quality}" if jitter else f"{prompts}, {quality}"] = figures
            print(f"{folder.name:16s} {prompts:7s}{jitter:4.0%} {quality:5s}", _line(figures), flush=True)
    found["exclusive, fast"] = _exclusive(predictor, folder, images, limit)
    print(f"{folder.name:16s} exclusive", found["exclusive, fast"], flush=True)
    return found


def _exclusive(predictor: SamPredictor, folder: Path, images: Path, limit: int | None) -> dict:
    """Compare masks that may overlap with masks that do not."""
    truth, rows = load_truth(folder / "instances.json"), []
    for entry, annotations in with_objects(truth, limit):
        pixels = read_image(images / entry["file_name"])
        hw = pixels.shape[:2]
        cases, _ = usable_cases(truth, annotations, hw)
        prompts = [prompt for _, _, prompt in cases]
        predictor.set_image(pixels)
        regions = [clip_region(prompt.box, True, original_hw=hw) for prompt in prompts]
        crops = [crop for [crop] in predictor.predict_batch(prompts, regions=regions, return_logits=True)]
        trues = sum((true.astype(np.int16) for _, true, _ in cases), np.zeros(hw, np.int16))
        for crop, alone, (_, true, _) in zip(crops, exclusive(crops, hw), cases, strict=True):
            quality = np.nan if alone.mask_quality is None else alone.mask_quality
            emptied = bool(crop.area and not alone.area)
            ious = mask_iou(crop.full(hw), true), mask_iou(alone.full(hw), true)
            rows.append((*ious, quality, alone.pixels_moved, emptied, (trues[true] > 1).mean()))
    before, after, quality, moved, emptied, shared = np.array(rows, dtype=float).T
    apart, rated = shared < 0.5, (moved > 0) & ~np.isnan(quality)
    return {
        "objects": len(rows),
        "mean_iou": float(after.mean()),
        "keep": float(before.mean()),
        "apart": int(apart.sum()),
        "apart_mean_iou": float(after[apart].mean()),
        "apart_keep": float(before[apart].mean()),
        "emptied": int(emptied.sum()),
        "moved": int((moved > 0).sum()),
        "moved_quality_error": calibration(quality[rated], after[rated])["expected_calibration_error"],
    }


def _line(figures: dict) -> str:
    return " ".join(f"{name} {value:.4f}" for name, value in figures.items() if value is not None)


def main() -> None:
    """Compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--limit", type=int, help="images a folder")
    parser.add_argument("--exclusive", action="store_true", help="only the masks without overlap")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    predictor = SamPredictor(load_model(), fast=True, precision=args.precision)
    found = {
        folder.name: compare(predictor, folder, args.limit, () if args.exclusive else ROWS) for folder in args.folders
    }
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
