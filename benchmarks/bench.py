"""From a JPEG and its boxes to masks: ours, upstream and Ultralytics, interleaved image by image in one run.

Each runs in a process of its own. Writes Markdown, JSON and a plot, with the machine, versions and commit, after each
image and each part, so what was measured is there however the run ends.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from data import ROOT, Case, coco_cases, default_cases
from dataset import whole_dataset
from environment import environment
from fastsam import fastsam
from parts import boxes_of, by_boxes, floors, precisions, steps, upstream_by_boxes
from PIL import Image
from pipelines import COMPARED, LACKING, REFERENCE
from report import NAME_OF, Written, markdown
from worker import Worker

from mobilesam import load_model
from mobilesam.geometry import snap_outward
from mobilesam.images import read_image
from mobilesam.quality.metrics import mask_iou
from mobilesam.weights import save_checkpoint

Rows = dict[str, dict[str, list[float]]]


def clip(mask: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Keep a mask inside its box only, as all are compared."""
    x0, y0, x1, y1 = snap_outward(box, original_hw=mask.shape)
    kept = np.zeros_like(mask)
    kept[y0:y1, x0:x1] = mask[y0:y1, x0:x1]
    return kept


def compare(cases: list[Case], checkpoint: Path, names: list[str], ends: float) -> Iterator[Rows]:
    """Run every pipeline on every image, in turns, and compare the masks; after each image the rows so far.

    Args:
        ends: no image is begun after this `time.monotonic()`, except the first.
    """
    workers = {name: Worker(name, checkpoint) for name in names}
    rows: Rows = {name: {"ms": [], "boxes": [], "agreement": [], "iou": [], "peak MB": []} for name in names}
    for worker in workers.values():  # load and warm up
        worker.run(*cases[0][:2])
    for number, (path, boxes, truth) in enumerate(cases):
        if number and time.monotonic() > ends:
            break
        masks = {}
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            seconds, peak, masks[name] = workers[name].run(path, boxes)
            rows[name]["ms"].append(1000 * seconds)
            rows[name]["boxes"].append(len(boxes))
            rows[name]["peak MB"] = [peak]
        for name, found in masks.items():
            clipped = [clip(mask, box) for mask, box in zip(found, boxes, strict=True)]
            expected = [clip(mask, box) for mask, box in zip(masks[REFERENCE], boxes, strict=True)]
            rows[name]["agreement"] += list(map(mask_iou, clipped, expected))
            rows[name]["iou"] += list(map(mask_iou, clipped, truth)) if truth else []
        yield rows
    for worker in workers.values():
        worker.close()


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
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing more after that time")
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
    ends = time.monotonic() + 60 * args.minutes
    about = environment() | {"data": name, "images": len(cases), "boxes": sum(len(boxes) for _, boxes, _ in cases)}
    file = Written(args.output / f"{time.strftime('%Y-%m-%d')}-{about['commit']}", about)
    with tempfile.TemporaryDirectory() as folder:
        measure(file, cases, args.only, ends, Path(folder))
    print("\n" + markdown(file.result))
    print(f"Written to {file.stem}.*")


def measure(file: Written, cases: list[Case], only: list[str], ends: float, folder: Path) -> None:
    """Measure part by part, what says most first, until the time is over; the comparison has two thirds of it."""
    able = precisions()
    names = [name for name in COMPARED if name in {*only, REFERENCE} and name not in LACKING]
    sam, image, checkpoint = load_model(device="cpu"), read_image(cases[0][0]), folder / "mobile_sam.pt"
    save_checkpoint(sam.state_dict(), checkpoint)
    file.keep(floors=floors(sam, able))
    comparison_ends = time.monotonic() + (ends - time.monotonic()) * 2 / 3
    for number, rows in enumerate(compare(cases, checkpoint, names, comparison_ends), start=1):
        file.keep(rows=rows)
        print(f"image {number} of {len(cases)}", end="\r", flush=True)
    parts = {
        "steps": lambda: {precision: steps(sam, precision, cases[:12]) for precision in able},
        "boxes": lambda: {
            **{NAME_OF[precision]: by_boxes(sam, image, precision) for precision in able},
            "upstream": upstream_by_boxes(checkpoint, image),
        },
        "others": lambda: fastsam(sam, cases[0][0], cases[0][1][0], checkpoint),
        "memory": lambda: memory(checkpoint, folder),
        "dataset": lambda: whole_dataset(cases[:number], checkpoint, able),
    }
    for name, part in parts.items():
        if time.monotonic() < ends:
            print(f"{name} ...       ", end="\r", flush=True)
            file.keep(**{name: part()})


if __name__ == "__main__":
    main()
