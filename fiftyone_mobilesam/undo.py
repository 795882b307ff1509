"""Take a run back: exactly what it wrote goes, whatever happened in between.

Labels of the App hold their run's key in the attribute `run`. A job has a field for itself: its labels name their
prompts, or have the ids that it gives to what it finds. So "what did this run write" is a filter, however large the
dataset is.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timezone
from itertools import takewhile
from typing import Any

import fiftyone as fo
from bson import ObjectId
from fiftyone import ViewField as F
from fiftyone.core.collections import SampleCollection

from fiftyone_mobilesam import host
from fiftyone_mobilesam.confidence import NUMBERS, is_own
from fiftyone_mobilesam.engine.report import UNDONE
from fiftyone_mobilesam.fields import FRAMES, Target, labels_path
from fiftyone_mobilesam.keep import JOURNAL, MEASURED, SKELETON, is_of, singles, stable_id
from fiftyone_mobilesam.options import PROMPT_FIELDS
from fiftyone_mobilesam.replaced import Found, Replaced
from fiftyone_mobilesam.runs import call_of, describe, is_going_on, is_job, label_field_of, list_runs, paths_in
from mobilesam import FieldError

# What a run in place adds to a label that was there before.
FILLED = ("mask", "mask_path", "prompt_id", "predicted_iou", "stability_score", "mask_quality", "pixels_moved")
FILLED += ("failure", "run", "prompt_box", *SKELETON, *MEASURED)


def labels_of_run(samples: SampleCollection, key: str) -> SampleCollection:
    """Return a view of the labels that a run wrote, and of nothing else in its field.

    Jobs that fill one field are one run here: their labels do not say which of them made them.
    """
    config = host.root_dataset(samples).get_run_info(key).config
    field = label_field_of(config)
    if not is_job(config):
        return samples.filter_labels(field, F("run") == key)
    if any(call_of(config).get(name) for name in PROMPT_FIELDS):
        made, marked = F("prompt_id").exists(), f"{labels_path(samples, field)}.run"
        made = made if samples.get_field(marked) is None else made & ~F("run").exists()
        return _with_journal(samples.filter_labels(field, made), field)
    return samples.select_labels(ids=list(_found(samples, field)), fields=field)


def undo_run(dataset: fo.Dataset, key: str | None = None) -> dict[str, Any]:
    """Remove exactly what a run wrote: its labels; or, of a run in place, its masks and attributes.

    Boxes that a run in place moved go back. What it replaced comes back as it was, ids included; where a person has
    changed since what the run put there, that stays instead. Mask files on disk stay.

    Args:
        dataset: the dataset.
        key: of the run. Default: the last one.

    Returns:
        `{"run": key, "label_field": name, "labels": n, "restored": n, "changed_since": n}`: the numbers of labels
        removed, or emptied in place; of labels that it had replaced and that are back; of its labels that stay.

    Raises:
        FieldError: there is no such run, or no run at all; it is going on; a later run replaced labels of it.
    """
    keys = list_runs(dataset)
    chosen = next(iter(keys), None) if key is None else key
    if chosen not in keys:
        raise FieldError(
            f"run must be one of {', '.join(keys) or 'the runs of this dataset, which has none'}, got {key!r}. "
            "Runs are recorded by the buttons of the App and by fom.label."
        )
    if (why := why_not(dataset, chosen)) is not None:
        raise FieldError(why)
    config, kept = dataset.get_run_info(chosen).config, Replaced(dataset, chosen)
    field, counts = label_field_of(config), Counter(labels=0, restored=0, changed_since=0)
    if dataset.get_field(field) is not None:
        in_place, settled = bool(call_of(config).get("in_place")), set()
        run = None if is_job(config) else chosen
        for found in kept.found():
            settled |= _put_back(dataset, field, found, run, counts, in_place=in_place)
        if in_place:
            counts["labels"] += _empty(dataset, chosen, config, but=settled)
        else:
            counts["labels"] += _delete(dataset, chosen, field, but=settled)
        if is_job(config):
            _forget_journal(dataset, field)
        _delete_new_fields(dataset, field, config)
    config.state = UNDONE
    dataset.update_run_config(chosen, config)
    kept.forget()
    return {"run": chosen, "label_field": field, **counts}


def why_not(dataset: fo.Dataset, key: str) -> str | None:
    """Return why a run cannot be undone now, or None."""
    configs = {key: dataset.get_run_info(key).config for key in list_runs(dataset)}
    config = configs[key]
    if is_going_on(config):
        return f"This run is going on: {describe(key, config)}. Stop it first; what is done is kept until you undo it."
    field = label_field_of(config)
    others = [other for other, that in configs.items() if label_field_of(that) == field]
    kept, written = Replaced(dataset, key), {"run": key}
    if is_job(config):  # which may have gone on after a run: then that is not a later one
        others = [other for other in others if not is_job(configs[other])]
        others = list(takewhile(lambda other: not kept.is_known({"label.run": other}), others))
        written = {"run": {"$exists": False}, "prompt_id": {"$exists": True}}
    later = kept.replaced_by(others, written=written)
    if later is None:
        return None
    return f"A later run replaced labels of this one. Undo that first: {describe(later, configs[later])}."


def _with_journal(samples: SampleCollection, field: str) -> SampleCollection:
    """Return a view of the documents that a job wrote into: others have labels like its own of `apply_model`."""
    if samples.get_field(f"{field}.fingerprint") is None:
        return samples
    written = F(f"{field.removeprefix(FRAMES)}.fingerprint").exists()
    return samples.match_frames(written) if field.startswith(FRAMES) else samples.match(written)


def _put_back(
    dataset: fo.Dataset, field: str, found: Found, run: str | None, counts: Counter, *, in_place: bool
) -> set[str]:
    """Undo a run in a sample or frame whose field was there before.

    Return the ids of its labels that a person changed and, in place, of those that are back.
    """
    frames, name = field.startswith(FRAMES), field.removeprefix(FRAMES)
    documents, this = host.documents(dataset, frames=frames), {"_id": ObjectId(found.unit_id)}
    value = (documents.find_one(this, {name: 1}) or {}).get(name)
    now = singles(value)
    after = found.put_back(now, run, in_place=in_place)
    there, ours = {label["_id"]: label for label in after}, [label for label in now if is_of(label, run)]
    back = [label for _, label in found.replaced if there.get(label["_id"]) == label]
    # In place the journal still tells which of the others to empty.
    journal = JOURNAL if run is None and not in_place else ()
    if (new := found.value(value, after, without=journal)) != value:
        changes = {name: new, "last_modified_at": datetime.now(timezone.utc)}
        documents.update_one(this, {"$set": changes})
        host.reload_documents(dataset, [found.unit_id], frames=frames)
    stay = [label for label in ours if there.get(label["_id"]) is label and not found.untouched(label, run)]
    counts.update(
        restored=len(back), changed_since=len(stay), labels=len(ours) - len(stay) if not in_place else len(back)
    )
    return {str(label["_id"]) for label in [*stay, *(back if in_place else ())]}


def _delete(dataset: fo.Dataset, key: str, field: str, *, but: set[str]) -> int:
    view = labels_of_run(dataset, key)
    if but:
        view = view.filter_labels(field, ~F("_id").is_in([ObjectId(label_id) for label_id in but]))
    count = view.count(labels_path(dataset, field))
    dataset.delete_labels(view=view, fields=field)
    return count


def _empty(dataset: fo.Dataset, key: str, config: Any, *, but: set[str]) -> int:
    field = label_field_of(config)
    path = labels_path(dataset, field)
    Target(dataset, field).declare()  # which a run that was killed could not do
    view = labels_of_run(dataset, key)
    if is_job(config):
        known = _boxes_before(dataset, field)
        boxes = {label_id: known.get(label_id) for label_id, _ in _pairs(*view.values([f"{path}.id"] * 2))}
    else:
        boxes = dict(_pairs(*view.values([f"{path}.id", f"{path}.prompt_box"])))
    boxes = {label_id: box for label_id, box in boxes.items() if label_id not in but}
    if boxes:
        own = [label_id for label_id in _own_confidences(view, path) if label_id in boxes]
        dataset.set_label_values(f"{path}.confidence", dict.fromkeys(own))
        dataset.set_label_values(f"{path}.bounding_box", {i: box for i, box in boxes.items() if box is not None})
        for name in FILLED:
            if dataset.get_field(f"{path}.{name}") is None:
                continue
            dataset.set_label_values(f"{path}.{name}", dict.fromkeys(boxes))
    return len(boxes)


def _own_confidences(samples: SampleCollection, path: str) -> list[str]:
    """Return the ids of labels whose confidence is their mask's: they had none."""
    names = [name for name in ("confidence", *NUMBERS) if samples.get_field(f"{path}.{name}") is not None]
    ids, *columns = samples.values([f"{path}.{name}" for name in ("id", *names)])
    found = zip(_pairs(ids, ids), *(_pairs(ids, column) for column in columns), strict=True)
    return [pairs[0][0] for pairs in found if is_own(dict(zip(names, (v for _, v in pairs[1:]), strict=True)))]


