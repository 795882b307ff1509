"""Labels -> prompts in pixels of the original image: one record a label, in order, none lost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import fiftyone as fo
import numpy as np

from fiftyone_mobilesam.options import Options
from mobilesam import Prompt, PromptError
from mobilesam.geometry import Region, clip_box, clip_region

BOX_LABELS = (fo.Detection, fo.Polyline)
LIST_LABELS = {fo.Detections: "detections", fo.Keypoints: "keypoints", fo.Polylines: "polylines"}
PROMPT_LABELS = (fo.Detections, fo.Detection, fo.Keypoints, fo.Keypoint, fo.Polylines, fo.Polyline)
# Attributes of a keypoint that hold one entry a point: 1 foreground and 0 background; not visible if 0 or less.
POINT_LABEL_ATTRIBUTES = ("sam_labels", "sam2_labels")
VISIBILITY_ATTRIBUTES = ("visible", "visibility")


@dataclass(frozen=True, eq=False)
class PromptRecord:
    """One label, and the prompt it became or the reason why it could not.

    Attributes:
        label: the box label, or the keypoint where there is no box.
        prompt: the prompt in pixels of the original image, or None.
        box: (4,) float64 xyxy pixels around everything the label names, clipped to the image, or None.
        failure: the reason why `prompt` is None.
    """

    label: fo.Label
    prompt: Prompt | None
    box: np.ndarray | None
    failure: str | None = None

    def region(self, options: Options, *, original_hw: tuple[int, int]) -> Region | None:
        """Return the whole pixels the mask is clipped to, or None for the whole image."""
        box = None if self.prompt is None else self.prompt.box
        return clip_region(box, options.clip, original_hw=original_hw)


def prompt_records(
    labels: dict[str, fo.Label | None], options: Options, *, original_hw: tuple[int, int]
) -> list[PromptRecord]:
    """Turn the labels in a sample's prompt fields into records.

    Args:
        labels: by option name (`prompt_field`, ...), the value of that field, or None.
        options: of the run.
        original_hw: size of the image.

    Returns:
        One record a label of `prompt_field`; of two fields, one a box, then one a keypoint that no box claimed.
    """
    singles = {name: single_labels(value) for name, value in labels.items()}
    pairs = (
        [(label, None) if isinstance(label, BOX_LABELS) else (None, label) for label in singles["prompt_field"]]
        if "prompt_field" in singles
        else match(singles.get("box_prompt_field", []), singles.get("point_prompt_field", []))
    )
    return [_record(box, points, options, original_hw) for box, points in pairs]


def single_labels(value: fo.Label | None) -> list[fo.Label]:
    """Return the labels in a field's value: those of a list, the one itself, or none."""
    if value is None:
        return []
    attribute = LIST_LABELS.get(type(value))
    return [value] if attribute is None else list(getattr(value, attribute))


def match(boxes: Sequence[fo.Label], points: Sequence[fo.Label]) -> list[tuple[fo.Label | None, fo.Label | None]]:
    """Pair boxes with the keypoints of the same object; what has no partner stands alone.

    An `instance` decides, else an `index`; else, in lists of one length, the position.
    """
    unclaimed = dict(enumerate(points))
    by_position = len(boxes) == len(points)
    pairs: list[tuple[fo.Label | None, fo.Label | None]] = []
    for position, box in enumerate(boxes):
        same = next((i for i, label in unclaimed.items() if _same_object(box, label)), None)
        if same is None and by_position and position in unclaimed and not _identity(box):
            same = position if not _identity(unclaimed[position]) else None
        pairs.append((box, None if same is None else unclaimed.pop(same)))
    return pairs + [(None, label) for label in unclaimed.values()]


def _identity(label: fo.Label) -> dict[str, object]:
    values = {"instance": label.instance_id, "index": label.index}
    return {name: value for name, value in values.items() if value is not None}


def _same_object(a: fo.Label, b: fo.Label) -> bool:
    first, second = _identity(a), _identity(b)
    shared = [name for name in first if name in second]
    return bool(shared) and first[shared[0]] == second[shared[0]]


