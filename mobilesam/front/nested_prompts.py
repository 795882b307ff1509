"""Prompts as Ultralytics nests them: one `Prompt` an object, for one image or for each of several."""

from typing import Any

import numpy as np

from mobilesam.errors import PromptError
from mobilesam.prompts import Prompt, detector_boxes, make_prompts

# How deeply prompts are nested that differ from image to image.
DEPTH_BY_IMAGE = {"bboxes": 3, "points": 4, "labels": 3, "masks": 4}


def split_by_image(count: int, prompts: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Return the prompts of each of `count` images, or None if they are the same for all."""
    given = {name: values for name, values in prompts.items() if values is not None}
    by_image = [name for name, values in given.items() if _is_by_image(name, values)]
    if not by_image:
        return None
    lengths = {name: len(given[name]) for name in by_image}
    if len(by_image) < len(given) or set(lengths.values()) != {count}:
        raise PromptError(
            f"Prompts that differ by image must be lists of {count}, one entry an image, all of them; got "
            f"{', '.join(f'{name} of {len(values)}' for name, values in given.items())}. "
            "Write bboxes=[boxes_of_first, boxes_of_second], each (N, 4)."
        )
    return [{name: values[i] for name, values in given.items()} for i in range(count)]


def _is_by_image(name: str, values: Any) -> bool:
    if not isinstance(values, (list, tuple)):
        return _depth(values) >= DEPTH_BY_IMAGE[name]
    if values and all(hasattr(value, "__len__") and not len(value) for value in values):  # no prompts in any image
        return True
    # An outer list of arrays is a level of its own. `any`, since images without prompts have nothing to measure.
    return any(detector_boxes(value) is not None or 1 + _depth(value) >= DEPTH_BY_IMAGE[name] for value in values)


def parse_prompts(*, bboxes: Any = None, points: Any = None, labels: Any = None, masks: Any = None) -> list[Prompt]:
    """Turn Ultralytics' shapes of prompts into one `Prompt` an object.

    One box or one mask goes with every point set, one point set with every box; else all must name the same number
    of objects. See `MobileSAM.predict` for the shapes.
    """
    if bboxes is None and points is None and labels is None and masks is None:
        raise PromptError("There must be bboxes, points or masks, got none. Pass at least one.")
    columns: dict[str, list] = {}
    if isinstance(bboxes, (list, tuple)) and len(bboxes) == 1 and detector_boxes(bboxes[0]) is not None:
        [bboxes] = bboxes  # Ultralytics' detectors return a list for one image, too
    if (found := detector_boxes(bboxes)) is not None:
        bboxes = found
    if bboxes is not None:
        columns["boxes"] = _rows(bboxes)
        if len(columns["boxes"]) == 1 and np.ndim(columns["boxes"][0]) == 2:  # (1, N, 4), a batch of one image
            columns["boxes"] = list(columns["boxes"][0])
    if points is not None:
        columns["point_coords"], columns["point_labels"] = _point_sets(points, labels)
        if bboxes is None and masks is None:
            _check_foreground(columns["point_labels"])
    elif labels is not None:
        raise PromptError("labels must come with points, got labels alone. Pass the points as well.")
    if masks is not None:
        columns["mask_inputs"] = list(masks) if np.ndim(masks) == 3 else [masks]
    # One box with three points means three objects in that box; one point with three boxes is the same point thrice.
    count = max(len(values) for values in columns.values())
    return make_prompts(**{name: values * count if len(values) == 1 else values for name, values in columns.items()})


def _point_sets(points: Any, labels: Any) -> tuple[list, list]:
    """Return one (K, 2) point set and one (K,) label set an object."""
    depth = _depth(points)
    if depth == 1:  # one object of one point
        points = [[points]] if len(points) else []
    elif depth == 2:  # N objects of one point
        points = [[point] for point in points]
    points = list(points)
    if labels is None:
        return points, [None] * len(points)
    if _depth(labels) == 0:
        labels = [[labels] * (len(one) if hasattr(one, "__len__") else 1) for one in points]
    elif _depth(labels) == 1:  # one label a point of one object, or one an object: the points tell
        if depth == 3 and len(points) == 1:  # [[[x, y], [x, y]]] with [1, 0]
            labels = [labels]
        elif depth < 3:
            labels = [[label] for label in labels]
    if len(labels) != len(points) or any(np.ndim(label) != 1 for label in labels):
        raise PromptError(
            f"labels must be nested like points, got labels of shape {np.shape(labels)} for {len(points)} objects. "
            "For one object of several points write points=[[[x, y], [x, y]]], labels=[[1, 0]]."
        )
    return points, list(labels)


def _check_foreground(label_sets: list) -> None:
    """Refuse objects without a foreground point beside others that have one: most likely all are one object."""
    has_foreground = [labels is None or bool(np.any(np.asarray(labels) == 1)) for labels in label_sets]
    if any(has_foreground) and not all(has_foreground):
        raise PromptError(
            f"labels must have a 1 for each object, got only 0 for object {has_foreground.index(False)} of "
            f"{len(label_sets)}: points=[[x, y], [x, y]] are objects of their own. "
            "For one object of several points write points=[[[x, y], [x, y]]], labels=[[1, 0]]."
        )


def _rows(bboxes: Any) -> list:
    """Return a list of boxes from one box or several; an empty list from an empty one."""
    if isinstance(bboxes, str) or not hasattr(bboxes, "__len__"):
        raise PromptError(f"bboxes must be (4,) or (N, 4) numbers xyxy, got {bboxes!r}. Write [x0, y0, x1, y1].")
    return [bboxes] if len(bboxes) and _depth(bboxes) < 2 else list(bboxes)


def _depth(values: Any) -> int:
    """Return how deeply a list, array or tensor is nested; 0 for a number."""
    if isinstance(values, (list, tuple)) and values:
        return 1 + max(map(_depth, values))
    return values.ndim if hasattr(values, "ndim") else int(hasattr(values, "__len__"))
