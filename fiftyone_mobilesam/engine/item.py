"""What goes into the engine and what comes out: an item and its outcome, an answer a prompt."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fiftyone_mobilesam.engine.report import Failure
from mobilesam import MaskCrop, Prompt

# {"box": xyxy}, {"points": [[x, y], ...], "labels": [1, ...]}, both, or {"failure": why there is no prompt}. In pixels
# of the image, or in fractions of its sides with "relative": True.
PlainPrompt = dict[str, Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Item:
    """An image on its way to its masks; without pixels, so that it travels to another process.

    Attributes:
        key: names it in its source.
        image: path or URL of its file; of a video with `frame_number`, counted from 1.
        frame_number: in that video, or None.
        size: (width, height) that the image must have, None where any will do.
        prompts: one a record, as the form of the outcome reads them.
        prompt_ids: what its source calls them.
        source_id: what its source calls the image, for people; the key if nothing else is said.
    """

    key: str
    image: str
    frame_number: int | None = None
    size: tuple[Any, Any] | None = None
    prompts: Any = ()
    prompt_ids: list[Any] = field(default_factory=list)
    source_id: Any = None

    def failure(self, why: str, prompt_id: Any = None) -> Failure:
        """Return a failure of the image, or of a prompt in it."""
        return Failure(self.key if self.source_id is None else self.source_id, prompt_id, self.image, why)


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """The pixels (H, W, 3) uint8 RGB of an image, or the reason why there are none."""

    pixels: np.ndarray | None
    failure: str | None = None


@dataclass(frozen=True, eq=False)
class Answer:
    """What became of one prompt.

    Attributes:
        prompt: in pixels of the image, its box clipped to it; None if the prompt cannot be used.
        around: (4,) float64 xyxy pixels around all that the prompt names, clipped to the image, or None.
        crop: the mask, which may be empty, or None.
        failure: why there is no mask; None if there is one.
    """

    prompt: Prompt | None = None
    around: np.ndarray | None = None
    crop: MaskCrop | None = None
    failure: str | None = None


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of an item.

    Attributes:
        key: of the item.
        content: what the sink keeps; None if the whole item failed.
        masks: number of masks that were made.
        failures: of the item, or of its prompts.
        empty: whether there was no prompt, and nothing was found.
        unchanged: whether the sink has all of this already.
        original_hw: size of the image, None if it could not be read.
        tracks: number of tracks that began here.
        ended: tracks that ended here: `(key, index of the track, why)`.
    """

    key: str
    content: Any = None
    masks: int = 0
    failures: list[Failure] = field(default_factory=list)
    empty: bool = False
    unchanged: bool = False
    original_hw: tuple[int, int] | None = None
    tracks: int = 0
    ended: list[tuple[str, int, str]] = field(default_factory=list)


def failed(item: Item, why: str) -> Outcome:
    """Return the outcome of an item that could not be used."""
    return Outcome(item.key, failures=[item.failure(why)])
