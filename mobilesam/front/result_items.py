"""The boxes and masks of one image's `Results`, one entry an object."""

import operator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mobilesam.geometry.masks import to_numpy
from mobilesam.geometry.polygons import contours

Array = Tensor | np.ndarray


class OnDevice:
    """What has `to`, and with it these."""

    def cpu(self) -> Any:
        """Return a copy on the CPU."""
        return self.to("cpu")

    def cuda(self) -> Any:
        """Return a copy on the GPU."""
        return self.to("cuda")


class _Items(OnDevice):
    """One entry an object: the shared half of `Boxes` and `Masks`. `data` is (N, ...), a tensor or an array."""

    def __init__(self, data: Array, orig_shape: tuple[int, int]):
        self.data = data
        self.orig_shape = orig_shape

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: Any) -> Any:
        return type(self)(self.data[as_rows(index)], self.orig_shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `data`."""
        return tuple(self.data.shape)

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Return a copy as `torch.Tensor.to` makes it."""
        return type(self)(torch.as_tensor(self.data).to(*args, **kwargs), self.orig_shape)

    def numpy(self) -> Any:
        """Return a copy as arrays."""
        return type(self)(to_numpy(self.data), self.orig_shape)


class Boxes(_Items):
    """Boxes around masks.

    Pixels of the original image. As Ultralytics has it, `x2` and `y2` are the last pixel of the object, not the edge
    behind it: add 1 for the exclusive edges that the rest of this package uses, or take `xyxy_exclusive`.

    Attributes:
        data: (N, 6) float32: x1, y1, x2, y2, score, index of the prompt.
        orig_shape: (H, W) of the image.
    """

    id = None
    is_track = False

    @property
    def xyxy(self) -> Array:
        """(N, 4), the last pixel inclusive."""
        return self.data[:, :4]

    @property
    def xyxy_exclusive(self) -> Array:
        """(N, 4), right and bottom edges exclusive."""
        return self.xyxy + self._row([0, 0, 1, 1])

    @property
    def conf(self) -> Array:
        """(N,) the model's own estimate of the mask's IoU. Can pass 1."""
        return self.data[:, 4]

    @property
    def cls(self) -> Array:
        """(N,) index of the prompt; with `multimask_output` 3 * prompt + candidate."""
        return self.data[:, 5]

    @property
    def xywh(self) -> Array:
        """(N, 4) centre, width, height."""
        stack = np.stack if isinstance(self.data, np.ndarray) else torch.stack
        x1, y1, x2, y2 = (self.data[:, i] for i in range(4))
        return stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], -1)

    @property
    def xyxyn(self) -> Array:
        """(N, 4) `xyxy` in fractions of the image."""
        return self.xyxy / self._size()

    @property
    def xywhn(self) -> Array:
        """(N, 4) `xywh` in fractions of the image."""
        return self.xywh / self._size()

    def _size(self) -> Array:
        height, width = self.orig_shape
        return self._row([width, height, width, height])

    def _row(self, values: list[float]) -> Array:
        return np.float32(values) if isinstance(self.data, np.ndarray) else self.data.new_tensor(values)


class Masks(_Items):
    """Masks of the original image.

    Attributes:
        data: (N, H, W) bool.
        orig_shape: (H, W) of the image.
    """

    @cached_property
    def xy(self) -> list[np.ndarray]:
        """Per mask a polygon (K, 2) float32 of pixels: its outer contours, one after the other, without holes."""
        return [contours(mask) for mask in to_numpy(self.data)]

    @cached_property
    def xyn(self) -> list[np.ndarray]:
        """`xy` in fractions of the image."""
        size = np.float32(self.orig_shape[::-1])
        return [polygon / size for polygon in self.xy]


def boxes_of(data: Array, orig_shape: tuple[int, int]) -> Boxes:
    """Return (N, 6), or (6,) of one object, as boxes that end at the edges of the image; a ValueError for others."""
    rows = torch.as_tensor(data).float()
    if rows.shape[-1:] != (6,) or rows.ndim not in (1, 2):
        raise ValueError(f"boxes must have shape (N, 6), x1, y1, x2, y2, score and class, got {tuple(rows.shape)}.")
    rows = rows.reshape(-1, 6).clone()
    height, width = orig_shape
    rows[:, 0:4:2] = rows[:, 0:4:2].clamp(0, width)
    rows[:, 1:4:2] = rows[:, 1:4:2].clamp(0, height)
    return Boxes(rows if torch.is_tensor(data) else to_numpy(rows), orig_shape)


def masks_of(data: Array, orig_shape: tuple[int, int]) -> Masks:
    """Return (N, H, W), or (H, W) of one object, as masks of the image; a ValueError for others."""
    if tuple(data.shape[-2:]) != tuple(orig_shape) or data.ndim not in (2, 3):
        height, width = orig_shape
        raise ValueError(f"masks must have shape (N, {height}, {width}), got {tuple(data.shape)}.")
    return Masks((data != 0).reshape(-1, *orig_shape), orig_shape)


def as_rows(index: Any) -> Any:
    """Return an index that keeps the first axis: a list of one row for a number of any kind, others as they are."""
    try:
        return [operator.index(index)]
    except TypeError:
        return index
