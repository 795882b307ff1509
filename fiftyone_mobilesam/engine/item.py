"""What goes into the engine and what comes out: an item and its outcome, an answer a prompt."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fiftyone_mobilesam.engine.report import Failure
from mobilesam import MaskCrop, Prompt
from mobilesam.geometry import Crop
from mobilesam.geometry.skeleton import SKELETON, points_outside, why_implausible

# {"box": xyxy}, {"points": [[x, y], ...], "labels": [1, ...]}, both, or {"failure": why there is no prompt}. In pixels
# of the image, or in fractions of its sides with "relative": True. To refine a mask it has an "outline" as well, see
# `engine/outline.py`.
PlainPrompt = dict[str, Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Item:
    """An image on its way to its masks; without pixels, so that it travels to another process."""

    key: str  # names it in its source
    image: str  # path or URL of its file; of a video with `frame_number`
    frame_number: int | None = None  # counted from 1
    size: tuple[Any, Any] | None = None  # (width, height) that the image must have, None where any will do
    prompts: Any = ()  # one a record, as the form of the outcome reads them
    prompt_ids: list[Any] = field(default_factory=list)  # what its source calls them
    source_id: Any = None  # what its source calls the image, for people; the key if nothing else is said

    @property
    def images(self) -> list["Item"]:
        """The images whose outcomes are wanted: this one."""
        return [self]

    def failure(self, why: str, prompt_id: Any = None) -> Failure:
        """Return a failure of the image, or of a prompt in it."""
        return Failure(self.key if self.source_id is None else self.source_id, prompt_id, self.image, why)


@dataclass(frozen=True, eq=False)
class SequenceItem:
    """Images that one process labels in order, as what is found in one depends on others."""

    all_images: list[Item]
    done: frozenset[str] = frozenset()  # keys of images whose outcomes are there: from a process that died meanwhile

    @property
    def key(self) -> str:
        """The key of its first image."""
        return self.all_images[0].key

    @property
    def images(self) -> list[Item]:
        """The images whose outcomes are wanted."""
        return [image for image in self.all_images if image.key not in self.done]


Unit = Item | SequenceItem  # what one process does as a whole


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """The pixels (H, W, 3) uint8 RGB of an image, or the reason why there are none."""

    pixels: np.ndarray | None
    failure: str | None = None


@dataclass(frozen=True, eq=False)
class Answer:
    """What became of one prompt."""

    prompt: Prompt | None = None  # in pixels of the image, its box clipped to it; None if it cannot be used
    around: np.ndarray | None = None  # (4,) float64 xyxy pixels around all that the prompt names, clipped to the image
    crop: MaskCrop | None = None  # the mask, which may be empty
    failure: str | None = None  # why there is no mask
    outline: Crop | None = None  # the mask that is to be refined

    @property
    def skeleton(self) -> dict[str, Any]:
        """How a mask goes with the points that asked for it: `points_outside`, a share, and `implausible`, a reason.

        {} where there are fewer than 3 foreground points; None each where there is no mask, the reason where it does.
        """
        prompt = self.prompt
        points = () if prompt is None or prompt.point_labels is None else prompt.point_coords[prompt.point_labels == 1]
        if len(points) < SKELETON:
            return {}
        if self.crop is None or self.failure is not None:
            return {"points_outside": None, "implausible": None}
        return {
            "points_outside": points_outside(self.crop, points),
            "implausible": why_implausible(self.crop, points),
        }


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of an item."""

    key: str  # of the item
    content: Any = None  # what the sink keeps; None if the whole item failed
    masks: int = 0  # that were made
    failures: list[Failure] = field(default_factory=list)  # of the item, or of its prompts
    implausible: int = 0  # of the masks, for the skeleton that they were asked for
    empty: bool = False  # there was no prompt, and nothing was found
    unchanged: bool = False  # the sink has all of this already
    original_hw: tuple[int, int] | None = None  # None if the image could not be read
    tracks: int = 0  # that began here
    ended: list[tuple[str, int, str]] = field(default_factory=list)  # here: (key, index of the track, why)


def failed(item: Item, why: str) -> Outcome:
    """Return the outcome of an item that could not be used."""
    return Outcome(item.key, failures=[item.failure(why)])
