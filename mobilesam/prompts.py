"""The one door where prompts are checked. What passes it is finite, ordered and of the right shape."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mobilesam.errors import PromptError
from mobilesam.geometry.masks import to_numpy

POINT_LABELS = (-1, 0, 1, 2, 3)
SINGLE_POINT = (False, 1, False)


@dataclass(frozen=True, eq=False)
class Prompt:
    """Everything that names one object: a box, points, a mask, or any of them together.

    Attributes:
        box: (4,) float64 xyxy pixels of the original image, right and bottom exclusive.
        point_coords: (N, 2) float64 xy pixels of the original image.
        point_labels: (N,) int64: 1 foreground, 0 background, -1 not a point, 2 and 3 box corners. Default: all 1.
        mask_input: (1, 256, 256) float32 low-res logits, or (H, W) bool, a mask of the original image.

    Raises:
        PromptError: a prompt that cannot mean anything, saying what was expected and what came.
    """

    box: np.ndarray | None = None
    point_coords: np.ndarray | None = None
    point_labels: np.ndarray | None = None
    mask_input: np.ndarray | None = None

    def __post_init__(self) -> None:
        coords, labels = _check_points(self.point_coords, self.point_labels)
        box, mask = _check_box(self.box), _check_mask(self.mask_input)
        if box is None and coords is None and mask is None:
            raise PromptError("A prompt must have a box, points or a mask, got none. Pass at least one.")
        vars(self).update(box=box, point_coords=coords, point_labels=labels, mask_input=mask)  # the class is frozen

    @property
    def structure(self) -> tuple[bool, int, bool]:
        """Which tokens the decoder sees. Prompts of one structure can be decoded together, unchanged."""
        points = 0 if self.point_coords is None else len(self.point_coords)
        return self.box is not None, points, self.mask_input is not None

    def check_inside(self, original_hw: tuple[int, int]) -> None:
        """Check against the image.

        Raises:
            PromptError: the box does not overlap the image, a point lies outside it, or a binary mask has another size.
        """
        height, width = original_hw
        if self.box is not None:
            x0, y0, x1, y1 = self.box
            if x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
                raise PromptError(
                    f"box must overlap the image of {width} x {height} pixels, got {self.box.tolist()}. "
                    "Boxes are [x1, y1, x2, y2] in pixels of the original image."
                )
        if self.point_coords is not None:
            points = self.point_coords[self.point_labels >= 0]
            outside = points[((points < 0) | (points > [width, height])).any(axis=1)]
            if len(outside):
                raise PromptError(
                    f"point_coords must lie in the image of {width} x {height} pixels, got {outside[0].tolist()}. "
                    "Points are [x, y] in pixels of the original image."
                )
        if self.mask_input is not None and self.mask_input.dtype == bool and self.mask_input.shape != original_hw:
            raise PromptError(
                f"A binary mask prompt must have the size of the image, {original_hw}, got {self.mask_input.shape}. "
                "Resize it, or pass low_res_logits of an earlier prediction."
            )


def detector_boxes(values: Any) -> Any:
    """Return the `xyxy` of a detector's result, or of its `boxes`; None for anything else."""
    return getattr(getattr(values, "boxes", values), "xyxy", None)


def make_prompts(
    *, boxes: Any = None, point_coords: Any = None, point_labels: Any = None, mask_inputs: Any = None
) -> list[Prompt]:
    """Make one prompt an object from batched arrays or (ragged) lists.

    Args:
        boxes: B boxes (4,), or None.
        point_coords: B point sets (N, 2), N may differ from object to object, or None.
        point_labels: B label sets (N,), or None for all foreground.
        mask_inputs: B masks as in `Prompt`, or None.

    Returns:
        B prompts, in order; an empty list if every argument is empty or None.

    Raises:
        PromptError: an object's prompt is wrong (its index is named), or the lengths differ.
    """
    columns = {"box": boxes, "point_coords": point_coords, "point_labels": point_labels, "mask_input": mask_inputs}
    columns = {name: list(values) for name, values in columns.items() if values is not None}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise PromptError(f"Prompts must name the same number of objects, got {lengths}. Pass one entry an object.")
    prompts = []
    for index in range(max(lengths.values(), default=0)):
        try:
            prompts.append(Prompt(**{name: values[index] for name, values in columns.items()}))
        except PromptError as error:
            raise PromptError(f"Object {index}: {error}") from error
    return prompts


