"""What a review speaks of: a mask and where it is, a change that can be undone, counts."""

from dataclasses import dataclass
from typing import Any

import fiftyone as fo
import numpy as np

from fiftyone_mobilesam.keep import digest


@dataclass(frozen=True)
class MaskRef:
    """Where a mask is: ids of its sample, of the document that holds it (the sample or a frame), and of its label."""

    sample_id: str
    doc_id: str
    label_id: str


@dataclass(frozen=True, eq=False)
class MaskUnderReview:
    """A mask as it was read from the database: the label's document, and its index in the list.

    `frame_number` is None where the file is an image; `prompt` and `prompt_field` where the prompt was deleted, or
    there was none.
    """

    ref: MaskRef
    document: dict[str, Any]
    index: int
    filepath: str
    frame_number: int | None
    prompt: fo.Label | None
    prompt_field: str | None

    @property
    def label(self) -> fo.Detection:
        """The label; a new object at each use."""
        return fo.Detection.from_dict(dict(self.document))

    @property
    def decision(self) -> str | None:
        """What was decided about it, or None."""
        return self.document.get("review")

    @property
    def version(self) -> str:
        """What names the mask as it is, whatever was decided about it."""
        return digest([self.document.get(name) for name in ("mask", "mask_path", "bounding_box", "failure")])


@dataclass(frozen=True, eq=False)
class Change:
    """What one step did to a label, for `Review.undo`: its values before and after; all of it if it was deleted."""

    ref: MaskRef
    action: str
    before: dict[str, Any]
    after: dict[str, Any]
    index: int


@dataclass(frozen=True, eq=False)
class Queue:
    """Masks in the order in which they are best looked at.

    Attributes:
        refs: where they are.
        losses: (N,) what is expected to be wrong with each, 0 to 1.
        learnt: whether decisions until now have a say in that.
    """

    refs: list[MaskRef]
    losses: np.ndarray
    learnt: bool


@dataclass(frozen=True)
class Counts:
    """How many masks of a field are in which state. `failures` have no mask, whatever was decided about them."""

    total: int
    accepted: int
    rejected: int
    failures: int

    @property
    def undecided(self) -> int:
        """Masks without a decision."""
        return self.total - self.accepted - self.rejected
