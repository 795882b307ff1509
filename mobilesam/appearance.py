"""What an object looks like to the encoder, and where else in an image it looks so."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mobilesam.geometry import ImageEmbedding, MaskCrop

CELL = 16  # pixels of the input frame a feature of the embedding


def look_of(crop: MaskCrop, image: ImageEmbedding) -> Tensor:
    """Return the mean of the image embedding in a mask that has low-res logits, (256,); zeros if it is empty."""
    features = image.features[0]
    inside = torch.as_tensor(crop.low_res_logits > 0, dtype=features.dtype, device=features.device)
    share = F.avg_pool2d(inside[None], 4)[0]  # (64, 64)
    return (features * share).sum((1, 2)) / share.sum().clamp(min=1e-6)


def likeness(a: Tensor, b: Tensor) -> float:
    """Return how much two looks are alike, in [-1, 1]."""
    return float(F.cosine_similarity(a, b, dim=0))


def places_like(
    look: Tensor, image: ImageEmbedding, size: tuple[float, float], count: int
) -> list[tuple[float, float]]:
    """Return points of the original image where it looks most like an object, best first.

    Args:
        look: the object's, from `look_of`.
        image: the embedding.
        size: its width and height in pixels of the original image; no two points are closer.
        count: how many points.
    """
    scale = image.input_hw[0] / image.original_hw[0]
    height, width = (max(1, round(side / CELL)) for side in image.input_hw)
    alike = F.cosine_similarity(look[:, None, None], image.features[0, :, :height, :width], dim=0)  # without padding
    columns, rows = (max(1, round(side * scale / CELL)) for side in size)
    around = [min(cells, 5, limit) // 2 for cells, limit in ((rows, height), (columns, width))]
    alike = F.avg_pool2d(alike[None], [2 * cells + 1 for cells in around], 1, around, count_include_pad=False)[0]
    places = []
    for _ in range(count):
        row, column = divmod(int(alike.argmax()), width)
        x, y = (column + 0.5) * CELL / scale, (row + 0.5) * CELL / scale
        places.append((min(x, image.original_hw[1] - 1), min(y, image.original_hw[0] - 1)))
        top, left = max(0, row - rows // 2), max(0, column - columns // 2)
        alike[top : row + rows // 2 + 1, left : column + columns // 2 + 1] = -2
    return places
