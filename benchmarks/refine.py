"""Coarse and old masks, made from true ones, before and after `refine=True`, beside masks from their boxes.

    python benchmarks/refine.py ../shared/data/coco_union ../shared/data/dsb2018_nuclei --limit 60 --json out.json

A folder holds `instances.json` and `images/`. Four objects an image at most, chosen by the seed.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np

from fiftyone_mobilesam.engine.ask import ask
from fiftyone_mobilesam.engine.labeller import Labeller
from fiftyone_mobilesam.options import MaskOptions
from mobilesam import SamPredictor, load_model
from mobilesam.geometry import rle, tight_region
from mobilesam.images import read_image
from mobilesam.quality.metrics import mask_iou
from mobilesam.quality.validation import load_truth, usable_cases, with_objects

SEED, OBJECTS = 0, 4


def coarser(true: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return masks (H, W) bool of the same object as people and tools leave them, by what happened to them."""
    pixels, side = np.ascontiguousarray(true).astype(np.uint8), np.sqrt(true.sum())
    found, _ = cv2.findContours(pixels, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest, every = max(found, key=cv2.contourArea), np.concatenate(found)
    reach = max(1, round(0.08 * side))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    dx, dy = (rng.choice([-1, 1], 2) * rng.uniform(0.05, 0.15, 2) * side).round()
    x0, y0, x1, y1 = tight_region(true)
    small = cv2.resize(pixels[y0:y1, x0:x1].astype(np.float32), (8, 8), interpolation=cv2.INTER_AREA)
    stretched = np.zeros(true.shape, bool)
    stretched[y0:y1, x0:x1] = cv2.resize(small, (x1 - x0, y1 - y0)) > 0.5
    masks = {
        "as people drew it": true,
        "8 x 8 pixels": stretched,
        "few corners": _filled(cv2.approxPolyDP(largest, 0.04 * cv2.arcLength(largest, True), True), true.shape),
        "convex hull": _filled(cv2.convexHull(every), true.shape),
        "rotated box": _filled(cv2.boxPoints(cv2.minAreaRect(every)), true.shape),
        "painted too much": cv2.dilate(pixels, disc) > 0,
        "painted too little": cv2.erode(pixels, disc) > 0,
        "moved by 5 to 15%": cv2.warpAffine(pixels, np.float32([[1, 0, dx], [0, 1, dy]]), true.shape[::-1]) > 0,
    }
    return {name: mask for name, mask in masks.items() if mask.sum() >= 20}


def compare(predictor: SamPredictor, folder: Path, limit: int | None) -> dict[str, dict[str, float]]:
    """Return, by what happened to the masks, the mean IoUs with the true ones before, of box alone, and refined."""
    truth, rng, rows = load_truth(folder / "instances.json"), np.random.default_rng(SEED), defaultdict(list)
    labeller = Labeller(predictor, MaskOptions())
    for entry, annotations in with_objects(truth, limit):
        pixels = read_image(folder / "images" / entry["file_name"])
        hw = pixels.shape[:2]
        cases, _ = usable_cases(truth, annotations, hw)
        chosen = [cases[i][1] for i in rng.permutation(len(cases))[:OBJECTS]]
        named = [(name, mask, true) for true in chosen for name, mask in coarser(true, rng).items()]
        if not named:
            continue
        [embedding] = predictor.encode_images([pixels])
        boxes = [list(map(float, tight_region(mask))) for _, mask, _ in named]
        whole = [0.0, 0.0, float(hw[1]), float(hw[0])]
        outlines = [{"mask": rle.encode(mask), "box": whole} for _, mask, _ in named]
        plain = [ask({"box": box}, hw) for box in boxes]
        refined = [ask({"box": box, "outline": it}, hw) for box, it in zip(boxes, outlines, strict=True)]
        answers = zip(*(labeller.answers(pixels, some, embedding) for some in (plain, refined)), strict=True)
        for (name, mask, true), found in zip(named, answers, strict=True):
            rows[name].append([mask_iou(mask, true), *(mask_iou(answer.crop.full(hw), true) for answer in found)])
    return {
        name: dict(zip(("before", "from its box", "refined"), np.mean(some, axis=0).tolist(), strict=True))
        | {"masks": len(some)}
        for name, some in rows.items()
    }


def _filled(polygon: np.ndarray, hw: tuple[int, ...]) -> np.ndarray:
    canvas = np.zeros(hw, np.uint8)
    cv2.fillPoly(canvas, [np.rint(polygon).astype(np.int32)], 1)
    return canvas > 0


def main() -> None:
    """Compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--limit", type=int, help="images a folder")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    predictor, found = SamPredictor(load_model(), fast=True), {}
    for folder in args.folders:
        found[folder.name] = compare(predictor, folder, args.limit)
        print(folder.name, json.dumps(found[folder.name], indent=1), flush=True)
        if args.json:
            args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
