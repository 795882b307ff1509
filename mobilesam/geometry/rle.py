"""COCO run lengths of a mask, `{"size": [H, W], "counts": ...}`, column by column, background first.

`counts` is a list of numbers, or the text that COCO compresses them to and its tools read. All here take both.
"""

from typing import Any

import numpy as np

# The text has 5 bits a character, lowest first, from "0" on: CONTINUED says that more follow, SIGN that the number is
# negative, if it is the last. From the fourth on it is each number less the one two before.
BITS, SIGN, CONTINUED, FIRST = 5, 0x10, 0x20, ord("0")


def encode(mask: np.ndarray, *, corner: tuple[int, int] = (0, 0), size: tuple[int, int] | None = None) -> dict:
    """Encode a mask (h, w) bool, or, from its crop at the corner `(x0, y0)`, a whole mask of `size` (H, W).

    `counts` is a list.
    """
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


def nothing(original_hw: tuple[int, int]) -> dict[str, Any]:
    """Return an empty mask of an image, its `counts` a text."""
    height, width = original_hw
    return compress({"size": [height, width], "counts": [height * width]})


def compress(rle: dict[str, Any]) -> dict[str, Any]:
    """Return the run lengths with `counts` as a text, as pycocotools and COCO's results have it.

    Source: `rleToString` of the COCO API; without pycocotools.
    """
    if isinstance(rle["counts"], (str, bytes)):
        return {**rle, "counts": _text(rle["counts"])}
    counts = np.asarray(rle["counts"], dtype=np.int64)
    rest = counts.copy()
    rest[3:] -= counts[1:-2]
    columns, written, more = [], [], np.ones(len(rest), dtype=bool)
    while more.any():
        low = rest & (CONTINUED - 1)
        rest >>= BITS
        written.append(more)
        more = more & (rest != -(low & SIGN > 0).astype(np.int64))
        columns.append(low + CONTINUED * more + FIRST)
    characters = np.stack(columns, axis=1)[np.stack(written, axis=1)] if columns else np.empty(0)
    return {**rle, "counts": characters.astype(np.uint8).tobytes().decode("ascii")}


def decode(rle: dict[str, Any]) -> np.ndarray:
    """Return the mask, (H, W) bool.

    Raises:
        ValueError: the run lengths are not those of a mask of that size.
    """
    height, width = rle["size"]
    counts = _counts(rle)
    if (total := int(np.sum(counts))) != height * width:
        raise ValueError(f"counts must be those of {height} x {width} pixels, got those of {total}.")
    runs = np.arange(len(counts)) % 2 == 1
    return np.ascontiguousarray(np.repeat(runs, counts).reshape(width, height).T)


def area(rle: dict[str, Any]) -> int:
    """Return the number of pixels in the mask."""
    return int(np.sum(_counts(rle)[1::2]))


def _counts(rle: dict[str, Any]) -> Any:
    """Return the numbers, whatever they are written as."""
    if not isinstance(rle["counts"], (str, bytes)):
        return rle["counts"]
    characters = np.frombuffer(_text(rle["counts"]).encode("ascii"), dtype=np.uint8).astype(np.int64) - FIRST
    last = np.flatnonzero(characters & CONTINUED == 0)
    if not len(last) or last[-1] != len(characters) - 1:
        raise ValueError(f"counts must be whole, got a text of {len(characters)} characters that is cut off.")
    first = np.append(0, last[:-1] + 1)
    place = np.arange(len(characters)) - np.repeat(first, last - first + 1)
    counts = np.add.reduceat((characters & (CONTINUED - 1)) << BITS * place, first)
    counts -= (characters[last] & SIGN > 0) << BITS * (place[last] + 1)
    for start in (1, 2):
        counts[start::2] = counts[start::2].cumsum()
    return counts


def _text(counts: str | bytes) -> str:
    return counts.decode("ascii") if isinstance(counts, bytes) else counts
