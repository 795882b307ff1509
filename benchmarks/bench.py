"""From a JPEG and its boxes to masks, image by image: ours, upstream and Ultralytics, interleaved in one run.

Writes a Markdown table and JSON, with the machine, versions and commit.
"""

import argparse
import json
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pycocotools.coco import COCO

from mobilesam import SamPredictor, load_model, make_prompts
from mobilesam.boxes import snap_outward
from mobilesam.images import read_image
from mobilesam.weights import save_checkpoint

ROOT = Path(__file__).resolve().parents[1]
COCO50 = ROOT.parent / "shared" / "coco50"
REFERENCE = "upstream, boxes batched"


def ours(predictor: SamPredictor) -> Callable:
    """Our predictor, each mask in its box only."""

    def run(path: Path, boxes: np.ndarray) -> list[np.ndarray]:
        image = read_image(path)
        predictor.set_image(image)
        regions = [snap_outward(box, original_hw=image.shape[:2]) for box in boxes]
        found = predictor.predict_batch(make_prompts(boxes=boxes), regions=regions)
        return [crop.full(image.shape[:2]) for [crop] in found]

    return run


def upstream(checkpoint: Path) -> Callable:
    """Upstream's code unchanged, all boxes of an image in one call."""
    import mobile_sam

    # A second `.eval()`: upstream gathers attention biases before it loads weights.
    predictor = mobile_sam.SamPredictor(mobile_sam.sam_model_registry["vit_t"](str(checkpoint)).eval())

    def run(path: Path, boxes: np.ndarray) -> list[np.ndarray]:
        image = np.asarray(Image.open(path).convert("RGB"))
        predictor.set_image(image)
        inputs = predictor.transform.apply_boxes(boxes, image.shape[:2])
        masks, _, _ = predictor.predict_torch(
            None, None, torch.as_tensor(inputs, dtype=torch.float), multimask_output=False
        )
        return list(masks[:, 0].numpy())

    return run


def ultralytics(checkpoint: Path) -> Callable:
    """Ultralytics' `SAM.predict` with all boxes of an image."""
    import ultralytics

    model = ultralytics.SAM(str(checkpoint))

    def run(path: Path, boxes: np.ndarray) -> list[np.ndarray]:
        [result] = model.predict(str(path), bboxes=boxes.tolist(), device="cpu", verbose=False, save=False, conf=0.0)
        return list(result.masks.data.numpy())

    return run


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


def cases(coco: COCO, images: Path, limit: int):
    """Yield path, boxes (N, 4) xyxy and true masks of images with objects."""
    found = 0
    for record in coco.loadImgs(coco.getImgIds()):
        annotations = coco.loadAnns(coco.getAnnIds(record["id"], iscrowd=False))
        if annotations and found < limit:
            found += 1
            boxes = np.array([a["bbox"] for a in annotations])
            boxes[:, 2:] += boxes[:, :2]
            yield images / record["file_name"], boxes, [coco.annToMask(a).astype(bool) for a in annotations]


def environment(threads: int) -> dict[str, str]:
    """Describe what the figures were measured on."""
    info = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.split(":")[1].strip() for line in info if "model name" in line), platform.processor() or "?")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    packages = {name: version(name) for name in ("torch", "timm", "ultralytics", "mobilesam-mirror")}
    return {
        "processor": cpu,
        "threads": str(threads),
        "python": platform.python_version(),
        "commit": commit.strip() or "?",
        **packages,
    }


def measure(pipelines: dict[str, Callable], work: list, threads: int) -> dict[str, dict[str, list[float]]]:
    """Run every pipeline on every image, in turns, and compare the masks."""
    rows = {name: {"ms": [], "agreement": [], "iou": []} for name in pipelines}
    for run in pipelines.values():  # warm up
        run(*work[0][:2])
    for number, (path, boxes, truth) in enumerate(work):
        masks = {}
        order = list(pipelines)[number % len(pipelines) :] + list(pipelines)[: number % len(pipelines)]
        for name in order:
            torch.set_num_threads(threads)  # Ultralytics sets it, for the whole process, to the cores less one
            start = time.perf_counter()
            masks[name] = pipelines[name](path, boxes)
            rows[name]["ms"].append(1000 * (time.perf_counter() - start))
        for name, found in masks.items():
            clipped = [clip(mask, box) for mask, box in zip(found, boxes, strict=True)]
            expected = [clip(mask, box) for mask, box in zip(masks[REFERENCE], boxes, strict=True)]
            rows[name]["agreement"] += list(map(iou, clipped, expected))
            rows[name]["iou"] += list(map(iou, clipped, truth))
    return rows


def table(rows: dict[str, dict[str, list[float]]]) -> str:
    """Return the Markdown table."""
    base = sum(rows[REFERENCE]["ms"])
    lines = [
        "| | total s | median ms an image (quartiles) | times upstream | IoU with upstream's masks, mean (least) "
        "| mean IoU with truth |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        low, middle, high = np.percentile(row["ms"], [25, 50, 75])
        lines.append(
            f"| {name} | {sum(row['ms']) / 1000:.1f} | {middle:.0f} ({low:.0f} to {high:.0f}) "
            f"| {base / sum(row['ms']):.2f} | {np.mean(row['agreement']):.5f} ({min(row['agreement']):.4f}) "
            f"| {np.mean(row['iou']):.4f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--images", type=Path, default=COCO50 / "images", help="folder of images")
    parser.add_argument("--coco", type=Path, default=COCO50 / "instances.json", help="their COCO instances")
    parser.add_argument("--limit", type=int, default=50, help="use N images at most")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results", help="folder for the results")
    args = parser.parse_args()
    if not args.coco.is_file():
        parser.error(f"--coco must be a COCO instances file, got {args.coco}, which does not exist")
    threads = torch.get_num_threads()
    work = list(cases(COCO(str(args.coco)), args.images, args.limit))
    sam = load_model(device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "mobile_sam.pt"
        save_checkpoint(sam.state_dict(), checkpoint)
        pipelines = {
            "ours": ours(SamPredictor(sam, fast=True)),
            "ours, plain path": ours(SamPredictor(sam)),
            REFERENCE: upstream(checkpoint),
            "Ultralytics": ultralytics(checkpoint),
        }
        rows = measure(pipelines, work, threads)
    about = environment(threads) | {"images": len(work), "boxes": len(rows["ours"]["iou"])}
    text = table(rows) + "\n\n" + ", ".join(f"{key} {value}" for key, value in about.items()) + "\n"
    print("\n" + text)
    args.output.mkdir(parents=True, exist_ok=True)
    name = time.strftime("%Y-%m-%d") + f"-{about['commit']}"
    (args.output / f"{name}.md").write_text(text)
    (args.output / f"{name}.json").write_text(json.dumps({"about": about, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
