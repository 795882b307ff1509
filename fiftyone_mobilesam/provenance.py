"""What each run did, recorded with the dataset as a FiftyOne run; and how to take the last one back.

Every label that a run wrote holds the run's key in its attribute `run`, so that "what did this run write" is a filter,
however large the dataset is and whatever happened in between.
"""

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import fiftyone as fo
from bson import ObjectId
from fiftyone import ViewField as F
from fiftyone.core.collections import SampleCollection

from fiftyone_mobilesam.fields import FRAMES, labels_path
from mobilesam import FieldError, __version__

METHOD = "mobilesam"
UNDONE = "undone"
# What a run in place adds to a label that was there before.
FILLED = ("mask", "prompt_id", "predicted_iou", "stability_score", "failure", "run", "prompt_box")


def begin_run(samples: SampleCollection, label_field: str, settings: dict[str, Any]) -> str:
    """Record that a run begins, and return its key.

    Args:
        samples: the dataset or view that is labelled.
        label_field: where the labels go.
        settings: what was chosen, JSON serializable.
    """
    from mobilesam.weights import resolve, sha256_of

    dataset, now = samples._root_dataset, datetime.now(timezone.utc)
    config = dataset.init_run(
        label_field=label_field,
        settings=settings,
        state="running",
        started=now.isoformat(timespec="seconds"),
        versions={"mobilesam": __version__, "fiftyone": fo.__version__},
        weights_sha256=sha256_of(resolve("mobile_sam.pt")),
        paths_before=sorted(_paths(dataset, label_field)),
    )
    config.method = METHOD
    name = "".join(c if c.isascii() and c.isalnum() else "_" for c in label_field)
    key = f"{METHOD}_{name}_{now:%Y%m%d_%H%M%S}_{str(ObjectId())[-4:]}"
    dataset.register_run(key, config)
    return key


def end_run(dataset: fo.Dataset, key: str, state: str, summary: dict[str, Any], failures: list[dict]) -> None:
    """Record how a run ended.

    Args:
        dataset: the dataset.
        key: of the run.
        state: "completed", "stopped", "failed" or "undone".
        summary: counts, JSON serializable.
        failures: all of them, one dict each.
    """
    config = dataset.get_run_info(key).config
    config.state, config.summary = state, summary
    dataset.update_run_config(key, config)
    dataset.save_run_results(key, dataset.init_run_results(key, failures=failures), cache=False)


def describe_field(dataset: fo.Dataset, key: str) -> None:
    """Write into the description of a run's label field where its labels come from."""
    config = dataset.get_run_info(key).config
    field = dataset.get_field(config.label_field)
    if field is None:  # nothing was written
        return
    prompts = ", ".join(f"{value!r}" for name, value in config.settings.items() if name.endswith("prompt_field"))
    field.description = f"MobileSAM masks of {prompts or 'everything in the image'}"
    field.info = {**(field.info or {}), "mobilesam_run": key}
    field.save()


def list_runs(dataset: fo.Dataset) -> list[str]:
    """Return the keys of the runs that are there to be undone, latest first."""
    infos = [dataset.get_run_info(key) for key in dataset.list_runs(method=METHOD)]
    kept = [info for info in infos if getattr(info.config, "state", UNDONE) != UNDONE]
    return [info.key for info in sorted(kept, key=lambda info: info.timestamp, reverse=True)]


def labels_of_run(samples: SampleCollection, key: str) -> SampleCollection:
    """Return a view of the labels that a run wrote, and of nothing else in its field."""
    config = samples._root_dataset.get_run_info(key).config
    return samples.filter_labels(config.label_field, F("run") == key)


def undo_run(dataset: fo.Dataset, key: str | None = None) -> dict[str, Any]:
    """Remove exactly what a run wrote: its labels; or, of a run in place, its masks and attributes.

    Boxes that a run in place moved go back. What a run replaced cannot come back: labels that the field held before,
    and masks that labels had.

    Args:
        dataset: the dataset.
        key: of the run. Default: the last one.

    Returns:
        `{"run": key, "label_field": name, "labels": number of labels removed, or emptied in place}`.

    Raises:
        FieldError: there is no such run, or no run at all.
    """
    keys = list_runs(dataset)
    if (key is None and not keys) or (key is not None and key not in keys):
        raise FieldError(
            f"run must be one of {', '.join(keys) or 'the runs of this dataset, which has none'}, got {key!r}. "
            "Runs are recorded by the buttons of the App."
        )
    key = key or keys[0]
    config = dataset.get_run_info(key).config
    count = 0
    if dataset.get_field(config.label_field) is not None:
        count = _empty(dataset, key, config) if config.settings.get("in_place") else _delete(dataset, key, config)
        _delete_new_fields(dataset, config)
    config.state = UNDONE
    dataset.update_run_config(key, config)
    return {"run": key, "label_field": config.label_field, "labels": count}


def _delete(dataset: fo.Dataset, key: str, config: Any) -> int:
    view = labels_of_run(dataset, key)
    count = view.count(labels_path(dataset, config.label_field))
    dataset.delete_labels(view=view, fields=config.label_field)
    return count


def _empty(dataset: fo.Dataset, key: str, config: Any) -> int:
    path = labels_path(dataset, config.label_field)
    _declare(dataset, config.label_field)
    boxes = dict(_pairs(*labels_of_run(dataset, key).values([f"{path}.id", f"{path}.prompt_box"])))
    if boxes:
        dataset.set_label_values(f"{path}.bounding_box", {i: box for i, box in boxes.items() if box is not None})
        for name in FILLED:
            dataset.set_label_values(f"{path}.{name}", dict.fromkeys(boxes))
    return len(boxes)


def _pairs(ids: Any, values: Any) -> Iterator[tuple[str, Any]]:
    """Pair ids in nested lists, of frames say, with values nested likewise."""
    if isinstance(ids, str):
        yield ids, values
    elif ids:
        for inner_ids, inner_values in zip(ids, values, strict=True):
            yield from _pairs(inner_ids, inner_values)


def _declare(dataset: fo.Dataset, label_field: str) -> None:
    """Declare the attributes of labels, which a run that was killed could not do."""
    if label_field.startswith(FRAMES):
        dataset.add_dynamic_frame_fields(fields=label_field.removeprefix(FRAMES))
    else:
        dataset.add_dynamic_sample_fields(fields=label_field)


def _delete_new_fields(dataset: fo.Dataset, config: Any) -> None:
    """Delete the fields that came with a run and hold nothing now, the label field itself among them."""
    before, path = set(config.paths_before), labels_path(dataset, config.label_field)
    if config.label_field not in before:
        if not dataset.count(path):
            _delete_field(dataset, config.label_field)
        return
    for name in sorted(_paths(dataset, config.label_field) - before):
        if not dataset.count(name):
            _delete_field(dataset, name)


def _delete_field(dataset: fo.Dataset, path: str) -> None:
    if path.startswith(FRAMES):
        dataset.delete_frame_fields(path.removeprefix(FRAMES))
    else:
        dataset.delete_sample_fields(path)


def _paths(dataset: fo.Dataset, label_field: str) -> set[str]:
    """Return the paths of a field and of all in it that the schema knows."""
    schema = dataset.get_field_schema(flat=True)
    schema |= {FRAMES + path: field for path, field in (dataset.get_frame_field_schema(flat=True) or {}).items()}
    return {path for path in schema if path == label_field or path.startswith(label_field + ".")}
