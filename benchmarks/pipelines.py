"""The pipelines that are compared, each a function `(path, boxes) -> masks` that is made in a process of its own.

Masks come back as (H, W) bool arrays, one a box, in order. Only the loading happens before the function is returned.
"""

import tempfile
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mobilesam.fast.backend import multiplies_bfloat16

Run = Callable[[Path, np.ndarray], list[np.ndarray]]


def ours(checkpoint: Path, *, keep: bool = True, openvino: str | None = None, **options) -> Run:
    """Our predictor, each mask in its box only. Returns no masks without `keep`: 2,000 of 12 megapixels are 24 GB.

    With `openvino`, "f32" or "bf16", OpenVINO encodes the images in that precision.
    """
    from mobilesam import SamPredictor, build_sam_vit_t, make_prompts
    from mobilesam.geometry import snap_outward
    from mobilesam.images import read_image

    predictor = SamPredictor(build_sam_vit_t(checkpoint), **options)
    if openvino:
        predictor.backend.encode_image = openvino_encoder(predictor.model.image_encoder, openvino)

    def run(path: Path, boxes: np.ndarray) -> list[np.ndarray]:
        image = read_image(path)
        predictor.set_image(image)
        regions = [snap_outward(box, original_hw=image.shape[:2]) for box in boxes]
        found = predictor.predict_batch(make_prompts(boxes=boxes), regions=regions)
        return [crop.full(image.shape[:2]) for [crop] in found] if keep else []

    return run


def openvino_encoder(module: torch.nn.Module, precision: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the image encoder as OpenVINO runs it, in "f32" or "bf16"."""
    import openvino

    example = torch.zeros(1, 3, 1024, 1024)
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    options["INFERENCE_NUM_THREADS"] = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder, "encoder.onnx")
        torch.onnx.export(module, (example,), path, opset_version=17, dynamo=False)
        compiled = openvino.Core().compile_model(path, "CPU", options)
    return lambda pixels: torch.from_numpy(compiled(pixels.numpy())[0])


def upstream(checkpoint: Path) -> Run:
    """Upstream's code unchanged, all boxes of an image in one call."""
    import mobile_sam

    # A second `.eval()`: upstream gathers attention biases before it loads weights.
    predictor = mobile_sam.SamPredictor(mobile_sam.sam_model_registry["vit_t"](str(checkpoint)).eval())

    def run(path: Path, boxes: np.ndarray) -> list[np.ndarray]:
        image = np.asarray(Image.open(path).convert("RGB"))
        predictor.set_image(image)
        inputs = predictor.transform.apply_boxes(boxes, image.shape[:2])
        inputs = torch.as_tensor(inputs, dtype=torch.float)
        masks, _, _ = predictor.predict_torch(None, None, inputs, multimask_output=False)
        return list(masks[:, 0].numpy())

    return run


def upstream_one_by_one(checkpoint: Path) -> Run:
    """Upstream's code unchanged, one call a box, as its notebooks do it."""
    import mobile_sam

    predictor = mobile_sam.SamPredictor(mobile_sam.sam_model_registry["vit_t"](str(checkpoint)).eval())

    def run(path: Path, boxes: np.ndarray) -> list[np.ndarray]:
        predictor.set_image(np.asarray(Image.open(path).convert("RGB")))
        return [predictor.predict(box=box, multimask_output=False)[0][0] for box in boxes]

    return run


def ultralytics(checkpoint: Path, *, all_threads: bool = False) -> Run:
    """Ultralytics' `SAM.predict` with all boxes of an image; it takes the cores less one unless told otherwise."""
    threads = torch.get_num_threads()
    import ultralytics

    model = ultralytics.SAM(str(checkpoint))

    def run(path: Path, boxes: np.ndarray) -> list[np.ndarray]:
        if all_threads:
            torch.set_num_threads(threads)
        [result] = model.predict(str(path), bboxes=boxes.tolist(), device="cpu", verbose=False, save=False, conf=0.0)
        return list(result.masks.data.numpy())

    return run


def fastsam(network: str) -> Run:
    """FastSAM's network with random weights; it has no masks to give."""
    import ultralytics

    model = ultralytics.YOLO(network)

    def run(path: Path, boxes: np.ndarray) -> list[np.ndarray]:
        model.predict(str(path), imgsz=1024, conf=0.9, device="cpu", verbose=False, save=False)
        return []

    return run


FASTSAM = {"FastSAM-s": "yolov8s-seg.yaml", "FastSAM-x": "yolov8x-seg.yaml"}

# Name in the table -> how it is made, and what its process has in its environment.
KEEP_BLOCKS = {"GLIBC_TUNABLES": "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=2147483647"}
PIPELINES: dict[str, tuple[Callable[[Path], Run], dict[str, str]]] = {
    "ours": (lambda path: ours(path, fast=True), {}),
    "ours, bf16": (lambda path: ours(path, precision="bf16"), {}),
    "encoder in OpenVINO": (lambda path: ours(path, fast=True, openvino="f32"), {}),
    "encoder in OpenVINO, bf16": (lambda path: ours(path, fast=True, openvino="bf16"), {}),
    "ours, plain path": (lambda path: ours(path), {}),
    "upstream": (upstream, {}),
    "upstream, one box at a time": (upstream_one_by_one, {}),
    "upstream, tuned allocator": (upstream, KEEP_BLOCKS),
    "Ultralytics": (ultralytics, {}),
    "Ultralytics, all cores": (lambda path: ultralytics(path, all_threads=True), {}),
}
COMPARED = list(PIPELINES)
LACKING = [] if find_spec("openvino") else [name for name in COMPARED if "OpenVINO" in name]  # here
LACKING += [] if multiplies_bfloat16(torch.device("cpu")) else [name for name in COMPARED if "bf16" in name]
warnings.simplefilter("ignore")  # the peers' code warns; ours does not
PIPELINES |= {
    "ours, masks dropped": (lambda path: ours(path, fast=True, keep=False), {}),
    **{name: (lambda path, network=network: fastsam(network), {}) for name, network in FASTSAM.items()},
}
REFERENCE = "upstream"
