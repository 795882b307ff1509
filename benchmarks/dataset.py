"""From JPEGs on disk to labels in the database: ours in FiftyOne, and FiftyOne's own SAM model with the same weights.

Part of `scripts/bench`, which gives it its rows.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
from data import Case
from PIL import Image


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


def whole_dataset(cases: list[Case], checkpoint: Path, rounds: int = 2) -> dict[str, dict[str, float]]:
    """Apply each model to the whole dataset, in turns.

    Returns:
        Seconds of the fastest round, masks that were written, and for ours the share of the time in the network.
    """
    import fiftyone_mobilesam as fom

    models = {
        "ours": fom.load_model(checkpoint, device="cpu"),
        "ours, bf16": fom.load_model(checkpoint, device="cpu", precision="bf16"),
        "FiftyOne's own": builtin(checkpoint),
    }
    dataset = make_dataset(cases)
    rows: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        for name, model in models.items():
            options = {"batch_size": 4, "num_workers": 2} if name.startswith("ours") else {}
            busy = [0.0]
            if name.startswith("ours"):
                timed(model.predictor, "encode_images", busy)
                timed(model.predictor, "predict_batch", busy)
            start = time.perf_counter()
            dataset.apply_model(model, label_field="masks", prompt_field="detections", progress=False, **options)
            seconds = time.perf_counter() - start
            written = len([m for m in dataset.values("masks.detections.mask", unwind=True) if m is not None])
            if name not in rows or seconds < rows[name]["seconds"]:
                rows[name] = {"seconds": seconds, "masks": written, "busy": busy[0] / seconds}
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