def _boxes_before(dataset: fo.Dataset, field: str) -> dict[str, Any]:
    """Return by id the boxes that labels had before the first run of a job in place."""
    name = f"{field.removeprefix(FRAMES)}.prompt_boxes"
    documents = host.documents(dataset, frames=field.startswith(FRAMES))
    found = documents.aggregate([{"$match": {name: {"$exists": True}}}, {"$project": {"boxes": f"${name}"}}])
    return {label_id: box for doc in found for label_id, box in (doc["boxes"] or {}).items()}


def _forget_journal(dataset: fo.Dataset, field: str) -> None:
    """Remove what a job wrote beside its labels, or the same job would take them for done."""
    name = field.removeprefix(FRAMES)
    documents = host.documents(dataset, frames=field.startswith(FRAMES))
    documents.update_many({f"{name}.fingerprint": {"$exists": True}}, {"$unset": {f"{name}.{j}": 1 for j in JOURNAL}})
    dataset.reload()


def _found(samples: SampleCollection, field: str) -> Iterator[str]:
    """Yield the ids of labels that a job gave to what it found without prompts."""
    frames = "frames." if field.startswith(FRAMES) else ""
    columns = samples.values([f"{frames}id", f"{labels_path(samples, field)}.id"])
    for unit_id, ids in _pairs(*columns):
        ours = {stable_id(unit_id, field.removeprefix(FRAMES), None, number) for number in range(len(ids or []))}
        yield from ours & set(ids or [])


def _pairs(ids: Any, values: Any) -> Iterator[tuple[str, Any]]:
    """Pair ids in nested lists, of frames say, with values nested likewise."""
    if isinstance(ids, str):
        yield ids, values
    elif ids:
        for inner_ids, inner_values in zip(ids, values, strict=True):
            yield from _pairs(inner_ids, inner_values)


def _delete_new_fields(dataset: fo.Dataset, field: str, config: Any) -> None:
    """Delete the fields that came with a run and hold nothing now, the label field itself among them."""
    # A job of a version before 0.2 did not note the paths: then all of them may be the dataset's own.
    before = getattr(config, "paths_before", None)
    before = paths_in(dataset, field) if before is None else set(before)
    new = [field] if field not in before else sorted(paths_in(dataset, field) - before)
    delete = dataset.delete_frame_fields if field.startswith(FRAMES) else dataset.delete_sample_fields
    for path in new:
        if not dataset.count(labels_path(dataset, path)):
            delete(path.removeprefix(FRAMES))
