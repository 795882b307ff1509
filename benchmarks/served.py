"""What `leaderboard.py` starts: one state of the project, or upstream's code, which answers on its standard output.

It imports nothing of ours but `mobilesam`, whichever `PYTHONPATH` names.

    python benchmarks/served.py ours|upstream CHECKPOINT
"""

import json
import sys
import time

import numpy as np
from PIL import Image


def serve(kind: str, checkpoint: str) -> None:
    """Answer lines of a path and boxes with milliseconds, until there are no more."""
    encode, decode = {"ours": _ours, "upstream": _upstream}[kind](checkpoint)
    for line in sys.stdin:
        path, boxes = json.loads(line)
        image, boxes = np.asarray(Image.open(path).convert("RGB")), np.array(boxes)
        start = time.perf_counter()
        encode(image)
        encoded = time.perf_counter()
        decode(image, boxes)
        spent = (encoded - start, time.perf_counter() - encoded)
        print(json.dumps([1000 * seconds for seconds in spent]), flush=True)


def _ours(checkpoint: str) -> tuple:
    import inspect

    import mobilesam

    sam = mobilesam.sam_model_registry["vit_t"](checkpoint)
    fast = {"fast": True} if "fast" in inspect.signature(mobilesam.SamPredictor.__init__).parameters else {}
    predictor = mobilesam.SamPredictor(sam, **fast)

    def decode(image: np.ndarray, boxes: np.ndarray) -> None:
        low, high = np.floor(boxes[:, :2]).clip(0), np.ceil(boxes[:, 2:]).clip(max=image.shape[1::-1])
        regions = [tuple(map(int, region)) for region in np.concatenate([low, high], axis=1)]
        predictor.predict_batch(mobilesam.make_prompts(boxes=boxes), regions=regions)

    return predictor.set_image, decode


def _upstream(checkpoint: str) -> tuple:
    import mobile_sam
    import torch

    predictor = mobile_sam.SamPredictor(mobile_sam.sam_model_registry["vit_t"](checkpoint).eval())

    def decode(image: np.ndarray, boxes: np.ndarray) -> None:
        inputs = torch.as_tensor(predictor.transform.apply_boxes(boxes, image.shape[:2]), dtype=torch.float)
        predictor.predict_torch(None, None, inputs, multimask_output=False)

    return predictor.set_image, decode


if __name__ == "__main__":
    serve(*sys.argv[1:])
