"""Would products of 8 bits pay? The encoder's linear layers on VNNI, with scales from images that are not scored.

`python benchmarks/int8.py` prints the agreement with the masks of fp32 and the milliseconds an image, all in turns.
What it tries lives here only, and calls torch's private `onednn` operators.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from data import ROOT, Case, default_cases
from environment import environment
from report import table
from timm.models.tiny_vit import TinyVitBlock
from torch import Tensor, nn

from mobilesam import ImageEmbedding, Sam, SamPredictor, load_model, make_prompts
from mobilesam.fast import encoder as fast_encoder
from mobilesam.fast.encoder import STRIP_ROWS, FastEncoder
from mobilesam.fast.products import GELU, NO_ACTIVATION
from mobilesam.fast.window_attention import WindowAttention
from mobilesam.geometry import snap_outward
from mobilesam.images import read_image
from mobilesam.quality.metrics import mask_iou

CALIBRATION = ROOT.parent / "shared" / "data" / "coco_union"
Ranges = dict[nn.Linear, tuple[float, int]]  # scale and zero point of a layer's input, as uint8


@torch.no_grad()
def calibrate(sam: Sam, images: list[Tensor]) -> Ranges:
    """Return the scale and zero point that hold all that linear layers are given in these images."""
    layers = [module for module in sam.image_encoder.trunk.modules() if isinstance(module, nn.Linear)]
    least, most = dict.fromkeys(layers, 0.0), dict.fromkeys(layers, 0.0)

    def look(layer: nn.Linear, inputs: tuple[Tensor]) -> None:
        least[layer] = min(least[layer], inputs[0].min().item())
        most[layer] = max(most[layer], inputs[0].max().item())

    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    for pixels in images:
        sam.encode_image(pixels)
    for hook in hooks:
        hook.remove()
    scales = {layer: (most[layer] - least[layer]) / 255 or 1.0 for layer in layers}
    return {layer: (scale, round(-least[layer] / scale)) for layer, scale in scales.items()}


def quantised(x: Tensor, scale: float, zero_point: int) -> Tensor:
    """Return float numbers as uint8."""
    return torch.quantize_per_tensor(x.float(), scale, zero_point, torch.quint8).int_repr()


def product(weight: Tensor, bias: Tensor, given: tuple, made: tuple, dtype: torch.dtype, activation: tuple) -> Callable:
    """Return a linear layer on uint8, its weights int8 with a scale for each output."""
    scales = weight.abs().amax(dim=1) / 127
    packed = torch.ops.onednn.qlinear_prepack((weight / scales[:, None]).round().to(torch.int8), None)
    points, bias = torch.zeros(len(scales), dtype=torch.int64), bias.detach().float()

    def run(x: Tensor) -> Tensor:
        out = torch.ops.onednn.qlinear_pointwise(
            x.flatten(0, -2), *given, packed, scales, points, bias, *made, dtype, *activation
        )
        return out.unflatten(0, x.shape[:-1])

    return run


@contextmanager
def in_8_bits(ranges: Ranges, *, attention_too: bool) -> Iterator[None]:
    """Encoders made meanwhile have int8 in the feed-forward halves, or in all linear layers, of their blocks."""
    plain = fast_encoder._attention_block

    def whole(
        layer: nn.Linear, dtype: torch.dtype, weight: Tensor | None = None, bias: Tensor | None = None
    ) -> Callable:
        weight, bias = (layer.weight.detach() if weight is None else weight), (layer.bias if bias is None else bias)
        run = product(weight, bias, ranges[layer], (1.0, 0), dtype, NO_ACTIVATION)
        return lambda x: run(quantised(x, *ranges[layer]))

    def block(module: TinyVitBlock, dtype: torch.dtype) -> Callable:
        attention = WindowAttention(module.attn, module.window_size, dtype)
        if attention_too:
            weight, bias = module.attn.qkv.weight.detach().clone(), module.attn.qkv.bias.detach().clone()
            for parameter in (weight, bias):
                parameter.unflatten(0, (module.attn.num_heads, 3, -1))[:, 0] *= module.attn.scale
            attention.project_in = whole(module.attn.qkv, dtype, weight, bias)
            attention.project_out = whole(module.attn.proj, dtype)
        convolve, (one, two) = fast_encoder._conv(module.local_conv, dtype), (module.mlp.fc1, module.mlp.fc2)
        # What lies between them is written as uint8 in the first place.
        widen = product(one.weight.detach(), one.bias, ranges[one], ranges[two], torch.uint8, GELU)
        narrow = product(two.weight.detach(), two.bias, ranges[two], (1.0, 0), dtype, NO_ACTIVATION)

        def run(x: Tensor) -> Tensor:
            attention.add_to(x.permute(0, 2, 3, 1)[0])
            rows = convolve(x).permute(0, 2, 3, 1)
            normed = module.mlp.norm(rows)
            for strip, normed_strip in zip(rows.split(STRIP_ROWS, 1), normed.split(STRIP_ROWS, 1), strict=True):
                strip += narrow(widen(quantised(normed_strip, *ranges[one])))
            return rows.permute(0, 3, 1, 2)

        return run

    fast_encoder._attention_block = block
    try:
        yield
    finally:
        fast_encoder._attention_block = plain


def masks(predictor: SamPredictor, features: Tensor, case: Case) -> list[np.ndarray]:
    """Return the masks of a case's boxes in an embedding, (H, W) each, in its box only."""
    hw = read_image(case[0]).shape[:2]
    image = ImageEmbedding(features, hw, predictor.transform.input_hw(hw))
    regions = [snap_outward(box, original_hw=hw) for box in case[1]]
    found = predictor.predict_batch(make_prompts(boxes=case[1]), image=image, regions=regions)
    return [crop.full(hw) for [crop] in found]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=20, help="score N images at most")
    parser.add_argument("--calibrate", type=Path, default=CALIBRATION, help="folder of other images, for the scales")
    args = parser.parse_args()
    sam = load_model(device="cpu")
    predictor = SamPredictor(sam, fast=True)
    name, cases = default_cases(args.limit)
    scored = {path.name for path, *_ in cases}
    others = [path for path in sorted(args.calibrate.rglob("*.jpg")) if path.name not in scored][:24]
    ranges = calibrate(sam, [predictor._to_pixels(read_image(path))[None] for path in others])
    encoders = {"fp32": FastEncoder(sam), "bf16": FastEncoder(sam, torch.bfloat16)}
    for what, attention_too in (("the feed-forward halves", False), ("all linear layers", True)):
        with in_8_bits(ranges, attention_too=attention_too):
            for rest, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
                encoders[f"int8 in {what}, {rest} elsewhere"] = FastEncoder(sam, dtype)
    spent, agreement = {name: [] for name in encoders}, {name: [] for name in encoders}
    for case in cases:
        pixels, found = predictor._to_pixels(read_image(case[0]))[None], {}
        for row, encoder in encoders.items():
            encoder(pixels)
            start = time.perf_counter()
            features = encoder(pixels)
            spent[row].append(1000 * (time.perf_counter() - start))
            found[row] = masks(predictor, features, case)
            agreement[row] += map(mask_iou, found[row], found["fp32"])
    lines = [
        [row, f"{np.quantile(spent[row], 0.25):.0f}", f"{np.mean(agreement[row]):.5f} ({min(agreement[row]):.3f})"]
        for row in encoders
    ]
    print(table(["encoder", "ms, lower quartile", "IoU with the masks of fp32, mean (least)"], lines))
    boxes = sum(len(boxes) for _, boxes, _ in cases)
    print(f"\n{name}, {len(cases)} images with {boxes} boxes, scales from {len(others)} others; {environment()}")


if __name__ == "__main__":
    main()
