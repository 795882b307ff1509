"""Shards of records -> labels of a FiftyOne dataset, or a COCO file. Doing it again changes nothing."""

import json
import tempfile
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fiftyone_mobilesam.coco_file import NO_IMAGE, CocoFile
from fiftyone_mobilesam.coco_output import CocoReport, write_output
from fiftyone_mobilesam.manifest import Row, check_samples, coco_row, dataset_row
from fiftyone_mobilesam.ray_job import read_shards
from fiftyone_mobilesam.segmenter import Record, failed
from mobilesam import MaskCrop, rle

if TYPE_CHECKING:
    import fiftyone as fo
    from fiftyone.core.collections import SampleCollection

    from fiftyone_mobilesam.options import Options
    from fiftyone_mobilesam.report import RunReport

SAMPLES_AT_ONCE = 32
NOT_DONE = "The shards have nothing for this annotation as it is now. Write the manifest and run the job again."


def merge_into_dataset(
    samples: "SampleCollection", out: str | Path, *, label_field: str, **options: Any
) -> "RunReport":
    """Write the labels that `apply_model` would have written, from the shards of a run.

    A label that is there for the same prompt keeps its id, so that merging twice, or merging more shards later, makes
    no doubles. Samples whose prompts or path have changed since the manifest are failures and keep what they have.

    Args:
        samples: that the manifest was written from.
        out: folder of the run.
        label_field: where the masks go.
        **options: as for `write_manifest`, and of the output: `box`, `confidence`, `in_place`, `clip`.

    Returns:
        The report of the run, as of `apply_model`.

    Raises:
        FieldError: a wrong field.
        FileNotFoundError: there are no shards.
    """
    from fiftyone_mobilesam.fields import Target
    from fiftyone_mobilesam.options import Options
    from fiftyone_mobilesam.report import Failure, RunReport

    parsed, report = Options.parse(**options), RunReport()
    check_samples(samples, parsed)
    target = Target(samples, label_field)
    target.check(parsed)
    waiting = set(samples.values("id"))
    rows = (row for row in read_shards(out) if row["sample_id"] in waiting)
    while some := list(islice(rows, SAMPLES_AT_ONCE)):
        found = {row["id"]: row for row in some}
        for sample in samples.select(sorted({row["sample_id"] for row in some})).iter_samples(autosave=True):
            row = found.get(dataset_row(sample, parsed)["id"])
            if row is not None and sample.id in waiting:
                waiting.discard(sample.id)
                _merge(sample, row, label_field, parsed, report)
    report.failed += [Failure(sample_id, None, samples[sample_id].filepath, NOT_DONE) for sample_id in sorted(waiting)]
    target.declare()
    return report


def merge_coco(
    annotations: str | Path, shards: str | Path, out: str | Path, *, segmentation: str = "rle", box: str = "prompt"
) -> CocoReport:
    """Write the COCO file that `label_coco` would have written, from the shards of a run.

    Args:
        annotations: COCO file that the manifest was written from.
        shards: folder of the run.
        out: COCO file to write.
        segmentation: see `label_coco`.
        box: see `label_coco`.

    Raises:
        AnnotationError: not a COCO file.
        FileNotFoundError: there are no shards.
    """
    with CocoFile(annotations) as coco, tempfile.TemporaryFile(dir=Path(out).parent) as spool:
        rows = ((ordinal, coco_row(coco, ordinal)) for ordinal in range(coco.images))
        wanted = {row["id"]: ordinal for ordinal, row in rows if row}
        offsets, lengths = np.full(coco.count, -1), np.zeros(coco.count, dtype=np.int64)
        for row in read_shards(shards):
            ordinal = wanted.get(row["id"], NO_IMAGE)
            if ordinal == NO_IMAGE:
                continue
            for position, text in zip(coco.positions(ordinal), row["records"], strict=True):
                offsets[position] = spool.tell()
                lengths[position] = spool.write(text.encode())

        def record_of(position: int) -> Record:
            if offsets[position] < 0:
                return failed(NOT_DONE)
            spool.seek(offsets[position])
            return json.loads(spool.read(lengths[position]))

        return write_output(coco, out, record_of, segmentation=segmentation, box=box)


def _merge(sample: "fo.Sample", row: Row, label_field: str, options: "Options", report: "RunReport") -> None:
    """Write the labels of one sample, and book its prompts."""
    import fiftyone as fo

    from fiftyone_mobilesam.labels import fill, new_detection
    from fiftyone_mobilesam.prompts import prompt_records
    from fiftyone_mobilesam.report import Failure

    if row["failure"] is not None:
        report.failed.append(Failure(sample.id, None, sample.filepath, row["failure"]))
        return
    original_hw = row["height"], row["width"]
    labels = {name: sample[field] for name, field in options.prompt_paths.items()}
    kept = {} if options.in_place else _ids(sample, label_field)
    detections = []
    for record, text in zip(prompt_records(labels, options, original_hw=original_hw), row["records"], strict=True):
        made = json.loads(text)
        how = {"original_hw": original_hw, "failure": record.failure or made["failure"]}
        if options.in_place:
            detection = record.label
            fill(detection, record, _crop(made), options, **how)
        else:
            detection = new_detection(record, _crop(made), options, **how)
            detection.id = kept.get(record.label.id, detection.id)
        detections.append(detection)
        if detection["failure"] is None:
            report.masks += 1
        else:
            report.failed.append(Failure(sample.id, record.label.id, sample.filepath, detection["failure"]))
    (report.done if detections else report.empty).append(sample.id)
    if not options.in_place:
        sample[label_field] = fo.Detections(detections=detections)


def _ids(sample: "fo.Sample", label_field: str) -> dict[str, str]:
    """Return the ids of the labels that are there, by their prompt's id."""
    there = sample[label_field] if sample.has_field(label_field) else None
    return {} if there is None else {d.get_attribute_value("prompt_id", None): d.id for d in there.detections}


def _crop(record: Record) -> MaskCrop | None:
    if record["predicted_iou"] is None:
        return None
    scores = {"iou_prediction": record["predicted_iou"], "stability_score": record["stability_score"]}
    if record["failure"] is not None:
        return MaskCrop(region=(0, 0, 0, 0), mask=np.zeros((0, 0), bool), **scores)
    x, y, width, height = record["bbox"]
    mask = rle.decode(record["segmentation"])[y : y + height, x : x + width]
    return MaskCrop(region=(x, y, x + width, y + height), mask=mask.copy(), **scores)
