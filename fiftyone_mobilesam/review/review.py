"""Review: the masks of a field worst first, and decisions that change one label each.

    review = Review(dataset, "masks")
    for mask in review.worst_first():
        review.decide(review.load(mask), "accepted")  # or "rejected"

A decision is the label's attribute `review`, "accepted" or "rejected", and the tag of the same name. No decision: no
attribute and no tag. A label is written only if it still is what was looked at, and nothing else of its sample is.
"""

from collections.abc import Iterable
from datetime import datetime, timezone
from itertools import chain
from typing import Any

import fiftyone as fo
import numpy as np
from bson import ObjectId
from fiftyone.core.collections import SampleCollection

from fiftyone_mobilesam import host
from fiftyone_mobilesam.fields import FRAMES, label_fields, labels_path
from fiftyone_mobilesam.keep import MEASURED, SKELETON, TO_CHECK
from fiftyone_mobilesam.review.order import FAULT, acceptable, expected_iou
from fiftyone_mobilesam.review.records import Change, Counts, MaskRef, MaskUnderReview, Queue
from mobilesam import ConflictError, FieldError

DECISIONS = ("accepted", "rejected")
SIGNALS = ("predicted_iou", "stability_score")  # where `mask_quality` is not known
OURS = ("prompt_id", *SIGNALS, "mask_quality", "failure")
SHOW = ("undecided", "all", "accepted", "rejected", "failures", TO_CHECK)
# What a new mask replaces of a label. The decision was about the old mask.
REPLACED = ("mask", "mask_path", "bounding_box", "confidence", *SIGNALS, "mask_quality")
REPLACED += ("failure", "review", "tags", "retried")
# What a mask may have besides, and the new one as well.
IF_THERE = (*MEASURED, *SKELETON)