def _record(
    box_label: fo.Label | None, point_label: fo.Label | None, options: Options, original_hw: tuple[int, int]
) -> PromptRecord:
    label = point_label if box_label is None else box_label
    box = around = None
    coords = labels = None
    try:
        if box_label is not None:
            box = _pixel_box(box_label, original_hw)
            around = box if _has_area(clip_box(box, original_hw=original_hw)) else None
        if point_label is not None:
            coords, labels = _pixel_points(point_label, options, original_hw)
            if around is None and len(coords):
                around = np.concatenate([coords.min(axis=0), coords.max(axis=0)])
            if box is None:
                _check_foreground(point_label, labels)
            if not len(coords):
                coords = labels = None
        prompt = Prompt(box=box, point_coords=coords, point_labels=labels)
        prompt.check_inside(original_hw)
        if box is not None:
            prompt = Prompt(box=clip_box(box, original_hw=original_hw), point_coords=coords, point_labels=labels)
    except PromptError as error:
        return PromptRecord(label, None, around, str(error))
    return PromptRecord(label, prompt, around if around is None else clip_box(around, original_hw=original_hw))


def _pixel_box(label: fo.Label, original_hw: tuple[int, int]) -> np.ndarray:
    """Return the box of a Detection, or around a Polyline, (4,) xyxy pixels."""
    height, width = original_hw
    if isinstance(label, fo.Polyline):
        points = np.array([point for shape in label.points or [] for point in shape], dtype=np.float64)
        if not len(points):
            raise PromptError("A polyline prompt must have points, got none. Draw it again, or delete it.")
        relative = np.concatenate([points.min(axis=0), points.max(axis=0)])
    else:
        corner_and_size = np.array(label.bounding_box or [], dtype=np.float64)
        if corner_and_size.shape != (4,):
            raise PromptError(
                f"bounding_box must be [x, y, width, height], got {label.bounding_box!r}. "
                "Give the detection a box, or delete it."
            )
        relative = np.concatenate([corner_and_size[:2], corner_and_size[:2] + corner_and_size[2:]])
    return relative * [width, height, width, height]


def _pixel_points(label: fo.Keypoint, options: Options, original_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the usable points of a keypoint, (N, 2) xy pixels and (N,) labels; N can be 0."""
    coords = np.array(label.points or np.empty((0, 2)), dtype=np.float64).reshape(-1, 2) * original_hw[::-1]
    labels = np.ones(len(coords)) if (given := _per_point(label, POINT_LABEL_ATTRIBUTES)) is None else given
    usable = np.isfinite(coords).all(axis=1) & np.isfinite(labels)
    # A keypoint a detector put beyond the border is as little use as one it did not find.
    usable &= ((coords >= 0) & (coords <= original_hw[::-1])).all(axis=1)
    if (visibility := _per_point(label, VISIBILITY_ATTRIBUTES)) is not None:
        usable &= visibility > 0
    if (confidence := _per_point(label, ("confidence",))) is not None:
        usable &= ~(confidence < options.point_confidence_thresh)  # a point without a confidence stays
    return coords[usable], labels[usable]


def _per_point(label: fo.Keypoint, names: Sequence[str]) -> np.ndarray | None:
    """Return the first of a keypoint's attributes that is set, (N,) float64, None entries as NaN."""
    for name in names:
        value = label.get_attribute_value(name, None) if name != "confidence" else label.confidence
        if value is None:
            continue
        try:
            values = np.array([math.nan if v is None else v for v in value], dtype=np.float64)
        except (TypeError, ValueError):
            values = np.empty(0)
        if values.shape != (len(label.points or []),):
            raise PromptError(
                f"{name} must have one number for each of the {len(label.points or [])} points, got {value!r:.200}. "
                "Give every point one, or remove the attribute."
            )
        return values
    return None


def _check_foreground(label: fo.Keypoint, labels: np.ndarray) -> None:
    if not (labels == 1).any():
        raise PromptError(
            f"A keypoint prompt must have a foreground point, got {len(label.points or [])} points of which none is "
            "in the image, visible, confident and foreground. Add one, or delete the keypoint."
        )


def _has_area(box: np.ndarray) -> bool:
    return bool(np.isfinite(box).all() and box[2] > box[0] and box[3] > box[1])
