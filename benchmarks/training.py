"""How much a model gains from 20, 100, 300 corrected masks on unseen images like them, and what photographs lose.

    python benchmarks/training.py ../shared/data/neu_seg ../shared/data/dsb2018_nuclei --masks 20 100 \\
        --photographs ../shared/data/coco_union --cache cache/ --json out.json

A folder holds `instances.json` and `images/`. Its images are in chance order: the first give the masks to learn from, a
twentieth of them an image but 5 at least, the others are for the figures, up to 150 masks.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from mobilesam import EmbeddingCache, SamPredictor, load_model
from mobilesam.training.check import check
from mobilesam.training.coco import coco_images
from mobilesam.training.examples import Annotated, Example, encoded
from mobilesam.training.recipe import Recipe
from mobilesam.training.start import start_for
from mobilesam.training.train import train

JUDGED = 150


def split(images: list[Annotated], masks: int, seed: int) -> tuple[list[Annotated], list[Annotated]]:
    """Return images to learn so many masks from, and others to judge by, each with some of its objects."""
    learnt, judged, each = [], [], max(5, masks // 20)
    for index in np.random.default_rng(seed).permutation(len(images)):
        have = sum(len(one.objects) for one in learnt)
        if have < masks:
            learnt.append(replace(images[index], objects=images[index].objects[: min(each, masks - have)]))
        elif sum(len(one.objects) for one in judged) < JUDGED:
            judged.append(replace(images[index], objects=images[index].objects[:20]))
    return learnt, judged


def measure(
    learnt: list[Annotated], judged: list[Annotated], photographs: list[Example], recipe: Recipe, cache: EmbeddingCache
) -> dict:
    """Train once, from the call to the checkpoint, and judge the result by images that training never saw."""
    sam = load_model()
    predictor = SamPredictor(sam, fast=True, cache=cache)
    unseen = [encoded(predictor, one) for one in judged]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        training = train(sam, learnt, Path(folder, "new.safetensors"), recipe=recipe)
        seconds = time.perf_counter() - started
        new = load_model(training.path) if training.helped else sam
    before, after = ([check(model, some).iou.mean() for some in (unseen, photographs)] for model in (sam, new))
    began = check(start_for(sam).sam, unseen).iou.mean()
    names = ("own", "photographs")
    points = {name: 100 * float(now - was) for name, was, now in zip(names, before, after, strict=True)}
    card = {name: 100 * training.card["images_left_out" if name == "own" else name]["gain"] for name in names}
    return {
        "masks": sum(len(one.objects) for one in learnt),
        "images": len(learnt),
        "judged": sum(len(one.objects) for one in unseen),
        "before": float(before[0]),
        "began_with": 100 * float(began - before[0]),
        "gain": points,
        "card": card,
        "share": training.card["settings"]["share"] if training.helped else 0,
        "seconds": seconds,
    }


def main() -> None:
    """Train, print and write, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--masks", type=int, nargs="+", default=[20, 100, 300])
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=24, help="photographs that are measured")
    parser.add_argument("--seeds", type=int, default=1, help="trainings for each row, on other images each")
    parser.add_argument("--passes", type=int)
    parser.add_argument("--rate", type=float, default=Recipe.rate)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir(), "training-embeddings"))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    cache, rows = EmbeddingCache(args.cache), []
    predictor = SamPredictor(load_model(), fast=True, cache=cache)
    plain = coco_images(args.photographs / "instances.json", args.photographs / "images", [], args.limit)
    photographs = [encoded(predictor, one) for one in plain]
    for folder in args.folders:
        images = list(coco_images(folder / "instances.json", folder / "images", []))
        for masks in args.masks:
            for seed in range(args.seeds):
                recipe = Recipe(passes=args.passes, rate=args.rate, seed=seed)
                learnt, judged = split(images, masks, seed)
                row = measure(learnt, judged, photographs, recipe, cache)
                rows.append({"folder": folder.name, "seed": seed, **row})
                print(json.dumps(rows[-1]), flush=True)
                if args.json:
                    args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