class Review:
    """The masks of one field.

    Args:
        samples: a dataset or view; of a patches view, its patches.
        label_field: a field of Detections, `frames.` before the name for the frames of videos.

    Raises:
        FieldError: the dataset is gone, or the field is not there or of another type.
    """

    def __init__(self, samples: SampleCollection, label_field: str):
        dataset = host.root_dataset(samples)
        if dataset.deleted or not fo.dataset_exists(dataset.name):
            raise FieldError(f"The dataset {dataset.name!r} must exist, but it was deleted. Open another one.")
        if label_field not in reviewable_fields(dataset):
            raise FieldError(
                f"label_field must be a field of Detections with the scores of a run, got {label_field!r}. Fields that "
                f"fit: {', '.join(reviewable_fields(dataset)) or 'none, run MobileSAM first'}."
            )
        if host.is_generated(samples):
            if not host.is_patches(samples) or label_field not in samples.get_field_schema():
                raise FieldError(
                    f"A view of clips, frames or other patches has no {label_field!r} to review. Clear the view."
                )
            samples = dataset.select_labels(ids=samples.values(f"{label_field}.id"), fields=label_field)
        self.samples = samples
        self.dataset = dataset
        self.label_field = label_field
        self.is_frames = label_field.startswith(FRAMES)
        self.path = f"{label_field}.detections"
        self._root = self.path.removeprefix(FRAMES)
        self._documents = host.documents(dataset, frames=self.is_frames)

    def worst_first(self, show: str = "undecided") -> list[MaskRef]:
        """Return the masks in the order in which they are best looked at, see `queue`."""
        return self.queue(show).refs

    def queue(self, show: str = "undecided") -> Queue:
        """Put the masks in the order in which they are best looked at.

        Records without a mask come first, then masks that are implausible for their skeleton. The others come by
        expected loss, highest first: 1 less `mask_quality`. Where that is not known it is told from the masks where it
        is, at the same place in the order of `predicted_iou * stability_score`; if it is known nowhere, that product is
        taken. After 25 decisions it is the probability that a mask is rejected, as the decisions tell, see
        `order.acceptable`. Near duplicates of one fault, of one class and within 0.02, stand together; masks of which
        nothing is known come last. No image, mask or sample is loaded: 100,000 labels take seconds. Masks drawn to be
        checked come in random order.

        Args:
            show: which ones, one of `SHOW`.
        """
        if show not in SHOW:
            raise ValueError(f"show must be one of {', '.join(SHOW)}, got {show!r}.")
        refs, columns = self._columns((*SIGNALS, "mask_quality", "label", "failure", "implausible", "review", "tags"))
        failed = np.array([value is not None for value in columns["failure"]], dtype=bool)
        odd = np.array([value is not None for value in columns["implausible"]], dtype=bool)
        review = np.array(columns["review"], dtype=object)
        wanted = {
            "undecided": ~np.isin(review, DECISIONS),
            "all": np.ones(len(refs), dtype=bool),
            "accepted": review == "accepted",
            "rejected": review == "rejected",
            "failures": failed,
            TO_CHECK: np.array([TO_CHECK in (tags or ()) for tags in columns["tags"]], dtype=bool),
        }[show]
        expected = expected_iou([columns[name] for name in (*SIGNALS, "mask_quality")])
        _, classes = np.unique([str(label) for label in columns["label"]], return_inverse=True)
        decided = np.select([review == "accepted", review == "rejected"], [1.0, 0.0], np.nan)
        learnt = acceptable(expected, classes, np.where(failed, np.nan, decided)) if len(refs) else None
        expected = expected if learnt is None else learnt
        order = np.lexsort((expected, classes, np.floor(expected / FAULT), ~odd, ~failed))
        if show == TO_CHECK:  # worst first, the decisions until now would not be those of a random draw
            order = np.random.default_rng(0).permutation(len(refs))
        order = order[wanted[order]]
        known = np.isfinite(expected)
        losses = np.where(failed, 1.0, 1 - np.where(known, expected, expected[known].mean() if known.any() else 1.0))
        return Queue([MaskRef(*refs[i]) for i in order], losses[order], learnt is not None)

    def counts(self) -> Counts:
        """Count the masks in each state, as they are now."""
        declared = _declared(self.dataset, self.label_field)
        asked = {"total": fo.Count(f"{self.path}.id")}
        asked |= {"review": fo.CountValues(f"{self.path}.review")} if "review" in declared else {}
        asked |= {"failures": fo.Count(f"{self.path}.failure")} if "failure" in declared else {}
        found = dict(zip(asked, self.samples.aggregate(list(asked.values())), strict=True))
        decided = found.get("review", {})
        return Counts(found["total"], *(decided.get(name, 0) for name in DECISIONS), found.get("failures", 0))

    def load(self, ref: MaskRef) -> MaskUnderReview:
        """Read one mask and its prompt.

        Raises:
            ConflictError: it is not there any more.
        """
        wanted = {
            "label": _with_id(self._root, ref.label_id),
            "index": {"$indexOfArray": [f"${self._root}._id", ObjectId(ref.label_id)]},
        }
        found = self._project(ref, wanted | {"filepath": 1, "frame_number": 1})
        if not found or not found.get("label"):
            raise ConflictError("This mask is not there any more: it, its sample or its field was deleted meanwhile.")
        [document] = found["label"]
        prompt_field, prompt = self._find_prompt(ref, document.get("prompt_id"))
        filepath, number = found.get("filepath"), found.get("frame_number")
        if self.is_frames and filepath is None:
            sample = host.documents(self.dataset).find_one({"_id": ObjectId(ref.sample_id)}, ["filepath"])
            filepath = sample["filepath"]
        elif self.is_frames:
            number = None  # the frame has a file of its own
        return MaskUnderReview(ref, document, found["index"], filepath, number, prompt, prompt_field)

    def decide(self, mask: MaskUnderReview, decision: str | None) -> Change:
        """Accept or reject a mask, or take a decision back with None.

        Raises:
            ConflictError: it was decided, tagged or deleted by somebody else since it was loaded.
        """
        if decision not in (*DECISIONS, None):
            raise ValueError(f"decision must be one of {', '.join(DECISIONS)} or None, got {decision!r}.")
        tags = [tag for tag in mask.document.get("tags") or [] if tag not in DECISIONS]
        after = {"review": decision, "tags": [*tags, decision] if decision else tags}
        return self._change(mask, decision or "undecided", after)

    def replace(self, mask: MaskUnderReview, label: fo.Detection) -> Change:
        """Put the mask, box and scores of a label in place of the old ones; id, prompt and attributes stay.

        The label is undecided again.
        """
        others = [name for name in IF_THERE if name in mask.document]
        after = {name: label.to_dict().get(name) for name in (*REPLACED, *others)}
        after["retried"] = True  # what was there before was not good enough
        after["review"], after["tags"] = None, [tag for tag in mask.document.get("tags") or [] if tag not in DECISIONS]
        return self._change(mask, "retried", after)

    def delete(self, mask: MaskUnderReview) -> Change:
        """Delete a label.

        Raises:
            ConflictError: it was decided or deleted by somebody else since it was loaded.
        """
        same = {"_id": ObjectId(mask.ref.label_id), "review": mask.decision}
        self._write(mask.ref, {self._root: {"$elemMatch": same}}, {"$pull": {self._root: same}})
        return Change(mask.ref, "deleted", mask.document, {}, mask.index)

    def undo(self, change: Change) -> None:
        """Take a change back.

        Raises:
            ConflictError: the label was changed once more since, or its sample or field is gone.
        """
        if change.action != "deleted":
            self._set(change.ref, change.after, change.before)
            return
        absent = {self._root: {"$type": "array"}, f"{self._root}._id": {"$ne": ObjectId(change.ref.label_id)}}
        back = {"$each": [change.before], "$position": change.index}
        self._write(change.ref, absent, {"$push": {self._root: back}})

    def _change(self, mask: MaskUnderReview, action: str, after: dict[str, Any]) -> Change:
        before = {name: mask.document.get(name) for name in after}
        self._declare(after)
        self._set(mask.ref, before, after)
        return Change(mask.ref, action, before, after, mask.index)

    def _set(self, ref: MaskRef, expected: dict[str, Any], values: dict[str, Any]) -> None:
        """Set values of a label that still has the expected ones, in one step of the database."""
        same = {self._root: {"$elemMatch": {"_id": ObjectId(ref.label_id), **expected}}}
        new = {f"{self._root}.$[label].{name}": value for name, value in values.items()}
        self._write(ref, same, {"$set": new}, array_filters=[{"label._id": ObjectId(ref.label_id)}])

    def _write(self, ref: MaskRef, condition: dict[str, Any], update: dict[str, Any], **kwargs: Any) -> None:
        update = {**update, "$set": {**update.get("$set", {}), "last_modified_at": datetime.now(timezone.utc)}}
        written = self._documents.update_one({"_id": ObjectId(ref.doc_id), **condition}, update, **kwargs)
        if not written.matched_count:
            raise ConflictError("Nothing was written: this mask was changed or deleted meanwhile. Look at it again.")
        host.reload_documents(self.dataset, [ref.doc_id], frames=self.is_frames)

    def _declare(self, names: Iterable[str]) -> None:
        """Declare the attributes that are written, so that the App can filter by them."""
        missing = {"review": fo.StringField, "failure": fo.StringField, "retried": fo.BooleanField}
        missing |= dict.fromkeys((*SIGNALS, "mask_quality"), fo.FloatField)
        add = self.dataset.add_frame_field if self.is_frames else self.dataset.add_sample_field
        for name in missing.keys() & set(names) - _declared(self.dataset, self.label_field):
            add(f"{self._root}.{name}", missing[name])

    def _columns(self, names: tuple[str, ...]) -> tuple[list[tuple[str, str, str]], dict[str, list]]:
        """Return the ids of all masks, and by name the values of their attributes, None where there are none."""
        declared = _declared(self.dataset, self.label_field)
        present = [name for name in names if name in declared]
        documents = ["id", "frames.id"] if self.is_frames else ["id"]
        found = self.samples.values([*documents, *(f"{self.path}.{name}" for name in ["id", *present])])
        sample_ids, nested = found[0], found[len(documents) :]
        doc_ids = sample_ids
        if self.is_frames:
            doc_ids, nested = _flat(found[1]), [_flat(column) for column in nested]
            sample_ids = _repeat(sample_ids, found[1])
        label_ids, *values = (_flat(column) for column in nested)
        refs = list(zip(_repeat(sample_ids, nested[0]), _repeat(doc_ids, nested[0]), label_ids, strict=True))
        return refs, {name: [None] * len(refs) for name in names} | dict(zip(present, values, strict=True))

    def _find_prompt(self, ref: MaskRef, prompt_id: str | None) -> tuple[str | None, fo.Label | None]:
        """Look for a label by its id in the prompt fields of the same sample or frame."""
        if not ObjectId.is_valid(prompt_id):
            return None, None
        wanted = {}
        for field in label_fields(self.dataset):
            if field.startswith(FRAMES) == self.is_frames:
                name, path = field.removeprefix(FRAMES), labels_path(self.dataset, field).removeprefix(FRAMES)
                wanted[name] = f"${name}" if path == name else _with_id(path, prompt_id)
        found = self._project(ref, wanted) if wanted else None
        for name in wanted:
            value = (found or {}).get(name)
            label = value[0] if isinstance(value, list) and value else value
            if label and str(label["_id"]) == prompt_id:
                field = f"{FRAMES}{name}" if self.is_frames else name
                return field, getattr(fo, label["_cls"]).from_dict(label)
        return None, None

    def _project(self, ref: MaskRef, wanted: dict[str, Any]) -> dict[str, Any] | None:
        pipeline = [{"$match": {"_id": ObjectId(ref.doc_id)}}, {"$project": wanted}]
        return next(iter(self._documents.aggregate(pipeline)), None)


def reviewable_fields(dataset: fo.Dataset) -> list[str]:
    """Return the fields of Detections that have attributes of ours, frame fields with their `frames.` prefix."""
    return [name for name in label_fields(dataset, (fo.Detections,)) if _declared(dataset, name) & set(OURS)]


def _declared(dataset: fo.Dataset, label_field: str) -> set[str]:
    """Return the names of the attributes that a field of Detections has in the schema."""
    field = dataset.get_field(f"{label_field}.detections")
    return set(field.field.get_field_schema()) if field is not None else set()


def _with_id(path: str, label_id: str) -> dict[str, Any]:
    same = {"$eq": ["$$this._id", ObjectId(label_id)]}
    return {"$filter": {"input": {"$ifNull": [f"${path}", []]}, "cond": same}}


def _flat(column: list[list | None]) -> list:
    return list(chain.from_iterable(items or [] for items in column))


def _repeat(ids: list[str], column: list[list | None]) -> list[str]:
    return [doc_id for doc_id, items in zip(ids, column, strict=True) for _ in items or []]
