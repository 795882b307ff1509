"""Labels -> plain prompts: one a label, in order, none lost. Whether they fit an image is the engine's to say."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import fiftyone as fo
import numpy as np

from fiftyone_mobilesam.engine.ask import ask
from fiftyone_mobilesam.engine.item import Answer, PlainPrompt
from fiftyone_mobilesam.engine.outline import Outline
from fiftyone_mobilesam.options import Options
from mobilesam import PromptError
from mobilesam.errors import reason_of
from mobilesam.geometry import rle

BOX_LABELS = (fo.Detection, fo.Polyline)
LIST_LABELS = {fo.Detections: "detections", fo.Keypoints: "keypoints", fo.Polylines: "polylines"}
PROMPT_LABELS = (fo.Detections, fo.Detection, fo.Keypoints, fo.Keypoint, fo.Polylines, fo.Polyline)
# Attributes of a keypoint that hold one entry a point: 1 foreground and 0 background; not visible if 0 or less.
POINT_LABEL_ATTRIBUTES = ("sam_labels", "sam2_labels")
VISIBILITY_ATTRIBUTES = ("visible", "visibility")


@dataclass(frozen=True, eq=False)
class LabelPrompt:
    """A label and what it asks for."""

    label: fo.Label  # of the box, or the keypoint where there is no box
    plain: PlainPrompt  # in fractions of the image's sides

    def ask(self, original_hw: tuple[int, int]) -> Answer:
        """Check the prompt against the image it is for."""
        return ask(self.plain, original_hw)


def label_prompts(labels: dict[str, fo.Label | None], options: Options) -> list[LabelPrompt]:
    """Turn the labels in a sample's prompt fields, by option name (`prompt_field`, ...), into prompts.

    One prompt a label of `prompt_field`; of two fields, one a box, then one a keypoint that no box claimed.
    """
    singles = {name: single_labels(value) for name, value in labels.items()}
    pairs = (
        [(label, None) if isinstance(label, BOX_LABELS) else (None, label) for label in singles["prompt_field"]]
        if "prompt_field" in singles
        else match(singles.get("box_prompt_field", []), singles.get("point_prompt_field", []))
    )
    return [LabelPrompt(points if box is None else box, _plain(box, points, options)) for box, points in pairs]


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
        # A label that says which object it is of is never paired by where it stands.
        if same is None and by_position and position in unclaimed and not _is_named(box):
            same = position if not _is_named(unclaimed[position]) else None
        pairs.append((box, None if same is None else unclaimed.pop(same)))
    return pairs + [(None, label) for label in unclaimed.values()]


def _is_named(label: fo.Label) -> bool:
    return label.instance_id is not None or label.index is not None


def _same_object(a: fo.Label, b: fo.Label) -> bool:
    for one, other in ((a.instance_id, b.instance_id), (a.index, b.index)):
        if one is not None and other is not None:
            return one == other
    return False


def _plain(box_label: fo.Label | None, point_label: fo.Label | None, options: Options) -> PlainPrompt:
    plain: PlainPrompt = {"relative": True}
    try:
        if box_label is not None:
            plain["box"] = _box(box_label)
            if options.refine and (outline := _outline(box_label)) is not None:
                plain["outline"] = outline
        if point_label is not None:
            plain |= _points(point_label, options)
            if box_label is None and 1 not in plain["labels"]:
                plain["failure"] = (
                    f"A keypoint prompt must have a foreground point, got {len(point_label.points or [])} points of "
                    "which none is in the image, visible, confident and foreground. Add one, or delete the keypoint."
                )
    except PromptError as error:
        plain["failure"] = str(error)
    return plain


def _box(label: fo.Label) -> list[float]:
    """Return the box of a Detection, or around a Polyline, xyxy in fractions, clipped to the image if it is in it."""
    if isinstance(label, fo.Polyline):
        points = np.array([point for shape in label.points or [] for point in shape], dtype=np.float64)
        if not len(points):
            raise PromptError("A polyline prompt must have points, got none. Draw it again, or delete it.")
        box = np.concatenate([points.min(axis=0), points.max(axis=0)])
    else:
        corner_and_size = np.array(label.bounding_box or [], dtype=np.float64)
        if corner_and_size.shape != (4,):
            raise PromptError(
                f"bounding_box must be [x, y, width, height], got {label.bounding_box!r}. "
                "Give the detection a box, or delete it."
            )
        box = np.concatenate([corner_and_size[:2], corner_and_size[:2] + corner_and_size[2:]])
    clipped = box.clip(0, 1)
    usable = np.isfinite(box).all() and (clipped[2:] > clipped[:2]).all()
    return (clipped if usable else box).tolist()


def _outline(label: fo.Label) -> Outline | None:
    """Return the mask of a Detection or the polygons of a Polyline; None for a plain box or an open line."""
    if isinstance(label, fo.Polyline):
        is_open = not (label.closed or label.filled)
        return None if is_open else {"polygons": [list(map(list, shape)) for shape in label.points]}
    try:
        mask = label.get_mask()
    except Exception as error:
        raise PromptError(f"The mask to refine must be readable, got {reason_of(error)}. Restore its file.") from error
    if mask is None:
        return None
    if mask.ndim != 2 or not mask.size:
        raise PromptError(f"The mask to refine must be (H, W), got {mask.shape}. Draw it again, or delete it.")
    x, y, width, height = label.bounding_box
    return {"mask": rle.encode(mask > 0), "box": [x, y, x + width, y + height]}


def _points(label: fo.Keypoint, options: Options) -> PlainPrompt:
    """Return the usable points of a keypoint in fractions, and their labels; there can be none."""
    coords = np.array(label.points or np.empty((0, 2)), dtype=np.float64).reshape(-1, 2)
    labels = np.ones(len(coords)) if (given := _per_point(label, POINT_LABEL_ATTRIBUTES)) is None else given
    usable = np.isfinite(coords).all(axis=1) & np.isfinite(labels) & ((coords >= 0) & (coords <= 1)).all(axis=1)
    if (visibility := _per_point(label, VISIBILITY_ATTRIBUTES)) is not None:
        usable &= visibility > 0
    if (confidence := _per_point(label, ("confidence",))) is not None:
        usable &= ~(confidence < options.point_confidence_thresh)  # a point without a confidence stays
    whole = [int(value) if value == int(value) else value for value in labels[usable].tolist()]
    return {"points": coords[usable].tolist(), "labels": whole}


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
