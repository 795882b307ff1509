"""Plain prompts are checked against the image they are for: the only place where that is done. Needs no torch."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fiftyone_mobilesam.engine.item import Answer, PlainPrompt
from mobilesam import Prompt, PromptError
from mobilesam.geometry import clip_box

NO_MASK = "The model found no pixel of an object for this prompt. Move or enlarge the box, or add a point."


def ask(prompts: Sequence[PlainPrompt], original_hw: tuple[int, int]) -> list[Answer]:
    """Check prompts against the image they are for: an answer each, with a prompt in pixels or a failure."""
    return [_ask(prompt, original_hw) for prompt in prompts]


def _ask(prompt: PlainPrompt, original_hw: tuple[int, int]) -> Answer:
    scale = np.array(original_hw[::-1] if prompt.get("relative") else (1, 1), dtype=np.float64)
    box = points = labels = around = None
    if prompt.get("box") is not None:
        box = np.array(prompt["box"], dtype=np.float64) * np.tile(scale, 2)
        around = _with_area(clip_box(box, original_hw=original_hw))
    try:
        if prompt.get("points"):
            points, labels = _inside(prompt, scale, original_hw)
            if around is None and points is not None:
                around = clip_box(np.concatenate([points.min(axis=0), points.max(axis=0)]), original_hw=original_hw)
        if "failure" in prompt:
            raise PromptError(prompt["failure"])
        if box is None and (labels is None or not (labels == 1).any()):
            height, width = original_hw
            raise PromptError(
                f"A keypoint prompt must have a foreground point in the image of {width} x {height}, got "
                f"{len(prompt.get('points') or ())} points of which none is that. Add one, or a box."
            )
        given = Prompt(box=box, point_coords=points, point_labels=labels)
        given.check_inside(original_hw)
    except PromptError as error:
        return Answer(around=around, failure=str(error))
    return Answer(given if box is None else replace(given, box=clip_box(box, original_hw=original_hw)), around)


def _inside(prompt: PlainPrompt, scale: np.ndarray, original_hw: tuple[int, int]) -> tuple[Any, Any]:
    """Return the points of a prompt that are in the image, (N, 2) pixels and (N,) labels, or None, None.

    A keypoint that a detector put beyond the border is as little use as one that it did not find.
    """
    points, labels = np.array(prompt["points"], dtype=np.float64) * scale, np.array(prompt["labels"])
    inside = ((points >= 0) & (points <= original_hw[::-1])).all(axis=1)
    return (points[inside], labels[inside]) if inside.any() else (None, None)


def _with_area(box: np.ndarray) -> np.ndarray | None:
    return box if np.isfinite(box).all() and box[2] > box[0] and box[3] > box[1] else None
