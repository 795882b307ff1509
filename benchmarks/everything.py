"""Segment everything in one image: ours, upstream and Ultralytics in one run, each in a process of its own.

Writes a Markdown table and JSON: time, peak memory, and how far the masks are those of upstream.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from data import COCO50, ROOT
from environment import environment
from parts import precisions
from PIL import Image
from worker import peak_memory

from mobilesam import SamAutomaticMaskGenerator, SamPredictor, load_model
from mobilesam.geometry import rle
from mobilesam.quality.metrics import mask_iou
from mobilesam.weights import save_checkpoint

REFERENCE = "upstream"
MATCH, SAME = 0.9, 0.9999


def ours(precision: str = "fp32"):
    """Our generator on the bundled weights."""
    predictor = SamPredictor(load_model(device="cpu"), fast=True, precision=precision)

    def run(image: np.ndarray, points_per_side: int) -> list[np.ndarray]:
        records = SamAutomaticMaskGenerator(predictor, points_per_side=points_per_side).generate(image)
        return [record["segmentation"] for record in records]

    return run


def upstream(checkpoint: Path):
    """Upstream's code unchanged."""
    import mobile_sam

    # A second `.eval()`: upstream gathers attention biases before it loads weights.
    sam = mobile_sam.sam_model_registry["vit_t"](str(checkpoint)).eval()

    def run(image: np.ndarray, points_per_side: int) -> list[np.ndarray]:
        records = mobile_sam.SamAutomaticMaskGenerator(sam, points_per_side=points_per_side).generate(image)
        return [record["segmentation"] for record in records]

    return run


def ultralytics(checkpoint: Path):
    """Ultralytics' predictor without prompts."""
    from ultralytics.models.sam import Predictor

    options = {"task": "segment", "mode": "predict", "imgsz": 1024, "conf": 0.25, "save": False, "verbose": False}
    predictor = Predictor(overrides={**options, "model": str(checkpoint), "device": "cpu"})

    def run(image: np.ndarray, points_per_side: int) -> list[np.ndarray]:
        [result] = predictor(source=np.ascontiguousarray(image[..., ::-1]), points_stride=points_per_side)
        return [] if result.masks is None else list(result.masks.data.numpy().astype(bool))

    return run


PIPELINES = {
    "ours": lambda checkpoint: ours(),
    "ours, bf16": lambda checkpoint: ours("bf16"),
    REFERENCE: upstream,
    "Ultralytics": ultralytics,
}


def measure(name: str, image: np.ndarray, points_per_side: int, checkpoint: Path, threads: int) -> dict:
    """Run one pipeline in this process."""
    run = PIPELINES[name](checkpoint)
    run(image[:64, :64], 2)  # warm up
    torch.set_num_threads(threads)  # Ultralytics sets it to the cores less one
    loaded = peak_memory()
    start = time.perf_counter()
    masks = run(image, points_per_side)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "loaded_mb": loaded, "peak_mb": peak_memory(), "masks": [rle.encode(m) for m in masks]}


def compare(found: list[np.ndarray], expected: list[np.ndarray]) -> dict[str, float]:
    """Count the masks that are those expected, in order, and matches at IoU 0.9, each used once, best first."""
    ious = np.array([[mask_iou(a, b) for b in expected] for a in found]).reshape(len(found), len(expected))
    left, matches = ious.copy(), 0
    while left.size and left.max() >= MATCH:
        row, column = np.unravel_index(left.argmax(), left.shape)
        left[row], left[:, column], matches = 0, 0, matches + 1
    return {
        "same": int((np.diagonal(ious) >= SAME).sum()),
        "recall": matches / max(1, len(expected)),
        "precision": matches / max(1, len(found)),
    }


def table(rows: dict[str, dict]) -> str:
    """Return the Markdown table."""
    base = rows[REFERENCE]
    lines = [
        "| | s | times upstream | peak memory, MB (before) | masks | same as upstream's, in order "
        f"| recall, precision at IoU {MATCH} |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row['seconds']:.1f} | {base['seconds'] / row['seconds']:.2f} "
            f"| {row['peak_mb']:.0f} ({row['loaded_mb']:.0f}) | {row['count']} "
            f"| {row['same']} | {row['recall']:.2f}, {row['precision']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure each pipeline in a process, compare, print, write."""
    parser = argparse.ArgumentParser(prog="scripts/bench everything", description=__doc__)
    parser.add_argument("--image", type=Path, default=COCO50 / "images" / "000000522418.jpg")
    parser.add_argument("--points-per-side", type=int, default=32)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results", help="folder for the results")
    parser.add_argument("--only", choices=PIPELINES, help=argparse.SUPPRESS)  # what the processes are started with
    parser.add_argument("--checkpoint", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    image, threads = np.asarray(Image.open(args.image).convert("RGB")), torch.get_num_threads()
    if args.only:
        json.dump(measure(args.only, image, args.points_per_side, args.checkpoint, threads), args.output.open("w"))
        return
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, result = Path(folder) / "mobile_sam.pt", Path(folder) / "result.json"
        save_checkpoint(load_model(device="cpu").state_dict(), checkpoint)
        for name in [name for name in PIPELINES if "bf16" not in name or "bf16" in precisions()]:
            options = ["--image", args.image, "--points-per-side", args.points_per_side, "--output", result]
            command = [sys.executable, "-W", "ignore", __file__, *options, "--only", name, "--checkpoint", checkpoint]
            subprocess.run(list(map(str, command)), check=True)
            rows[name] = json.loads(result.read_text())
    masks = {name: [rle.decode(mask) for mask in row.pop("masks")] for name, row in rows.items()}
    for name, row in rows.items():
        row |= {"count": len(masks[name]), **compare(masks[name], masks[REFERENCE])}
    size = f"{image.shape[1]}x{image.shape[0]}"
    about = environment() | {"image": args.image.name, "size": size, "points": args.points_per_side**2}
    text = table(rows) + "\n\n" + ", ".join(f"{key} {value}" for key, value in about.items()) + "\n"
    print("\n" + text)
    args.output.mkdir(parents=True, exist_ok=True)
    name = f"everything-{time.strftime('%Y-%m-%d')}-{about['commit']}"
    (args.output / f"{name}.md").write_text(text)
    (args.output / f"{name}.json").write_text(json.dumps({"about": about, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
