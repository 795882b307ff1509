"""The helpers of the original's `utils/amg.py`, by their names, for code that imports them.

Boxes are `[x0, y0, x1, y1]` pixels of which the right and bottom ones belong to the mask, as in the original.

Source: the names and results of Segment Anything's `utils/amg.py`.
"""

import math
from collections import UserDict
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mobilesam.geometry import rle as run_lengths
from mobilesam.geometry.masks import stability_score


class MaskData(UserDict):
    """Columns of one length: tensors, arrays or lists, one entry a mask."""

    def __setitem__(self, name: str, column: Tensor | np.ndarray | list) -> None:
        if not isinstance(column, (Tensor, np.ndarray, list)):
            raise TypeError(f"{name} must be a list, an array or a tensor, got {type(column).__name__}.")
        super().__setitem__(name, column)

    def filter(self, keep: Tensor) -> None:
        """Keep the entries that a bool tensor marks, or those at the indices of an integer tensor, in its order."""
        indices = keep.nonzero()[:, 0] if keep.dtype == torch.bool else keep
        for name, column in self.items():
            if isinstance(column, Tensor):
                self[name] = column[indices.to(column.device)]
            elif isinstance(column, np.ndarray):
                self[name] = column[indices.cpu().numpy()]
            else:
                self[name] = [column[i] for i in indices.tolist()]

    def cat(self, new_stats: "MaskData") -> None:
        """Append the entries of another, name by name."""
        for name, new in new_stats.items():
            old = self.get(name)
            if old is None:
                self[name] = new.clone() if isinstance(new, Tensor) else new.copy()
            elif isinstance(new, list):
                self[name] = old + new
            else:
                self[name] = torch.cat([old, new]) if isinstance(new, Tensor) else np.concatenate([old, new])

    def to_numpy(self) -> None:
        """Turn tensors into arrays."""
        for name, column in self.items():
            if isinstance(column, Tensor):
                self[name] = column.detach().cpu().numpy()


def batch_iterator(batch_size: int, *args: Sequence) -> Iterator[list[Any]]:
    """Yield the same slice of each argument, `batch_size` entries at a time."""
    if len({len(arg) for arg in args}) != 1:
        raise ValueError(f"All arguments must have one length, got {[len(arg) for arg in args]}.")
    for start in range(0, len(args[0]), batch_size):
        yield [arg[start : start + batch_size] for arg in args]


def build_point_grid(n_per_side: int) -> np.ndarray:
    """Return the centres of n x n cells of the unit square, row by row, (n * n, 2) xy."""
    centres = np.linspace(1 / (2 * n_per_side), 1 - 1 / (2 * n_per_side), n_per_side)
    x, y = np.meshgrid(centres, centres)
    return np.stack([x, y], axis=-1).reshape(-1, 2)


def build_all_layer_point_grids(n_per_side: int, n_layers: int, scale_per_layer: int) -> list[np.ndarray]:
    """Return a grid for the image and one for each layer of crops, each coarser by `scale_per_layer`."""
    return [build_point_grid(int(n_per_side / scale_per_layer**layer)) for layer in range(n_layers + 1)]


def generate_crop_boxes(
    im_size: tuple[int, ...], n_layers: int, overlap_ratio: float
) -> tuple[list[list[int]], list[int]]:
    """Return the boxes of the image and of its crops, 4, 16, 64, ... a layer, and the layer of each.

    Args:
        im_size: (H, W).
        n_layers: how many layers of crops.
        overlap_ratio: how far the crops of the first layer overlap, as a part of the image's short side.
    """
    height, width = im_size
    crop_boxes, layers = [[0, 0, width, height]], [0]
    for layer in range(1, n_layers + 1):
        count = 2**layer
        overlap = int(overlap_ratio * min(height, width) * (2 / count))
        crop_w, crop_h = (math.ceil((overlap * (count - 1) + side) / count) for side in (width, height))
        corners = product(
            (i * (crop_w - overlap) for i in range(count)), (i * (crop_h - overlap) for i in range(count))
        )
        crop_boxes += [[x, y, min(x + crop_w, width), min(y + crop_h, height)] for x, y in corners]
        layers += [layer] * count**2
    return crop_boxes, layers


