"""Low-res logits -> masks in the original frame, region by region, and how stable they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mobilesam.geometry.boxes import Region, tight_region
from mobilesam.geometry.frames import BINARY_MASK_LOGIT, LOW_RES

if TYPE_CHECKING:  # arrays do as well, and then torch is not needed
    from torch import Tensor

# `(row0, column0, row1, column1)` of the 64 x 64 image tokens. A token is 4 x 4 low-res logits.
Tile = tuple[int, int, int, int]
WHOLE_TILE: Tile = (0, 0, 64, 64)
# The map from the low-res frame to the image, rows (H, 256) and columns (W, 256): `ResizeLongestSide.upscale_matrices`.
Matrices = tuple["Tensor", "Tensor"]
# More than a weighted mean of logits up to 100 can be off in float32.
ROUNDING = 1e-3


@dataclass(frozen=True, eq=False)
class Crop:
    """Pixels of an image, kept as a part of it.

    Attributes:
        region: `(x0, y0, x1, y1)` whole pixels of the original image, right and bottom exclusive; zeros if empty.
        mask: (y1 - y0, x1 - x0) bool.
    """

    region: Region
    mask: np.ndarray

    @property
    def area(self) -> int:
        """Number of pixels in the mask."""
        return int(self.mask.sum())

    def full(self, original_hw: tuple[int, int]) -> np.ndarray:
        """Return the mask as a (H, W) bool array of the whole image."""
        mask = np.zeros(original_hw, dtype=bool)
        x0, y0, x1, y1 = self.region
        mask[y0:y1, x0:x1] = self.mask
        return mask

    def iou(self, other: Crop) -> float:
        """Return the intersection over union with other pixels of the same image; 1 if both are none."""
        low, high = np.maximum(self.region[:2], other.region[:2]), np.minimum(self.region[2:], other.region[2:])
        shared = 0
        if (low < high).all():
            (x0, y0), (x1, y1) = low, high
            mine, theirs = (
                crop.mask[y0 - crop.region[1] : y1 - crop.region[1], x0 - crop.region[0] : x1 - crop.region[0]]
                for crop in (self, other)
            )
            shared = int((mine & theirs).sum())
        union = self.area + other.area - shared
        return shared / union if union else 1.0


@dataclass(frozen=True, eq=False)
class MaskCrop(Crop):
    """One mask of the model, kept as its tight crop.

    Attributes:
        iou_prediction: the model's own estimate of the IoU with the true mask. Can pass 1.
        stability_score: see `stability_score`.
        low_res_logits: (256, 256) float32, if they were asked for. `logits[None]` can be the next `mask_input`.
        mask_quality: the IoU with a person's mask that is to be expected, see docs/accuracy.md; None where it is not
            known, or where others got more than half of the mask.
        logits: (y1 - y0, x1 - x0) float32 of the mask's pixels, if they were asked for.
        pixels_moved: how many of its pixels other masks got, if masks were not to overlap.
    """

    iou_prediction: float
    stability_score: float
    low_res_logits: np.ndarray | None = None
    mask_quality: float | None = None
    logits: np.ndarray | None = None
    pixels_moved: int | None = None


def tile_for(matrices: Matrices, region: Region) -> Tile:
    """Return the image tokens whose logits a region of the original image is upscaled from."""
    # The further down a row of the image, the further down the logits it reads: its first and last row say all.
    (r0, r1), (c0, c1) = (
        (int(matrix[start].nonzero()[0]) // 4, int(matrix[stop - 1].nonzero()[-1]) // 4 + 1)
        for matrix, start, stop in ((matrices[0], region[1], region[3]), (matrices[1], region[0], region[2]))
    )
    return r0, c0, r1, c1


def upscale_logits(
    low_res_logits: Tensor,
    matrices: Matrices,
    region: Region,
    tile: Tile = WHOLE_TILE,
    *,
    linear: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Upscale (..., 256, 256) logits for one region of the original image, to (..., y1 - y0, x1 - x0) float32.

    Gives the values of `Sam.postprocess_masks` inside the region, to float rounding, without a full-image float stack.
    The logits may be the part that a `tile` covers, which must hold `tile_for(matrices, region)`. `linear` is a quicker
    `F.linear`, such as `mobilesam.fast.products.linear`.
    """
    x0, y0, x1, y1 = region
    r0, c0, r1, c1 = (4 * edge for edge in tile)
    rows, columns = matrices
    tall, columns = rows[y0:y1, r0:r1] @ low_res_logits, columns[x0:x1, c0:c1]
    # A part of a matrix has gaps between its rows; oneDNN gets its weights without.
    return linear(tall, columns.contiguous()) if linear else tall @ columns.T


def whole_logits(tile_logits: Tensor, tile: Tile) -> Tensor:
    """Return (256, 256) low-res logits that are background outside of a tile."""
    if tile == WHOLE_TILE:
        return tile_logits
    r0, c0, r1, c1 = (4 * edge for edge in tile)
    logits = tile_logits.new_full((LOW_RES, LOW_RES), -BINARY_MASK_LOGIT)
    logits[r0:r1, c0:c1] = tile_logits
    return logits


