"""What SAM pads an image with, encoded once: below a photograph of 3 : 2 a third of the encoder's first maps is blank.

Pixels of padding are zeros. A convolution of 3 x 3 sees one row beyond an image's last, a window of attention what is
left of the window. So a few rows below the image, and a few columns right of it, early steps make the same of every
image. They run on the image and a margin, and the rest is taken from what they make of an image of zeros.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ROUNDED = 64  # Sizes of images count as multiples of it: for each new size of a map oneDNN makes new kernels.


@dataclass(frozen=True)
class Part:
    """A step, and how far it sees. Sizes are rows and columns of the map that it makes.

    Attributes:
        step: (1, C, H, W) -> (1, C', H / stride, W / stride). It may overwrite what it is given.
        shows: so far its input's end shows beyond that end.
        spoilt: so much is wrong at the end of what it makes of a part of its input.
        window: its input's end counts as the end of the window of this side that it lies in.
    """

    step: Callable[[Tensor], Tensor]
    stride: int
    shows: int
    spoilt: int
    window: int = 1


class SkipBlank:
    """Runs steps one behind the other, from (1, 3, H, W) pixels on, where something is to be seen."""

    def __init__(self, parts: Sequence[Part]):
        self.parts = parts
        self._blanks: list[Tensor] = []

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return what all steps make of an image."""
        maps, ends = pixels, [_up(end, ROUNDED) for end in image_size(pixels)]
        if ends == list(pixels.shape[-2:]):
            for part in self.parts:
                maps = part.step(maps)
            return maps
        for part, blank in zip(self.parts, self._blanks or self._make_blanks(pixels), strict=True):
            ends = [_up(-(-end // part.stride), part.window) + part.shows for end in ends]
            run = [_up(end + part.spoilt, part.window) * part.stride for end in ends]
            made = part.step(maps[:, :, : run[0], : run[1]])
            maps = blank.clone()
            maps[:, :, : ends[0], : ends[1]] = made[:, :, : ends[0], : ends[1]]
        return maps

    def _make_blanks(self, pixels: Tensor) -> list[Tensor]:
        maps, blanks = torch.zeros_like(pixels), []
        for part in self.parts:
            blanks.append(maps := part.step(maps.clone()))
        self._blanks = blanks  # whole at once: several threads may share an encoder
        return blanks


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def image_size(pixels: Tensor) -> tuple[int, int]:
    """Return height and width of what is not zero in (1, C, H, W), counted from the top left corner."""
    seen = pixels[0].any(dim=0)
    return tuple(int(line.nonzero().max()) + 1 if line.any() else 0 for line in (seen.any(dim=1), seen.any(dim=0)))
