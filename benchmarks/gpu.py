"""Latency and throughput on a GPU beside upstream's code, in one run: `scripts/bench gpu`.

Encoder for batches of 1 and 64 images, prompts from an encoded image for 1, 8 and 64 boxes, and one image with one box,
the published figure of which is 12 ms (8 + 4). `--device cpu --batches 1 2` checks the script where there is no GPU.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles

import numpy as np
import torch
from data import ROOT
from environment import environment
from parts import boxes_of
from report import table

from mobilesam import SamPredictor, load_model, make_prompts
from mobilesam.geometry import snap_outward
from mobilesam.weights import save_checkpoint

HW = (480, 640)


def timed(function: Callable, device: torch.device, repeats: int) -> tuple[float, float, float]:
    """Return the quartiles of the milliseconds of a call, the device having finished."""
    times = []
    for number in range(repeats + 3):
        start = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if number >= 3:  # the first ones warm up
            times.append(1000 * (time.perf_counter() - start))
    return tuple(quantiles(times, n=4))


def ours(device: torch.device, precision: str, batches: list[int], counts: list[int]) -> dict[str, Callable]:
    """Return what is timed, by name."""
    predictor = SamPredictor(load_model(device=device), fast=True, precision=precision)
    image = np.random.default_rng(0).integers(0, 255, (*HW, 3), dtype=np.uint8)
    pixels = predictor._to_pixels(image)
    [embedding] = predictor.encode_images([image])
    jobs: dict[str, Callable] = {}
    for batch in batches:
        stack = pixels.expand(batch, -1, -1, -1).contiguous()
        jobs[f"encode {batch}"] = lambda x=stack: predictor.backend.encode_image(x)
    for count in counts:
        boxes = boxes_of(count, HW)
        regions = [snap_outward(box, original_hw=HW) for box in boxes]
        prompts = make_prompts(boxes=boxes)
        jobs[f"{count} boxes"] = lambda p=prompts, r=regions: predictor.predict_batch(p, image=embedding, regions=r)
    jobs["image and box"] = lambda: (predictor.set_image(image), predictor.predict(box=boxes_of(1, HW)[0]))
    return jobs


def upstream(device: torch.device, checkpoint: Path, batches: list[int], counts: list[int]) -> dict[str, Callable]:
    """The same for upstream's code, masks of whole images on the device."""
    import mobile_sam

    sam = mobile_sam.sam_model_registry["vit_t"](str(checkpoint)).eval().to(device)
    predictor = mobile_sam.SamPredictor(sam)
    image = np.random.default_rng(0).integers(0, 255, (*HW, 3), dtype=np.uint8)
    predictor.set_image(image)
    jobs: dict[str, Callable] = {}
    for batch in batches:
        stack = torch.zeros(batch, 3, 1024, 1024, device=device)
        jobs[f"encode {batch}"] = lambda x=stack: sam.image_encoder(x)
    for count in counts:
        boxes = predictor.transform.apply_boxes(boxes_of(count, HW), HW)
        boxes = torch.as_tensor(boxes, dtype=torch.float, device=device)
        jobs[f"{count} boxes"] = lambda b=boxes: predictor.predict_torch(None, None, b, multimask_output=False)
    jobs["image and box"] = lambda: (predictor.set_image(image), predictor.predict(box=boxes_of(1, HW)[0]))
    return jobs


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="scripts/bench gpu", description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--boxes", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results", help="folder for the results")
    args = parser.parse_args()
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a GPU that torch can use, got none. --device cpu checks the script.")
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        checkpoint = Path(folder) / "mobile_sam.pt"
        save_checkpoint(load_model(device="cpu").state_dict(), checkpoint)
        rows = {
            "ours, fp32": ours(device, "fp32", args.batches, args.boxes),
            "ours, bf16": ours(device, "bf16", args.batches, args.boxes),
            "upstream": upstream(device, checkpoint, args.batches, args.boxes),
        }
        names = list(rows["upstream"])
        times = {name: {job: timed(jobs[job], device, args.repeats) for job in names} for name, jobs in rows.items()}
    text = table(
        ["median ms (quartiles)", *names],
        [
            [name, *(f"{row[j][1]:.1f} ({row[j][0]:.1f} to {row[j][2]:.1f})" for j in names)]
            for name, row in times.items()
        ],
    )
    about = environment() | {"device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"}
    text += "\n\n" + ", ".join(f"{key} {value}" for key, value in about.items()) + "\n"
    print(text)
    args.output.mkdir(parents=True, exist_ok=True)
    stem = f"gpu-{time.strftime('%Y-%m-%d')}-{about['commit']}"
    (args.output / f"{stem}.md").write_text(text)
    (args.output / f"{stem}.json").write_text(json.dumps({"about": about, "ms": times}, indent=1))


if __name__ == "__main__":
    main()
