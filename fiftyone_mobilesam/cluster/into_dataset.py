"""Shards of records -> labels of a FiftyOne dataset. Doing it again changes nothing."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
from fiftyone.core.collections import SampleCollection

from fiftyone_mobilesam.cluster.actors import read_shards
from fiftyone_mobilesam.cluster.manifest import Row, check_samples, dataset_row
from fiftyone_mobilesam.fields import Target
from fiftyone_mobilesam.jobs.journal import check_owner, kept_labels, made_from
from fiftyone_mobilesam.labels import fill, new_detection
from fiftyone_mobilesam.options import Options
from fiftyone_mobilesam.prompts import prompt_records, single_labels
from fiftyone_mobilesam.report import Failure, RunReport
from fiftyone_mobilesam.segmenter import Record, digest
from mobilesam import MaskCrop
from mobilesam.geometry import rle

SAMPLES_AT_ONCE = 32
NOT_DONE = "The shards have nothing for this sample as it is now. Write the manifest and run the job again."


def merge_into_dataset(
    samples: SampleCollection, out: str | Path, *, label_field: str, overwrite: bool = False, **options: Any
) -> RunReport:
    """Write the labels that `apply_model` would have written, from the shards of a run.

    A label that is there for the same prompt keeps its id, so that merging more shards later makes no doubles. What was
    merged already stays as it is, with whatever was corrected by hand; and if another run's shards come, a mask that
    was accepted in review stays as long as its prompt does. Samples whose prompts or path have changed since the
    manifest are failures and keep what they have.

    Args:
        samples: that the manifest was written from.
        out: folder of the run.
        label_field: where the masks go.
        overwrite: whether labels in `label_field` that no job wrote may be replaced.
        **options: as for `write_manifest`, and of the output: `box`, `confidence`, `in_place`, `clip`.

    Returns:
        The report of the run, as of `apply_model`.

    Raises:
        FieldError: a wrong field, or one with labels that no job wrote.
        FileNotFoundError: there are no shards.
    """

    parsed, report = Options.parse(**options), RunReport()
    check_samples(samples, parsed)
    target = Target(samples, label_field)
    target.check(parsed)
    waiting = set(samples.values("id"))
    if not (overwrite or parsed.in_place):
        check_owner(samples._root_dataset._sample_collection, sorted(waiting), label_field)
    rows = (row for row in read_shards(out) if row["sample_id"] in waiting)
    while some := list(islice(rows, SAMPLES_AT_ONCE)):
        found = {row["id"]: row for row in some}
        for sample in samples.select(sorted({row["sample_id"] for row in some})).iter_samples(autosave=True):
            row = found.get(dataset_row(sample, parsed)["id"]) or found.get(_merged_row(sample, label_field, parsed))
            if row is not None and sample.id in waiting:
                waiting.discard(sample.id)
                _merge(sample, row, label_field, parsed, report)
    report.failed += [Failure(sample_id, None, samples[sample_id].filepath, NOT_DONE) for sample_id in sorted(waiting)]
    target.declare()
    return report


def _merge(sample: fo.Sample, row: Row, label_field: str, options: Options, report: RunReport) -> None:
    """Write the labels of one sample unless they are there, and book its prompts."""

    if row["failure"] is not None:
        report.failed.append(Failure(sample.id, None, sample.filepath, row["failure"]))
        return
    settings = {name: value for name, value in vars(options).items() if name != "on_error"}
    fingerprint = f"{row['id']}-{digest([row['records'], settings])}"
    if _journal(sample, label_field, "fingerprint") != fingerprint:
        _write(sample, row, label_field, options, fingerprint)
    labels = single_labels(sample[label_field])
    (report.done if labels else report.empty).append(sample.id)
    for label in labels:
        if (reason := label.get_attribute_value("failure", None)) is None:
            report.masks += 1
        else:
            report.failed.append(Failure(sample.id, label["prompt_id"], sample.filepath, reason))


def _write(sample: fo.Sample, row: Row, label_field: str, options: Options, fingerprint: str) -> None:
    """Write the labels of one sample, and what names their origin."""

    prompts = _prompts(sample, options)
    there = {} if (before := _value(sample, label_field)) is None else before.to_dict()
    accepted = kept_labels(prompts, there, same_settings=False)
    before = {label.get_attribute_value("prompt_id", None): label for label in single_labels(before)}
    labels = {name: sample[field] for name, field in options.prompt_paths.items()}
    original_hw = row["height"], row["width"]
    detections = []
    for record, text in zip(prompt_records(labels, options, original_hw=original_hw), row["records"], strict=True):
        made, old = json.loads(text), before.get(record.label.id)
        how = {"original_hw": original_hw, "failure": record.failure or made["failure"]}
        if record.label.id in accepted:
            detections.append(old)
        elif options.in_place:
            fill(record.label, record, _crop(made), options, **how)
            detections.append(record.label)
        else:
            detection = new_detection(record, _crop(made), options, **how)
            detection.id = detection.id if old is None else old.id
            detections.append(detection)
    if not options.in_place:
        sample[label_field] = fo.Detections(detections=detections)
    value = sample[label_field]
    if value is not None:
        value["fingerprint"], value["made_from"] = fingerprint, made_from(_prompts(sample, options))
        value["failed_prompts"] = sum(label["failure"] is not None for label in detections)


def _merged_row(sample: fo.Sample, label_field: str, options: Options) -> str | None:
    """Return the id of the row that prompts had before their boxes moved to whole pixels in place."""

    if not options.in_place or not (before := _journal(sample, label_field, "made_from")):
        return None
    unchanged = made_from(_prompts(sample, options)) == before
    return _journal(sample, label_field, "fingerprint").split("-")[0] if unchanged else None


def _prompts(sample: fo.Sample, options: Options) -> dict[str, dict | None]:
    values = {field: sample[field] for field in options.prompt_paths.values()}
    return {field: value and value.to_dict() for field, value in values.items()}


def _value(sample: fo.Sample, field: str) -> fo.Label | None:
    return sample[field] if sample.has_field(field) else None


def _journal(sample: fo.Sample, field: str, name: str) -> Any:
    value = _value(sample, field)
    return value[name] if value is not None and value.has_field(name) else None


def _crop(record: Record) -> MaskCrop | None:
    if record["predicted_iou"] is None:
        return None
    scores = {"iou_prediction": record["predicted_iou"], "stability_score": record["stability_score"]}
    if record["failure"] is not None:
        return MaskCrop(region=(0, 0, 0, 0), mask=np.zeros((0, 0), bool), **scores)
    x, y, width, height = record["bbox"]
    mask = rle.decode(record["segmentation"])[y : y + height, x : x + width]
    return MaskCrop(region=(x, y, x + width, y + height), mask=mask.copy(), **scores)
