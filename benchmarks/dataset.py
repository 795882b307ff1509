"""From JPEGs on disk to labels in the database: ours, a plain loop with upstream, and FiftyOne's own SAM model.

All have the same weights and run in turns. Part of `scripts/bench`; by itself:

    python benchmarks/dataset.py --limit 50
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
from data import Case, default_cases
from PIL import Image
from pipelines import upstream

from mobilesam.geometry import snap_outward

Apply = Callable[[fo.Dataset], None]


def make_dataset(cases: list[Case]) -> fo.Dataset:
    """Return a dataset of the images with their boxes in `detections`."""
    dataset = fo.Dataset()
    for path, boxes, _ in cases:
        with Image.open(path) as image:
            size = np.array(image.size * 2)
        relative = [list(np.concatenate([box[:2], box[2:] - box[:2]]) / size) for box in boxes]
        found = [fo.Detection(label="object", bounding_box=[float(v) for v in box]) for box in relative]
        dataset.add_sample(fo.Sample(filepath=str(path), detections=fo.Detections(detections=found)))
    return dataset


def builtin(checkpoint: Path) -> Any:
    """Return `fiftyone.utils.sam.SegmentAnythingModel` around upstream's MobileSAM."""
    import mobile_sam

    sys.modules["segment_anything"] = mobile_sam
    from fiftyone.utils.sam import SegmentAnythingModel, SegmentAnythingModelConfig

    config = {"entrypoint_fcn": "mobile_sam.build_sam.build_sam_vit_t", "model_path": str(checkpoint)}
    return SegmentAnythingModel(SegmentAnythingModelConfig(config))


def apply_model(model: Any, busy: list[float], **options: Any) -> Apply:
    """Apply a model as FiftyOne does; add the seconds in our network to `busy`."""
    if predictor := getattr(model, "predictor", None):
        timed(predictor, "encode_images", busy)
        timed(predictor, "predict_batch", busy)
    keywords = {"label_field": "masks", "prompt_field": "detections", "progress": False, **options}
    return lambda dataset: dataset.apply_model(model, **keywords)


def job(checkpoint: Path, **options: Any) -> Apply:
    """Run a resumable job. It loads and tests the model each time, and has the database sync its journal."""
    import fiftyone_mobilesam as fom

    return lambda dataset: fom.label(dataset, "detections", "masks", weights=checkpoint, **options)


def plain_loop(checkpoint: Path) -> Apply:
    """Upstream's code in a loop, all boxes of an image at once, a sample saved when it is done."""
    masks_of = upstream(checkpoint)

    def run(dataset: fo.Dataset) -> None:
        for sample in dataset:
            found = sample.detections.detections
            with Image.open(sample.filepath) as image:
                size = np.array(image.size * 2)
            boxes = np.array([detection.bounding_box for detection in found])
            boxes[:, 2:] += boxes[:, :2]
            boxes *= size
            labels = []
            for detection, box, mask in zip(found, boxes, masks_of(Path(sample.filepath), boxes), strict=True):
                x0, y0, x1, y1 = snap_outward(box, original_hw=mask.shape)
                place = {"label": detection.label, "bounding_box": detection.bounding_box}
                labels.append(fo.Detection(**place, mask=mask[y0:y1, x0:x1]))
            sample["masks"] = fo.Detections(detections=labels)
            sample.save()

    return run


def whole_dataset(
    cases: list[Case], checkpoint: Path, precisions: list[str], rounds: int = 2
) -> dict[str, dict[str, Any]]:
    """Make the masks of the whole dataset by each way, in turns.

    Returns:
        Seconds of each round, masks that were written, and for `apply_model` with ours the share of the time in the
        network, in the fastest round.
    """
    import fiftyone_mobilesam as fom

    busy = [0.0]
    workers = {"batch_size": 4, "num_workers": 2}
    ways = {
        f"ours, apply_model{', bf16' if precision == 'bf16' else ''}": apply_model(
            fom.load_model(checkpoint, device="cpu", precision=precision), busy, **workers
        )
        for precision in precisions
    } | {
        "ours, fom.label": job(checkpoint, device="cpu"),
        "ours, fom.label, 2 workers": job(checkpoint, device="cpu", workers=2),
        "upstream, plain loop": plain_loop(checkpoint),
        "FiftyOne's own": apply_model(builtin(checkpoint), busy),
    }
    dataset = make_dataset(cases)
    rows: dict[str, dict[str, Any]] = {name: {"seconds": [], "busy": 0.0} for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            row, busy[0] = rows[name], 0.0
            start = time.perf_counter()
            way(dataset)
            seconds = time.perf_counter() - start
            if seconds < min(row["seconds"], default=float("inf")):
                row["busy"] = busy[0] / seconds
            row["seconds"].append(seconds)
            masks = dataset.values("masks.detections.mask", unwind=True)
            row["masks"] = sum(mask is not None for mask in masks)
            dataset.delete_sample_field("masks")
    dataset.delete()
    return rows


def timed(owner: Any, name: str, busy: list[float]) -> None:
    """Add the seconds of a method's calls to `busy`."""
    method: Callable = getattr(type(owner), name)

    def run(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        result = method(owner, *args, **kwargs)
        busy[0] += time.perf_counter() - start
        return result

    setattr(owner, name, run)


def main() -> None:
    """Measure and print."""
    from parts import precisions
    from report import in_fiftyone

    from mobilesam import load_model
    from mobilesam.weights import save_checkpoint

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=50, help="use N images at most")
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    _, cases = default_cases(args.limit)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "mobile_sam.pt"
        save_checkpoint(load_model(device="cpu").state_dict(), checkpoint)
        print(in_fiftyone(whole_dataset(cases, checkpoint, precisions(), args.rounds)))


if __name__ == "__main__":
    main()
