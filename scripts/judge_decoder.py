"""Judge the decoder that `fit_decoder.py` fitted, on images that it did not learn from: 25 minutes on 2 cores.

    python scripts/judge_decoder.py ../shared/data/coco_union ../shared/coco50 --work fitting

The arguments are those of `fit_decoder.py`. Each part of the images is judged with the decoder that learnt from the
others: true boxes, boxes off by up to 10%, clicks, `quality="best"`, everything mode. The figures go to
`benchmarks/results/coco_decoder.json`; what corrects `mask_quality` of `quality="best"` goes into the card of the
bundled decoder. `quality="best"` is compared with the old decoder's "fast": the mask head that "best" uses with the old
decoder was fitted on these very images.
"""

import argparse
import json
from collections import defaultdict
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from fit_decoder import RECIPE
from make_weights import sorted_header
from safetensors.torch import load_file, save

from mobilesam import EmbeddingCache, Prompt, SamAutomaticMaskGenerator, SamPredictor, load_model
from mobilesam.geometry import clip_region
from mobilesam.geometry.masks import interior_point
from mobilesam.heads.inherited import BEST
from mobilesam.quality.metrics import calibration, jittered, mask_iou, size_of
from mobilesam.training import PARTS
from mobilesam.training.coco import coco_images
from mobilesam.training.fit import blended
from mobilesam.training.quality import lend_heads, line
from mobilesam.training.train import JUDGED, _parts, _some
from mobilesam.weights import CARD, COCO, OVER, read_card

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "coco_decoder.json"


def prompted(predictor: SamPredictor, image, prompts: list[Prompt], quality: str) -> list:
    """Return a mask for each prompt, as labels get them."""
    regions = [clip_region(prompt.box, True, original_hw=image.original_hw) for prompt in prompts]
    return [crop for [crop] in predictor.predict_batch(prompts, image=image, regions=regions, quality=quality)]


def everything(predictor: SamPredictor, pixels: np.ndarray, truths: list[np.ndarray]) -> list[float]:
    """Return the IoU of each object with the one of all masks of an image that is most like it."""
    found = SamAutomaticMaskGenerator(predictor, points_per_side=16).generate(pixels)
    return [max((mask_iou(one["segmentation"], true) for one in found), default=0.0) for true in truths]


def judge(models: dict[str, SamPredictor], annotated, rng: np.random.Generator, *, all_masks: bool) -> list[dict]:
    """Return a row for each mask: how it was asked for, of which model, its true IoU and what is told of it."""
    hw, truths = annotated.image.shape[:2], [mask for _, mask in annotated.objects]
    boxes = [prompt for prompt, _ in annotated.objects]
    moved = [Prompt(box=jittered(prompt.box, 0.1, rng, hw)) for prompt in boxes]
    clicks = [Prompt(point_coords=[interior_point(true)]) for true in truths]
    asked = [("box", boxes, "fast"), ("jitter", moved, "fast"), ("click", clicks, "fast"), ("best", boxes, "best")]
    rows = []
    for name, predictor in models.items():
        [image] = predictor.encode_images([annotated.image])
        for how, prompts, quality in asked if name == "new" else asked[:-1]:  # not "best" of the old decoder, see above
            crops = prompted(predictor, image, prompts, quality)
            ious = [mask_iou(crop.full(hw), true) for crop, true in zip(crops, truths, strict=True)]
            told = [(crop.iou_prediction, crop.mask_quality) for crop in crops]
            rows += [(name, how, size_of(t.sum()), iou, *x) for t, iou, x in zip(truths, ious, told, strict=True)]
        if all_masks:
            found = everything(predictor, annotated.image, truths)
            rows += [
                (name, "everything", size_of(t.sum()), iou, None, None) for t, iou in zip(truths, found, strict=True)
            ]
    return [dict(zip(("model", "how", "size", "iou", "predicted", "quality"), row, strict=True)) for row in rows]


def column(rows: list[dict], name: str) -> np.ndarray:
    """Return one value of all rows, NaN where it is not known."""
    return np.array([row[name] for row in rows], dtype=float)


def figures_of(rows: list[dict]) -> dict:
    """Return, for each way to ask, the mean IoU of both models, by size too, and the gain with its standard error."""
    groups, table = defaultdict(list), {}
    for row in rows:
        groups[row["how"], row["model"]].append(row)
    for how in dict.fromkeys(row["how"] for row in rows):
        old, new = groups["box" if how == "best" else how, "old"], groups[how, "new"]
        gain = column(new, "iou") - column(old, "iou")
        table[how] = {"masks": len(new), "gain": gain.mean(), "standard_error": gain.std(ddof=1) / len(gain) ** 0.5}
        for name, some in (("old", old), ("new", new)):
            sizes = {s: [row["iou"] for row in some if row["size"] == s] for s in ("small", "medium", "large")}
            by_size = {s: float(np.mean(ious)) for s, ious in sizes.items() if ious}
            table[how][name] = {"mean_iou": column(some, "iou").mean(), "by_size": by_size}
            for told in ("predicted", "quality"):
                if not np.isnan(column(some, told)).any():
                    table[how][name][told] = calibration(column(some, told), column(some, "iou"))["spearman"]
    return json.loads(json.dumps(table, default=float))


def write_line(rows: list[dict]) -> dict:
    """Put what corrects `mask_quality` of `quality="best"` into the card of the bundled decoder, and return it."""
    some = [row for row in rows if (row["how"], row["model"]) == ("best", "new")]
    quality, true = column(some, "quality"), column(some, "iou")
    offset, slope = line(quality, true)
    found = calibration(np.clip(offset + slope * quality, 0, 1), true)
    figures = {name: found[name] for name in ("spearman", "expected_calibration_error")}
    card = read_card(COCO)
    card["mask_quality"][BEST] = {"offset": offset, "slope": slope, "masks": len(true), **figures}
    metadata = {"format": "pt", OVER: "mobile_sam.safetensors", CARD: json.dumps(card)}
    COCO.write_bytes(sorted_header(save(load_file(COCO), metadata)))
    return card["mask_quality"][BEST]


def main() -> None:
    """Judge, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--work", type=Path, required=True, help="the folder that fit_decoder.py worked in")
    parser.add_argument("--limit", type=int, help="use so many images of each part, to try it")
    args, sam, rows = parser.parse_args(), load_model(), []
    cache, rng = EmbeddingCache(args.work / "embeddings"), np.random.default_rng(5)
    images = list(chain(*(coco_images(one / "instances.json", one / "images", []) for one in args.folders)))
    share = read_card(COCO)["settings"]["share"]
    for number, part in enumerate(_parts(images, RECIPE.seed)):
        state = torch.load(args.work / "parts" / f"part{number}.pt", weights_only=True)
        new = lend_heads(sam, blended(sam, [state["best"][1]], share))
        new.inherits[BEST] = {"offset": 0.0, "slope": 1.0}
        models = {name: SamPredictor(model, fast=True, cache=cache) for name, model in (("old", sam), ("new", new))}
        for index, one in enumerate(_some(part, JUDGED // PARTS, RECIPE.seed)[: args.limit]):
            rows += judge(models, one, rng, all_masks=index < 4)
        print(f"part {number}", json.dumps(figures_of(rows), indent=1), flush=True)
    if not args.limit:
        RESULTS.write_text(json.dumps(figures_of(rows), indent=1) + "\n", encoding="utf-8")
        print(json.dumps(write_line(rows)))


if __name__ == "__main__":
    main()
