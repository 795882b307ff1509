"""Uncompressed COCO run lengths: `{"size": [H, W], "counts": [...]}`, column by column, background first."""

from typing import Any

import numpy as np


def encode(mask: np.ndarray, *, corner: tuple[int, int] = (0, 0), size: tuple[int, int] | None = None) -> dict:
    """Encode a mask (h, w) bool, or, from its crop at the corner `(x0, y0)`, a whole mask of `size` (H, W)."""
    height, width = size or mask.shape
    # Background above and below, so that a run that touches the edge begins and ends as well.
    padded = np.zeros((mask.shape[1], mask.shape[0] + 2), dtype=bool)
    padded[:, 1:-1] = mask.T
    # Each column changes an even number of times: in, out, in, out.
    column, row = np.divmod(np.flatnonzero(padded[:, 1:] != padded[:, :-1]), mask.shape[0] + 1)
    starts, stops = ((column + corner[0]) * height + row + corner[1]).reshape(-1, 2).T
    # A run that reaches the last row goes on if the next column starts in the first.
    apart = starts[1:] != stops[:-1]
    starts, stops = starts[np.append(True, apart)[: len(starts)]], stops[np.append(apart, True)[: len(stops)]]
    edges = np.stack([starts, stops], axis=1).ravel()
    counts = np.diff(edges, prepend=0, append=height * width).tolist()
    if len(counts) > 1 and counts[-1] == 0:
        counts.pop()  # pycocotools writes no empty run at the end
    return {"size": [int(height), int(width)], "counts": counts}


def decode(rle: dict[str, Any]) -> np.ndarray:
    """Return the mask, (H, W) bool."""
    height, width = rle["size"]
    runs = np.arange(len(rle["counts"])) % 2 == 1
    return np.ascontiguousarray(np.repeat(runs, rle["counts"]).reshape(width, height).T)


def area(rle: dict[str, Any]) -> int:
    """Return the number of pixels in the mask."""
    return sum(rle["counts"][1::2])
