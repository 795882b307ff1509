"""Does an exported pair say what the model says? Measured before a file is kept."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mobilesam.export.graphs import Graph
from mobilesam.geometry import tight_region
from mobilesam.geometry.transforms import ResizeLongestSide
from mobilesam.selftest import scene

Run = Callable[[tuple[Tensor, ...]], Sequence[Tensor]]


class Agreement(NamedTuple):
    """How two models agree on the masks of generated scenes."""

    masks: int  # how many were compared
    logits_max_difference: float  # of low-res logits, which the masks are cut from
    iou_mean: float
    iou_min: float


def measure(encoder: Graph, decoder: Graph, logits: str, run_encoder: Run, run_decoder: Run) -> Agreement:
    """Compare one output of the decoder, run in torch, with what the exported files make of the same images."""
    index = list(decoder.outputs).index(logits)
    differences, ious = [], []
    for image, prompts in scenes():
        inputs = encoder.feed(image)
        with torch.no_grad():
            expected = encoder(*inputs)
        expected = expected if isinstance(expected, tuple) else (expected,)
        got = tuple(run_encoder(inputs))
        for coords, labels in prompts:
            with torch.no_grad():
                a = decoder(*decoder.feed(expected, coords, labels, image.shape[:2]))[index]
            b = run_decoder(decoder.feed(got, coords, labels, image.shape[:2]))[index]
            differences.append(float((a - b).abs().max()))
            a, b = a > 0, b > 0
            intersection, union = (a & b).sum((-1, -2)), (a | b).sum((-1, -2))
            ious += torch.where(union > 0, intersection / union.clamp(min=1), 1.0).flatten().tolist()
    return Agreement(len(ious), max(differences), float(np.mean(ious)), min(ious))


def scenes() -> Iterator[tuple[np.ndarray, list[tuple[Tensor, Tensor]]]]:
    """Yield images (H, W, 3) uint8 and prompts in their input frame: one point, two points, a box of each object."""
    image, ellipse = scene()
    yield image, list(_prompts(ellipse))
    for seed, original_hw in enumerate([(300, 400), (400, 260)]):
        image, objects = _draw(np.random.default_rng(seed), original_hw)
        yield image, [prompt for mask in objects for prompt in _prompts(mask)]


def _draw(rng: np.random.Generator, original_hw: tuple[int, int]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Draw two striped ellipses and a box, apart from each other, on a noisy slope."""
    height, width = original_hw
    y, x = np.mgrid[:height, :width].astype(np.float64)
    image = 90 + 40 * np.stack([x / width, y / height, 1 - x / width], axis=-1) + rng.normal(0, 6, (height, width, 3))
    masks = []
    for column, kind in enumerate(rng.permutation(3)):
        centre = (column + 0.5) / 3 * width, rng.uniform(0.35, 0.65) * height
        radii = rng.uniform(0.1, 0.15) * width, rng.uniform(0.12, 0.3) * height
        u, v = (x - centre[0]) / radii[0], (y - centre[1]) / radii[1]
        mask = np.maximum(abs(u), abs(v)) <= 1 if kind == 0 else u**2 + v**2 <= 1
        stripes = 12 * np.sin(x / rng.uniform(3, 9) + y / rng.uniform(3, 9))
        image = np.where(mask[..., None], rng.uniform(0, 255, 3) + stripes[..., None], image)
        masks.append(mask)
    return image.clip(0, 255).astype(np.uint8), masks


def _prompts(mask: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
    x0, y0, x1, y1 = tight_region(mask)
    middle, outside = [(x0 + x1) / 2, (y0 + y1) / 2], [x0 / 2, y0 / 2]
    for points, labels in (
        ([middle, [0, 0]], [1, -1]),
        ([middle, outside, [0, 0]], [1, 0, -1]),
        ([[x0, y0], [x1, y1]], [2, 3]),
    ):
        coords = ResizeLongestSide().apply_coords(np.array(points), mask.shape)
        yield torch.tensor(coords[None], dtype=torch.float32), torch.tensor([labels], dtype=torch.float32)
