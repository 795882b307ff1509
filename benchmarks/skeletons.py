"""How often a mask is called implausible for its skeleton: true masks, masks of others, and the model's own.

    python benchmarks/skeletons.py ../shared/coco50/person_keypoints.json ../shared/coco50/images --json out.json

People with 3 labelled points or more are asked for by the points that are visible, and by all that are labelled, of
which some are behind something: alone, and together with the true box. "Others" are the true masks of other people in
the same photograph, as if points and mask had been mixed up.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from mobilesam import MaskCrop, Prompt, SamPredictor, load_model
from mobilesam.geometry import clip_region, tight_region
from mobilesam.geometry.skeleton import SKELETON, points_outside, why_implausible
from mobilesam.images import read_image
from mobilesam.quality.metrics import mask_iou
from mobilesam.quality.validation import load_truth, usable_cases, with_objects

POINTS = {"visible points": 2, "labelled points": 1}  # the least visibility of COCO's
BAD = 0.5


def measure(predictor: SamPredictor, truth, images: Path) -> dict[str, list[dict]]:
    """Return by kind of mask one row each: IoU with the true mask, share of points outside, whether implausible."""
    rows: dict[str, list[dict]] = {}
    for record, annotations in with_objects(truth, None):
        pixels = read_image(images / record["file_name"])
        hw = pixels.shape[:2]
        predictor.set_image(pixels)
        people, _ = usable_cases(truth, annotations, hw)
        for points, visibility in POINTS.items():
            asked = [_skeleton(annotation, visibility) for annotation, _, _ in people]
            crops = {"true": [_crop(true) for _, true, _ in people]}
            chosen = [i for i, found in enumerate(asked) if len(found) >= SKELETON]
            for name, boxes in (("of the points", False), ("of points and box", True)):
                crops[name] = _predicted(predictor, people, asked, chosen, hw, boxes)
            for i in chosen:
                others = [crop for k, crop in enumerate(crops["true"]) if k != i]
                for name, some in [("others", others), *((name, [found[i]]) for name, found in crops.items())]:
                    rows.setdefault(f"{points}, {name}", []).extend(_row(c, asked[i], people[i][1]) for c in some)
    return rows


def _skeleton(annotation: dict, visibility: int) -> np.ndarray:
    """Return the centres of the pixels that COCO names."""
    found = np.array(annotation["keypoints"], dtype=float).reshape(-1, 3)
    return found[found[:, 2] >= visibility, :2] + 0.5


def _predicted(predictor: SamPredictor, people: list, asked: list, chosen: list[int], hw: tuple, boxes: bool) -> dict:
    prompts = [Prompt(point_coords=asked[i], box=people[i][2].box if boxes else None) for i in chosen]
    regions = [clip_region(prompt.box, True, original_hw=hw) for prompt in prompts]
    found = predictor.predict_batch(prompts, regions=regions)
    return {i: crop for i, [crop] in zip(chosen, found, strict=True)}


def _crop(mask: np.ndarray) -> MaskCrop:
    x0, y0, x1, y1 = region = tight_region(mask)
    return MaskCrop(region, mask[y0:y1, x0:x1], 1.0, 1.0)


def _row(crop: MaskCrop, points: np.ndarray, true: np.ndarray) -> dict:
    return {
        "iou": mask_iou(crop.full(true.shape), true),
        "points_outside": points_outside(crop, points),
        "implausible": why_implausible(crop, points),
    }


def _figures(rows: list[dict]) -> dict[str, int]:
    odd, bad = (np.array([r["implausible"] is not None for r in rows]), np.array([r["iou"] < BAD for r in rows]))
    return {
        "masks": len(rows),
        "implausible": int(odd.sum()),
        "bad": int(bad.sum()),
        "bad found": int((odd & bad).sum()),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("coco", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = measure(SamPredictor(load_model(), fast=True), load_truth(args.coco), args.images)
    figures = {name: _figures(some) for name, some in rows.items()}
    for name, found in figures.items():
        print(f"{name:36s}", ", ".join(f"{what} {number}" for what, number in found.items()))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
