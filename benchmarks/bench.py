"""From a JPEG and its boxes to masks: ours, upstream and Ultralytics, interleaved image by image in one run.

Each runs in a process of its own. Writes Markdown, JSON and a plot, with the machine, versions and commit.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from data import ROOT, Case, coco_cases, default_cases
from dataset import whole_dataset
from environment import environment
from parts import boxes_of, by_boxes, floors, steps, upstream_by_boxes
from PIL import Image
from pipelines import COMPARED, REFERENCE
from report import markdown, plot
from worker import Worker

from mobilesam import load_model
from mobilesam.geometry import snap_outward
from mobilesam.images import read_image
from mobilesam.weights import save_checkpoint


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union, 1 for two empty masks."""
    union = (a | b).sum()
    return 1.0 if union == 0 else float((a & b).sum() / union)


def clip(mask: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Keep a mask inside its box only, as all are compared."""
    x0, y0, x1, y1 = snap_outward(box, original_hw=mask.shape)
    kept = np.zeros_like(mask)
    kept[y0:y1, x0:x1] = mask[y0:y1, x0:x1]
    return kept


def compare(cases: list[Case], checkpoint: Path, names: list[str]) -> dict[str, dict[str, list[float]]]:
    """Run every pipeline on every image, in turns, and compare the masks."""
    workers = {name: Worker(name, checkpoint) for name in names}
    rows = {name: {"ms": [], "agreement": [], "iou": [], "peak MB": []} for name in names}
    for worker in workers.values():  # load and warm up
        worker.run(*cases[0][:2])
    for number, (path, boxes, truth) in enumerate(cases):
        masks = {}
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            seconds, peak, masks[name] = workers[name].run(path, boxes)
            rows[name]["ms"].append(1000 * seconds)
            rows[name]["peak MB"] = [peak]
        for name, found in masks.items():
            clipped = [clip(mask, box) for mask, box in zip(found, boxes, strict=True)]
            expected = [clip(mask, box) for mask, box in zip(masks[REFERENCE], boxes, strict=True)]
            rows[name]["agreement"] += list(map(iou, clipped, expected))
            rows[name]["iou"] += list(map(iou, clipped, truth)) if truth else []
        print(f"image {number + 1} of {len(cases)}", end="\r", flush=True)
    for worker in workers.values():
        worker.close()
    return rows


def memory(checkpoint: Path, folder: Path) -> dict[int, float]:
    """Return our peak of resident memory in MB for 200 and 2,000 boxes on 12 megapixels.

    The boxes together have ten times the area of the image in both, so that the masks, a byte a pixel, weigh the same.
    """
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((4000, 3000), Image.Resampling.BICUBIC).save(folder / "large.jpg")
    peaks = {}
    for count in (200, 2000):
        worker = Worker("ours, masks dropped", checkpoint)
        peaks[count] = worker.run(folder / "large.jpg", boxes_of(count, (3000, 4000), share=10 / count))[1]
        worker.close()
    return peaks


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--images", type=Path, help="folder of images, with --coco")
    parser.add_argument("--coco", type=Path, help="their COCO instances; default: COCO images beside the checkout")
    parser.add_argument("--limit", type=int, default=50, help="use N images at most")
    parser.add_argument(
        "--only", nargs="+", choices=COMPARED, default=COMPARED, metavar="NAME", help="some of the rows"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results", help="folder for the results")
    args = parser.parse_args()
    if (args.coco is None) != (args.images is None):
        parser.error("--coco and --images must come together, got one of them")
    if args.coco and not args.coco.is_file():
        parser.error(f"--coco must be a COCO instances file, got {args.coco}, which does not exist")
    if args.coco:
        name, cases = "COCO", coco_cases(args.coco, args.images, args.limit)
    else:
        name, cases = default_cases(args.limit)
    names = [name for name in COMPARED if name in {*args.only, REFERENCE}]
    sam = load_model(device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "mobile_sam.pt"
        save_checkpoint(sam.state_dict(), checkpoint)
        image = read_image(cases[0][0])
        result = {
            "rows": compare(cases, checkpoint, names),
            "dataset": whole_dataset(cases, checkpoint),
            "memory": memory(checkpoint, Path(folder)),
            "steps": {precision: steps(sam, precision, cases[:12]) for precision in ("fp32", "bf16")},
            "boxes": {
                "ours": by_boxes(sam, image, "fp32"),
                "ours, bf16": by_boxes(sam, image, "bf16"),
                "upstream": upstream_by_boxes(checkpoint, image),
            },
            "floors": floors(sam),
        }
    boxes = sum(len(boxes) for _, boxes, _ in cases)
    result["about"] = environment() | {"data": name, "images": len(cases), "boxes": boxes}
    text = markdown(result)
    print("\n" + text)
    args.output.mkdir(parents=True, exist_ok=True)
    stem = f"{time.strftime('%Y-%m-%d')}-{result['about']['commit']}"
    (args.output / f"{stem}.md").write_text(text)
    (args.output / f"{stem}.json").write_text(json.dumps(result, indent=1))
    plot(result, args.output / f"{stem}.png")


if __name__ == "__main__":
    main()