def is_box_near_crop_edge(boxes: Tensor, crop_box: list[int], orig_box: list[int], atol: float = 20.0) -> Tensor:
    """Tell which boxes end at an edge of the crop that is not an edge of the image.

    Args:
        boxes: (N, 4) in the crop.
        crop_box: (4,) the crop in the image.
        orig_box: (4,) the image.
        atol: what counts as near, in pixels.

    Returns:
        (N,) bool.
    """
    boxes = uncrop_boxes_xyxy(boxes, crop_box).float()
    near_crop, near_image = ((boxes - boxes.new_tensor(edges)).abs() <= atol for edges in (crop_box, orig_box))
    return (near_crop & ~near_image).any(dim=1)


def uncrop_boxes_xyxy(boxes: Tensor, crop_box: list[int]) -> Tensor:
    """Move boxes (N, 4) or (N, C, 4) from a crop to the image."""
    return boxes + torch.tensor(crop_box[:2] * 2, device=boxes.device)


def uncrop_points(points: Tensor, crop_box: list[int]) -> Tensor:
    """Move points (N, 2) or (N, C, 2) from a crop to the image."""
    return points + torch.tensor(crop_box[:2], device=points.device)


def uncrop_masks(masks: Tensor, crop_box: list[int], orig_h: int, orig_w: int) -> Tensor:
    """Pad masks (..., h, w) of a crop to the image, (..., orig_h, orig_w)."""
    x0, y0, x1, y1 = crop_box
    return F.pad(masks, (x0, orig_w - x1, y0, orig_h - y1))


def box_xyxy_to_xywh(box_xyxy: Tensor | np.ndarray) -> Tensor | np.ndarray:
    """Turn corners (4,) into corner, width and height; width and height are `x1 - x0` and `y1 - y0`."""
    box = box_xyxy.clone() if isinstance(box_xyxy, Tensor) else np.array(box_xyxy)
    box[2:] -= box[:2]
    return box


def batched_mask_to_box(masks: Tensor) -> Tensor:
    """Return the boxes around masks, the last pixels inclusive; zeros for an empty mask.

    Args:
        masks: (..., H, W) bool.

    Returns:
        (..., 4) int64.
    """
    if not masks.numel():
        return torch.zeros(*masks.shape[:-2], 4, dtype=torch.int64, device=masks.device)
    spans = []
    for hit in (masks.any(dim=-2).byte(), masks.any(dim=-1).byte()):  # columns, rows
        spans.append((hit.argmax(dim=-1), hit.shape[-1] - 1 - hit.flip(-1).argmax(dim=-1)))
    (left, right), (top, bottom) = spans
    return torch.stack([left, top, right, bottom], dim=-1) * masks.any(dim=-1).any(dim=-1, keepdim=True)


def calculate_stability_score(masks: Tensor, mask_threshold: float, threshold_offset: float) -> Tensor:
    """Return the IoU of logits (..., H, W) cut at threshold +/- offset, (...,); 0, not NaN, for an empty mask."""
    return stability_score(masks, mask_threshold=mask_threshold, offset=threshold_offset)


def mask_to_rle_pytorch(tensor: Tensor) -> list[dict[str, Any]]:
    """Encode masks (N, H, W) bool as uncompressed COCO run lengths."""
    return [run_lengths.encode(mask) for mask in tensor.detach().cpu().numpy()]


rle_to_mask, area_from_rle = run_lengths.decode, run_lengths.area
coco_encode_rle = run_lengths.compress


def remove_small_regions(mask: np.ndarray, area_thresh: float, mode: str) -> tuple[np.ndarray, bool]:
    """Fill small holes of a mask, or remove its small islands; the largest island always stays.

    Args:
        mask: (H, W) bool.
        area_thresh: regions with fewer pixels go. Pixels that touch at a corner are one region.
        mode: "holes" or "islands".

    Returns:
        The mask, and whether it has changed.

    Raises:
        ValueError: another mode.
    """
    if mode not in ("holes", "islands"):
        raise ValueError(f'mode must be "holes" or "islands", got {mode!r}.')
    holes = mode == "holes"
    _, regions, stats, _ = cv2.connectedComponentsWithStats((mask ^ holes).astype(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    small = areas < area_thresh
    small[0] = False  # all that is not a region: the mask itself, or the background
    if not small.any():
        return mask, False
    inside = small if holes else ~small
    inside[0] = holes
    if not inside.any():  # islands only, all of them small
        inside[1 + areas[1:].argmax()] = True
    return inside[regions], True
