"""Where our time goes: by step, by number of boxes, and beside what the machine could do at most."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

import mobilesam.base_predictor
import mobilesam.fast.products
from mobilesam import Sam, SamPredictor, make_prompts
from mobilesam.fast.backend import multiplies_bfloat16
from mobilesam.fast.decoder import FastDecoder
from mobilesam.geometry import snap_outward
from mobilesam.images import read_image

COUNTS = (1, 4, 16, 64)


def precisions() -> list[str]:
    """Return those that this processor has instructions for."""
    return ["fp32", "bf16"] if multiplies_bfloat16(torch.device("cpu")) else ["fp32"]


def steps(sam: Sam, precision: str, work: list) -> dict[str, float]:
    """Return the milliseconds an image, or a box, of each step: medians over the images."""
    from fiftyone.core.utils import serialize_numpy_array

    predictor = SamPredictor(sam, fast=True, precision=precision)
    rows = defaultdict(list)
    for path, boxes, *_ in work:
        spent: dict[str, float] = defaultdict(float)
        with clock(spent, "read"):
            image = read_image(path)
        with clock(spent, "resize"):
            pixels = predictor._to_pixels(image)
        with clock(spent, "encode"):
            features = predictor.backend.encode_image(pixels[None])
        embedding = mobilesam.ImageEmbedding(features, image.shape[:2], predictor.transform.input_hw(image.shape[:2]))
        regions = [snap_outward(box, original_hw=image.shape[:2]) for box in boxes]
        with timed_masks(spent), clock(spent, "decode"):
            found = predictor.predict_batch(make_prompts(boxes=boxes), image=embedding, regions=regions)
        spent["decode"] -= spent["masks"]
        with clock(spent, "write"):
            for [crop] in found:
                serialize_numpy_array(crop.mask)
        for name, seconds in spent.items():
            each = len(boxes) if name in ("decode", "masks", "write") else 1
            rows[name + (" (a box)" if each > 1 or name in ("decode", "masks", "write") else "")].append(seconds / each)
    return {name: 1000 * median(values) for name, values in rows.items()}


@contextmanager
def clock(spent: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    spent[name] += time.perf_counter() - start


@contextmanager
def timed_masks(spent: dict[str, float]) -> Iterator[None]:
    """Time the upscaling and cutting of masks, which `predict_batch` does between decoded chunks."""
    originals = {name: getattr(mobilesam.base_predictor, name) for name in ("upscale_logits", "crop_masks")}

    def timed(function: Callable) -> Callable:
        def run(*args, **kwargs):
            with clock(spent, "masks"):
                return function(*args, **kwargs)

        return run

    for name, function in originals.items():
        setattr(mobilesam.base_predictor, name, timed(function))
    yield
    for name, function in originals.items():
        setattr(mobilesam.base_predictor, name, function)


def boxes_of(count: int, hw: tuple[int, int], share: float = 0.05) -> np.ndarray:
    """Return boxes at random places, each of the same share of the image."""
    size = np.array(hw[::-1])
    centres = np.random.default_rng(0).uniform(0.15, 0.85, (count, 2)) * size
    half = size * share**0.5 / 2
    return np.concatenate([centres - half, centres + half], axis=1)


def by_boxes(sam: Sam, image: np.ndarray, precision: str, repeats: int = 7) -> dict[int, float]:
    """Return the milliseconds from an encoded image to the masks of 1, 4, 16 and 64 boxes."""
    predictor = SamPredictor(sam, fast=True, precision=precision)
    predictor.set_image(image)
    rows = {}
    for count in COUNTS:
        boxes = boxes_of(count, image.shape[:2])
        regions = [snap_outward(box, original_hw=image.shape[:2]) for box in boxes]
        rows[count] = best_of(
            lambda b=boxes, r=regions: predictor.predict_batch(make_prompts(boxes=b), regions=r), repeats
        )
    return rows


def upstream_by_boxes(checkpoint: Path, image: np.ndarray, repeats: int = 3) -> dict[int, float]:
    """The same for upstream's code, all boxes in one call."""
    import mobile_sam

    predictor = mobile_sam.SamPredictor(mobile_sam.sam_model_registry["vit_t"](str(checkpoint)).eval())
    predictor.set_image(image)
    rows = {}
    for count in COUNTS:
        inputs = predictor.transform.apply_boxes(boxes_of(count, image.shape[:2]), image.shape[:2])
        inputs = torch.as_tensor(inputs, dtype=torch.float)
        rows[count] = best_of(lambda b=inputs: predictor.predict_torch(None, None, b, multimask_output=False), repeats)
    return rows


def best_of(function: Callable, repeats: int) -> float:
    """Return the median milliseconds of some calls, after one to warm up."""
    function()
    spent: dict[str, float] = {}
    times = []
    for _ in range(repeats):
        spent["call"] = 0.0
        with clock(spent, "call"):
            function()
        times.append(1000 * spent["call"])
    return median(times)


def floors(sam: Sam, precisions: list[str]) -> dict[str, float]:
    """Count the operations of an image and of a box, and measure the machine's rate for matrix products.

    Returns:
        GFLOP an image and a box (5% of the image), GFLOP/s in each precision, and from these the least milliseconds.
    """
    pixels = torch.zeros(1, 3, 1024, 1024)
    with torch.no_grad(), FlopCounterMode(display=False) as encoder:
        features = sam.encode_image(pixels)
    whole, rest = [], features.new_zeros(9, 2, 256)
    in_place = {torch.ops.aten.baddbmm_: lambda out, a, b, **_: 2 * a[0] * a[1] * a[2] * b[2]}
    for count in (1, 9):
        with without_onednn(), FlopCounterMode(display=False, custom_mapping=in_place) as decoder:
            fast = FastDecoder(sam)
            found = fast.attend(fast.image_side(features), rest[:count], answers=range(1))
            fast.upscale(found.image_tokens, found.vectors, [(20, 20, 35, 35)] * count)
        whole.append(decoder.get_total_flops())
    result = {
        "GFLOP an image": (encoder.get_total_flops() + whole[0] - (whole[1] - whole[0]) / 8) / 1e9,
        "GFLOP a box": (whole[1] - whole[0]) / 8 / 1e9,
    }
    for name in precisions:
        rate = matrix_rate(torch.bfloat16 if name == "bf16" else torch.float32)
        result[f"GFLOP/s {name}"] = rate
        result[f"least ms an image, {name}"] = 1000 * result["GFLOP an image"] / rate
        result[f"least ms a box, {name}"] = 1000 * result["GFLOP a box"] / rate
    return result


def matrix_rate(dtype: torch.dtype) -> float:
    """Return the GFLOP/s of oneDNN in a product as large as the encoder's largest."""
    rows, inner, columns = 4096, 320, 1280
    x, weight = torch.randn(rows, inner).to(dtype), torch.randn(columns, inner).to(dtype)
    return 2 * rows * inner * columns / 1e6 / best_of(lambda: mobilesam.fast.products.linear(x, weight), 20)


@contextmanager
def without_onednn() -> Iterator[None]:
    """Products where torch can count them."""
    original = mobilesam.fast.products.has_onednn
    mobilesam.fast.products.has_onednn = lambda: False
    yield
    mobilesam.fast.products.has_onednn = original