def check_inside(prompts: Sequence[Prompt], original_hw: tuple[int, int]) -> None:
    """Check prompts against the image they are for; a `PromptError` names the index."""
    for index, prompt in enumerate(prompts):
        try:
            prompt.check_inside(original_hw)
        except PromptError as error:
            raise PromptError(f"Object {index}: {error}") from error


def chunks(prompts: Sequence[Prompt], multimask_output: bool | None, *, size: int) -> Iterator[tuple[list[int], bool]]:
    """Yield indices of up to `size` prompts to decode together, and whether they want three candidates.

    Padding a prompt to another's number of points would change its mask, so only equals are decoded together.
    """
    groups: dict[tuple, list[int]] = defaultdict(list)
    for index, prompt in enumerate(prompts):
        groups[prompt.structure].append(index)
    for structure, group in groups.items():
        multimask = structure == SINGLE_POINT if multimask_output is None else multimask_output
        for start in range(0, len(group), size):
            yield group[start : start + size], multimask


def _as_array(name: str, value: Any, expected: str) -> np.ndarray:
    try:
        array = np.asarray(to_numpy(value), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PromptError(f"{name} must be {expected}, got {value!r:.200}. Pass numbers.") from error
    if not np.isfinite(array).all():
        raise PromptError(f"{name} must be finite, got {array.tolist()}. Leave NaN and infinite entries out.")
    return array


def _check_box(value: Any) -> np.ndarray | None:
    if value is None:
        return None
    box = _as_array("box", value, "4 numbers [x1, y1, x2, y2]")
    if box.shape == (1, 4):
        box = box[0]
    if box.shape != (4,):
        raise PromptError(f"box must have shape (4,), got {box.shape}. Pass several boxes to predict_batch().")
    if box[2] <= box[0] or box[3] <= box[1]:
        raise PromptError(
            f"box must have x2 > x1 and y2 > y1, got {box.tolist()}. "
            "Boxes are [x1, y1, x2, y2] corners, not [x, y, width, height]."
        )
    return box


def _check_points(coords: Any, labels: Any) -> tuple[np.ndarray | None, np.ndarray | None]:
    if coords is None:
        if labels is not None:
            raise PromptError("point_labels must come with point_coords, got labels alone. Pass the points as well.")
        return None, None
    coords = _as_array("point_coords", coords, "(N, 2) numbers [[x, y], ...]")
    if coords.ndim != 2 or coords.shape[1] != 2 or not len(coords):
        raise PromptError(
            f"point_coords of one object must have shape (N, 2), N at least 1, got {coords.shape}. "
            "Pass [[x, y], ...]; point sets of several objects go to predict_batch()."
        )
    labels = np.ones(len(coords)) if labels is None else _as_array("point_labels", labels, "N labels")
    if labels.shape != (len(coords),):
        raise PromptError(f"point_labels must have shape ({len(coords)},), got {labels.shape}. One label a point.")
    if not np.isin(labels, POINT_LABELS).all():
        raise PromptError(
            f"point_labels must be 1 (foreground), 0 (background), -1 (not a point), 2 or 3 (box corners), "
            f"got {labels.tolist()}. Use 1 for points on the object and 0 for points beside it."
        )
    return coords, labels.astype(np.int64)


def _check_mask(value: Any) -> np.ndarray | None:
    if value is None:
        return None
    mask = np.asarray(to_numpy(value))
    if mask.ndim == 3 and mask.shape[0] == 1:
        mask = mask[0]
    if mask.dtype == bool and mask.ndim == 2 and mask.size:
        return mask
    logits = _as_array("mask_input", value, "(1, 256, 256) low-res logits").astype(np.float32)
    if mask.shape != (256, 256):
        raise PromptError(
            f"mask_input must be (1, 256, 256) low-res logits or a bool mask of the image, got shape {mask.shape} of "
            f"{mask.dtype}. For a 0/1 mask pass mask.astype(bool)."
        )
    return logits.reshape(1, 256, 256)
