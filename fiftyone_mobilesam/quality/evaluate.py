"""`fom.evaluate`: the masks of a field beside a person's, mask by mask."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import fiftyone as fo
from fiftyone import ViewField as F
from fiftyone.core.collections import SampleCollection
from fiftyone.core.media import VIDEO

from fiftyone_mobilesam import host
from fiftyone_mobilesam.export.masks import ExportedImage, ExportedMask, check_masks, class_of, exported_images
from fiftyone_mobilesam.fields import FRAMES, labels_path
from mobilesam import FieldError
from mobilesam.quality.comparison import PREDICTIONS, Comparison
from mobilesam.quality.metrics import boundary_iou, mask_iou, size_of

# Masks without a prompt in common are of one object if they overlap by so much: a bad mask still has its object.
LEAST_OVERLAP = 0.1
WRITTEN = {"true_iou": "iou", "true_boundary_iou": "boundary_iou"}  # on the labels, from a row of the comparison


@dataclass
class Evaluation(Comparison):
    """What `evaluate` found.

    Rows have `sample_id`, `label_id` and `ground_truth_id` too, the last None for a mask that is of nothing, whose IoU
    is 0; `by_prompt` says whether the two are of one prompt. The size is the true mask's where there is one.

    Attributes:
        label_field, ground_truth_field: that were compared.
        missed: number of true masks that no mask goes with.
    """

    label_field: str = "masks"
    ground_truth_field: str = "ground_truth"
    missed: int = 0
    scored_by: str = "confidence"

    @property
    def title(self) -> str:
        """What was compared."""
        missed = f", {self.missed} of which have no mask" if self.missed else ""
        return f"Masks in {self.label_field!r} beside those in {self.ground_truth_field!r}{missed}"

    def as_dict(self) -> dict[str, Any]:
        """Return all figures as plain data."""
        fields = {"label_field": self.label_field, "ground_truth_field": self.ground_truth_field}
        return {**fields, "missed": self.missed, **super().as_dict()}


def evaluate(samples: SampleCollection, label_field: str, ground_truth_field: str) -> Evaluation:
    """Compare the masks of a field with true ones, and write on each how good it is.

    A mask and a true mask belong together if they were made from one prompt: the true mask is the prompt itself, or has
    the same `prompt_id`. For all others FiftyOne's `evaluate_detections` says which true mask of the same class a mask
    is of. Each mask gets `true_iou` and `true_boundary_iou`, by which the App can sort and filter; 0 if it is of
    nothing. Labels without a mask are in `failed`. Nothing is written on the true masks. `ap` ranks the masks by
    `mask_quality` if all have it, else by confidence; `scored_by` says which. Without either it is {}.

    Args:
        samples: a dataset or view of images, or of videos with masks on their frames.
        label_field: field of Detections with masks to judge, `frames.` before the name for the frames of videos.
        ground_truth_field: field of Detections with true masks. Images without any are left out.

    Returns:
        The figures: `print(evaluation.table())`, `evaluation.plot("reliability.png")`.

    Raises:
        FieldError: a field without masks, or not of images.
    """
    if label_field == ground_truth_field:
        raise FieldError(f"ground_truth_field must be another field than label_field, got {label_field!r} for both.")
    if samples.media_type == VIDEO and label_field.startswith(FRAMES) and ground_truth_field.startswith(FRAMES):
        names = label_field.removeprefix(FRAMES), ground_truth_field.removeprefix(FRAMES)
        found = evaluate(samples.to_frames(sample_frames="dynamic", sparse=True), *names)
        return replace(found, label_field=label_field, ground_truth_field=ground_truth_field)
    for argument, field in (("label_field", label_field), ("ground_truth_field", ground_truth_field)):
        check_masks(samples, field, argument)
    judged = samples.filter_labels(ground_truth_field, _has_mask(), only_matches=True)
    if not len(judged):
        raise FieldError(
            f"ground_truth_field must have masks, got {ground_truth_field!r} with none. Draw or import some first."
        )
    evaluation = Evaluation(label_field=label_field, ground_truth_field=ground_truth_field)
    overlapping = _match(judged, evaluation)
    for image, truth in zip(
        *(exported_images(judged, field) for field in (label_field, ground_truth_field)), strict=True
    ):
        _compare(image, truth, overlapping, evaluation)
    _write(samples, label_field, evaluation.rows)
    return evaluation


def _has_mask() -> F:
    return F("mask").exists() | F("mask_path").exists()


def _match(samples: SampleCollection, evaluation: Evaluation) -> dict[str, str]:
    """Return the id of the true mask that overlaps a mask, by the mask's id, and note the average precision.

    FiftyOne ranks by confidence; where all have `mask_quality`, a view shows it in that place.
    """
    whole = samples.filter_labels(evaluation.label_field, _has_mask(), only_matches=False)
    labels = labels_path(whole, evaluation.label_field)
    masks = whole.count(labels)
    if whole.get_field(f"{labels}.mask_quality") is not None and masks == whole.count(f"{labels}.mask_quality"):
        evaluation.scored_by = "mask_quality"
        whole = whole.set_field(f"{labels}.confidence", F("mask_quality"))
    ranked = masks == whole.count(f"{labels}.confidence")
    found = whole.evaluate_detections(
        evaluation.label_field,
        gt_field=evaluation.ground_truth_field,
        iou=LEAST_OVERLAP,
        use_masks=True,
        compute_mAP=ranked,
        progress=False,
    )
    if ranked:
        evaluation.ap = {"AP": float(found.mAP())}
    pairs = zip(found.ypred_ids, found.ytrue_ids, strict=True)
    return {mask_id: truth_id for mask_id, truth_id in pairs if mask_id is not None and truth_id is not None}


def _compare(image: ExportedImage, truth: ExportedImage, overlapping: dict[str, str], found: Evaluation) -> None:
    """Judge the masks of an image."""
    if image.original_hw is None:
        found.failed.append((image.filepath, image.masks[0].failure if image.masks else truth.masks[0].failure))
        return
    truths = {true.label.id: true for true in truth.masks if true.mask is not None}
    pairs, by_prompt = pairs_of([mask.label for mask in image.masks], list(truths.values()), overlapping)
    for mask in image.masks:
        if mask.mask is None:
            found.failed.append((f"{image.filepath}, label {mask.label.id}", mask.failure))
            continue
        true = truths.get(pairs.get(mask.label.id))
        pixels, whole = (None if one is None else one.full(image.original_hw) for one in (mask, true))
        found.rows.append(
            {
                "image": image.filepath,
                "sample_id": image.id,
                "label_id": mask.label.id,
                "ground_truth_id": true and true.label.id,
                "by_prompt": mask.label.id in by_prompt,
                "category": class_of(mask.label),
                "size": size_of(pixels.sum() if whole is None else whole.sum()),
                "iou": 0.0 if whole is None else mask_iou(pixels, whole),
                "boundary_iou": 0.0 if whole is None else boundary_iou(pixels, whole),
                **{name: mask.label.get_attribute_value(name, None) for name in PREDICTIONS},
            }
        )
    found.missed += len(truths.keys() - set(pairs.values()))


def pairs_of(
    labels: Sequence[fo.Detection], truths: list[ExportedMask], overlapping: Mapping[str, str] = MappingProxyType({})
) -> tuple[dict[str, str], set[str]]:
    """Return the id of each label's true mask: of the same prompt, else the one it overlaps if no prompt claims it.

    Also the ids of the labels that a prompt has paired.
    """
    of_prompt = {prompt: true.label.id for true in truths if (prompt := _prompt_id(true.label)) is not None}
    of_prompt |= {true.label.id: true.label.id for true in truths}
    pairs = {label.id: of_prompt[_prompt_id(label)] for label in labels if _prompt_id(label) in of_prompt}
    claimed, by_prompt = set(pairs.values()), set(pairs)
    for label in labels:
        if label.id in overlapping and label.id not in pairs and overlapping[label.id] not in claimed:
            pairs[label.id] = overlapping[label.id]
    return pairs, by_prompt


def _prompt_id(label: fo.Detection) -> str | None:
    return label.get_attribute_value("prompt_id", None)


def _write(samples: SampleCollection, label_field: str, rows: list[dict[str, Any]]) -> None:
    """Write what was measured on the masks, and nothing on those that were not compared this time."""
    labels = labels_path(samples, label_field)
    nothing = dict.fromkeys(samples.values(f"{labels}.id", unwind=True))
    for name, column in WRITTEN.items():
        path = f"{labels}.{name}"
        declare(samples, path, fo.FloatField)
        samples.set_label_values(path, nothing | {row["label_id"]: row[column] for row in rows})


def declare(samples: SampleCollection, path: str, kind: type[fo.Field]) -> None:
    """Declare an attribute of labels, so that the App can sort and filter by it."""
    host.own_dataset(samples).add_sample_field(path, kind)
    if host.is_frames_view(samples):
        host.root_dataset(samples).add_frame_field(path, kind)
