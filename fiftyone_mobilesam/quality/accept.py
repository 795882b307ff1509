"""`fom.accept`: masks that need no look, under a promise; `fom.sample_to_check`: the ones to look at first."""

from typing import Any

import numpy as np
from fiftyone.core.collections import SampleCollection

from fiftyone_mobilesam.fields import labels_path
from fiftyone_mobilesam.keep import ACCEPTED, AS_MADE, TO_CHECK
from fiftyone_mobilesam.quality.evaluate import Evaluation, evaluate
from mobilesam import FieldError, NotEnoughTruthError
from mobilesam.quality.acceptance import Acceptance
from mobilesam.quality.acceptance import accept as accept_above

RIGHT, WRONG = "accepted", "rejected"  # decisions of a review
COLUMNS = ("id", "tags", "mask_quality", "predicted_iou", "stability_score", "label", "review", "retried", "failure")
COLUMNS += (AS_MADE,)


def sample_to_check(samples: SampleCollection, label_field: str, count: int, *, seed: int = 0) -> SampleCollection:
    """Draw masks for a person to check, each with the same chance, and tag them "to check".

    Those that are tagged already are part of the draw: again with a higher `count` it adds the difference. Check them
    in the App: in the panel "Review masks" accept and reject them, or correct them in a field of true masks.

    Returns:
        A view of the drawn masks.

    Raises:
        FieldError: a field without masks.
        ValueError: not a whole number of at least 1.
    """
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"count must be a whole number, 1 or more, got {count!r}.")
    table = quality_table(samples, label_field)
    drawn = np.array([TO_CHECK in tags for tags in table["tags"]], dtype=bool)
    rest = np.flatnonzero(~drawn)
    more = np.random.default_rng(seed).permutation(rest)[: max(0, count - int(drawn.sum()))]
    if len(more):
        _tag(samples, label_field, [table["id"][i] for i in more], TO_CHECK)
    return samples.select_labels(tags=TO_CHECK, fields=label_field)


def accept(
    samples: SampleCollection,
    label_field: str,
    ground_truth_field: str | None = None,
    *,
    min_iou: float = 0.8,
    max_wrong: float = 0.05,
    confidence: float = 0.95,
) -> Acceptance:
    """Accept as many masks as possible unseen, with a promise: at most so many of them are wrong.

    Tags the masks "auto accepted", and none that were tagged so before and do not belong to them any more. The promise
    is about those that nobody checked. It holds for data like the checked ones.

    Args:
        samples: a dataset or view of images.
        label_field: field of Detections with masks and their `mask_quality`.
        ground_truth_field: field of Detections with a person's masks of some of them. A mask and a true one belong
            together as in `fom.evaluate`; masks without a true one are not checked. Default: the decisions in review
            of the masks that `sample_to_check` drew; a rejected one is wrong, and an accepted one right unless it
            had to be made again.
        min_iou: a mask with a lower IoU with the true one is wrong.
        max_wrong: at most this share of the accepted masks is wrong,
        confidence: with this probability.

    Returns:
        What was accepted and why; `print` it.

    Raises:
        FieldError: a field without masks, or without `mask_quality`.
        NotEnoughTruthError: too few masks were checked, or too many of the best are wrong. Nothing is tagged.
    """
    table = quality_table(samples, label_field)
    if ground_truth_field is None:
        true, drawn = _decided(table), True
    else:
        found = checked_ious(evaluate(samples, label_field, ground_truth_field))
        true = np.array([found.get(label_id, np.nan) for label_id in table["id"]])
        checked = ~np.isnan(true)
        drawn = bool(checked.any()) and all(TO_CHECK in table["tags"][i] for i in np.flatnonzero(checked))
    quality = np.array(table["mask_quality"], dtype=float)
    result = accept_above(
        quality, true, table["sample_id"], min_iou=min_iou, max_wrong=max_wrong, confidence=confidence, drawn=drawn
    )
    chosen = (np.isnan(true) & (quality >= result.min_quality)) | (true >= min_iou)
    before = [i for i, tags in zip(table["id"], table["tags"], strict=True) if ACCEPTED in tags]
    if before:
        samples.select_labels(ids=before, fields=label_field).untag_labels(ACCEPTED, label_fields=label_field)
    _tag(samples, label_field, [table["id"][i] for i in np.flatnonzero(chosen)], ACCEPTED)
    return result


def checked_ious(evaluation: Evaluation) -> dict[str, float]:
    """Return the true IoU of each mask that was checked, by its id.

    Where true masks name the prompts they are of, a mask without one was not checked. Where they do not, all masks of
    their images were, and one that is of no true mask is wrong.
    """
    linked = any(row["by_prompt"] for row in evaluation.rows)
    rows = [row for row in evaluation.rows if row["ground_truth_id"] is not None or not linked]
    return {row["label_id"]: row["iou"] for row in rows}


def promise(samples: SampleCollection, label_field: str) -> str:
    """Say what `accept` would promise by the decisions until now, or what keeps it from it. Nothing is tagged."""
    table = quality_table(samples, label_field)
    quality = np.array(table["mask_quality"], dtype=float)
    try:
        return str(accept_above(quality, _decided(table), table["sample_id"], drawn=True))
    except NotEnoughTruthError as error:
        return str(error)


def quality_table(samples: SampleCollection, label_field: str) -> dict[str, list[Any]]:
    """Return `COLUMNS` and `sample_id` of all masks of a field whose quality is known; records without a mask are none.

    Raises:
        FieldError: there is no such mask.
    """
    path = labels_path(samples, label_field)
    present = [name for name in COLUMNS if samples.get_field(f"{path}.{name}") is not None]
    if "mask_quality" not in present:
        raise FieldError(
            f"label_field must have masks with mask_quality, got {label_field!r} without. Make the masks again: "
            "earlier versions did not write it."
        )
    sample_ids, *columns = samples.values(["id", *(f"{path}.{name}" for name in present)])
    rows: dict[str, list[Any]] = {name: [] for name in ("sample_id", *COLUMNS)}
    for sample_id, *values in zip(sample_ids, *columns, strict=True):
        if not isinstance(values[0], list):  # a field of one label, or an image without any
            values = [[] if values[0] is None else [value] for value in values]
        for label in (dict(zip(present, row, strict=True)) for row in zip(*values, strict=True)):
            if label["mask_quality"] is not None and label.get("failure") is None:
                rows["sample_id"].append(sample_id)
                for name in COLUMNS:
                    rows[name].append(label.get(name))
    rows["tags"] = [tags or [] for tags in rows["tags"]]
    if not rows["id"]:
        raise FieldError(f"label_field must have masks whose quality is known, got {label_field!r} with none.")
    return rows


def _decided(table: dict[str, list[Any]]) -> np.ndarray:
    """Return 1 for drawn masks that were accepted as they were, 0 for wrong ones, NaN for those without a decision."""
    right = {RIGHT: 1.0, WRONG: 0.0}
    return np.array(
        [
            (0.0 if retried else right[review]) if TO_CHECK in tags and review in right else np.nan
            for tags, review, retried in zip(table["tags"], table["review"], table["retried"], strict=True)
        ]
    )


def _tag(samples: SampleCollection, label_field: str, ids: list[str], tag: str) -> None:
    if ids:
        samples.select_labels(ids=ids, fields=label_field).tag_labels(tag, label_fields=label_field)