def region_above(low_res_logits: Tensor, matrices: Matrices, threshold: float) -> Region:
    """Return a region of the original image outside of which no upscaled logit is above a threshold; zeros if none is.

    An upscaled logit is a weighted mean of the (256, 256) low-res logits, so it is above only where one of them is.
    """
    x0, y0, x1, y1 = tight_region((low_res_logits > threshold - ROUNDING).cpu().numpy())
    rows, columns = (
        matrix[:, start:stop].any(dim=1).nonzero()
        for matrix, start, stop in zip(matrices, (y0, x0), (y1, x1), strict=True)
    )
    if not (len(rows) and len(columns)):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def stability_score(logits: Tensor, *, mask_threshold: float = 0.0, offset: float = 1.0) -> Tensor:
    """Return the IoU between a mask cut at threshold + offset and at threshold - offset; 0 for an empty mask.

    (..., H, W) logits -> (...,) float32.

    Source: the definition in Segment Anything's `utils/amg.py`, which gives NaN for an empty mask.
    """
    intersection, union = _count(logits > mask_threshold + offset), _count(logits > mask_threshold - offset)
    return intersection / union.clip(min=1)  # an empty mask has no pixels in either: 0


@dataclass(frozen=True, eq=False)
class Cut:
    """A mask to be cut out: (h, w) logits of a region, and what its `MaskCrop` says beside them."""

    logits: Tensor | np.ndarray
    region: Region
    iou_prediction: float
    low_res_logits: Tensor | np.ndarray | None = None


def crop_masks(
    cuts: Sequence[Cut], *, mask_threshold: float, stability_offset: float = 1.0, keep_logits: bool = False
) -> list[MaskCrop]:
    """Cut logits at the threshold and keep the tight crops, of several masks with one transfer from a GPU."""
    found = fetched(
        [
            (
                cut.logits > mask_threshold,
                stability_score(cut.logits, mask_threshold=mask_threshold, offset=stability_offset),
                cut.logits if keep_logits else None,
                cut.low_res_logits,
            )
            for cut in cuts
        ]
    )
    crops = []
    for cut, (mask, stability, logits, low_res) in zip(cuts, found, strict=True):
        x0, y0, x1, y1 = tight_region(mask)
        x, y = cut.region[:2]
        tight = (x0 + x, y0 + y, x1 + x, y1 + y) if x1 else (0, 0, 0, 0)
        # Copies, as a view would keep the mask of the whole region in memory.
        own = logits[y0:y1, x0:x1].astype(np.float32, copy=True) if keep_logits else None
        low_res = None if low_res is None else low_res.astype(np.float32, copy=False)
        mask = mask[y0:y1, x0:x1].copy()
        crops.append(MaskCrop(tight, mask, cut.iou_prediction, float(stability), low_res, logits=own))
    return crops


def crop_mask(logits: Tensor | np.ndarray, region: Region, *, iou_prediction: float, **options: Any) -> MaskCrop:
    """Cut one mask out, see `Cut` and `crop_masks`."""
    [crop] = crop_masks([Cut(logits, region, iou_prediction, options.pop("low_res_logits", None))], **options)
    return crop


def fetched(rows: Sequence[tuple]) -> list[tuple]:
    """Return what is in tuples, tensors or None, as arrays; from a GPU in one transfer, which is waited for once."""
    tensors = [x for row in rows for x in row if getattr(x, "is_cuda", False)]
    arrays = iter(together(tensors) if tensors else [])
    return [tuple(next(arrays) if getattr(x, "is_cuda", False) else to_numpy(x) for x in row) for row in rows]


def together(tensors: Sequence[Tensor]) -> list[np.ndarray]:
    """Bring tensors of any types and shapes to the CPU as one block of bytes, and return them as arrays."""
    import torch

    flat = [x.detach().contiguous().view(-1).view(torch.uint8) for x in tensors]
    parts = torch.cat(flat).cpu().split([len(part) for part in flat])
    # A copy of each, as a type must begin at a multiple of its size.
    return [part.clone().view(x.dtype).view(x.shape).numpy() for part, x in zip(parts, tensors, strict=True)]


def interior_point(mask: np.ndarray) -> tuple[float, float]:
    """Return the centre (x, y) of the pixel of a (H, W) bool mask that is farthest from its border."""
    import cv2  # late: `mobilesam.runtime` does without

    depth = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return float(x) + 0.5, float(y) + 0.5


def _count(mask: Tensor | np.ndarray) -> Tensor | np.ndarray:
    """Count the pixels of (..., H, W) masks."""
    if isinstance(mask, np.ndarray):
        return mask.sum((-1, -2))
    import torch

    return mask.sum((-1, -2), dtype=torch.int32)  # a third of the time of int64


def to_numpy(values: Tensor | np.ndarray) -> np.ndarray:
    """Return a tensor, on whichever device, as an array; anything else as it is."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else values
