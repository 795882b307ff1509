"""Plain prompts are checked against the image they are for: the only place where that is done. Needs no torch."""

from dataclasses import replace
from typing import Any

import numpy as np

from fiftyone_mobilesam.engine.item import Answer, PlainPrompt
from fiftyone_mobilesam.engine.outline import draw
from mobilesam import Prompt, PromptError
from mobilesam.geometry import clip_box

LOST = 'All pixels of the mask belong to other objects more clearly. Use overlap="keep", or move the box.'
NO_MASK = "The model found no pixel of an object for this prompt. Move or enlarge the box, or add a point."


def ask(prompt: PlainPrompt, original_hw: tuple[int, int]) -> Answer:
    """Check a prompt against the image it is for: an answer with a prompt in pixels, or with a failure."""
    scale = np.array(original_hw[::-1] if prompt.get("relative") else (1, 1), dtype=np.float64)
    box = clipped = points = labels = around = outline = None
    if prompt.get("box") is not None:
        box = np.array(prompt["box"], dtype=np.float64) * np.tile(scale, 2)
        clipped = clip_box(box, original_hw=original_hw)
        if np.isfinite(clipped).all() and (clipped[2:] > clipped[:2]).all():
            around = clipped
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
        if "outline" in prompt:
            outline = draw(prompt["outline"], scale, original_hw)
            clipped = np.array(outline.region, dtype=np.float64)
    except PromptError as error:
        return Answer(around=around, failure=str(error))
    return Answer(given if box is None else replace(given, box=clipped), around, outline=outline)


def _inside(prompt: PlainPrompt, scale: np.ndarray, original_hw: tuple[int, int]) -> tuple[Any, Any]:
    """Return the points of a prompt that are in the image, (N, 2) pixels and (N,) labels, or None, None.

    A keypoint that a detector put beyond the border is as little use as one that it did not find.
    """
    points, labels = np.array(prompt["points"], dtype=np.float64) * scale, np.array(prompt["labels"])
    inside = ((points >= 0) & (points <= original_hw[::-1])).all(axis=1)
    return (points[inside], labels[inside]) if inside.any() else (None, None)
