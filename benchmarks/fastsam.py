"""FastSAM's row: parameters and time of its networks beside ours, on the same image, in turns.

They are YOLOv8-s-seg and YOLOv8-x-seg, built from Ultralytics' own files with random weights: speed does not depend on
what they find. An image goes in at FastSAM's size, 1024 on the longer side.
"""

from pathlib import Path
from statistics import median

import numpy as np
import torch
from pipelines import FASTSAM
from worker import Worker

from mobilesam import Sam

OURS = "ours"


def fastsam(sam: Sam, path: Path, box: np.ndarray, checkpoint: Path, repeats: int = 5) -> dict[str, dict[str, float]]:
    """Return parameters and median milliseconds of an image: ours with one box, which is all that it makes then.

    Args:
        sam: our model, for its parameters.
        path: the image.
        box: (4,) of one object.
        checkpoint: our weights.
        repeats: runs of each, in turns.
    """
    from ultralytics import YOLO

    workers = {name: Worker(name, checkpoint) for name in (OURS, *FASTSAM)}
    spent: dict[str, list[float]] = {name: [] for name in workers}
    for turn in range(repeats + 1):
        for name, worker in workers.items():
            seconds = worker.run(path, box[None])[0]
            spent[name] += [1000 * seconds] if turn else []  # the first warms it up
    for worker in workers.values():
        worker.close()
    models: dict[str, torch.nn.Module] = {OURS: sam, **{name: YOLO(file).model for name, file in FASTSAM.items()}}
    return {
        name: {"parameters": sum(x.numel() for x in model.parameters()), "ms": median(spent[name])}
        for name, model in models.items()
    }
