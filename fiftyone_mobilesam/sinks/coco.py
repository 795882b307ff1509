"""Records -> a journal while a COCO job runs, and at its end the annotations of a COCO file."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from fiftyone_mobilesam.confidence import own_confidence
from fiftyone_mobilesam.engine.item import Outcome
from fiftyone_mobilesam.engine.records import Record, crop_of, implausible_of, record_of_failure
from fiftyone_mobilesam.engine.report import Failure, Report
from fiftyone_mobilesam.options import box_is_prompt
from fiftyone_mobilesam.polygon_loss import PolygonLoss, coco_polygons
from fiftyone_mobilesam.sinks.journal import Journal
from fiftyone_mobilesam.sources.coco import NO_SUCH_IMAGE, CocoItem, CocoSource
from fiftyone_mobilesam.sources.coco_file import NO_IMAGE, CocoFile
from mobilesam.geometry import rle

CHANGED = "image must stay the same during a run, got one that changed. Run the job again."
FAILED = "-"  # fingerprint of an image that could not be read: it is tried again


@dataclass(frozen=True)
class CocoSink:
    """Writes outcomes into a journal, and books them."""

    journal: Journal
    report: Report

    def less_known(self, item: CocoItem) -> CocoItem:
        """Return an image with those of its prompts that have no record yet."""
        known = {entry.key for entry in self.journal.entries(item.key)}
        missing = [place for place, key in enumerate(item.prompt_keys) if key not in known]
        return replace(
            item,
            prompts=[item.prompts[place] for place in missing],
            prompt_ids=[item.prompt_ids[place] for place in missing],
        )

    def put(self, item: CocoItem, outcome: Outcome) -> None:
        """Take an outcome. If the disk is full, say, what was there before stays whole."""
        if outcome.content is None:
            [failure] = outcome.failures
            text = json.dumps(record_of_failure(failure.reason)).encode()
            self.journal.append(item.key, FAILED, [(FAILED, text)])
        else:
            texts = {entry.key: entry.text for entry in self.journal.entries(item.key)}
            missing = [key for key in item.prompt_keys if key not in texts]
            texts |= {key: text.encode() for key, text in zip(missing, outcome.content, strict=True)}
            self.journal.append(item.key, item.fingerprint, [(key, texts[key]) for key in item.prompt_keys])
        self.report.book(outcome)

    def flush(self) -> None:
        """Nothing is kept back."""

    def records(self, source: CocoSource, *, without: str = CHANGED) -> Callable[[int], Record]:
        """Return what gives an annotation's record by its position. It holds no records, only where they are.

        `without` is the failure of an image that the journal does not have as it is now.
        """
        coco, journal = source.coco, self.journal
        offsets, lengths = np.full(coco.count, -1), np.zeros(coco.count, dtype=np.int64)
        failures = {NO_IMAGE: NO_SUCH_IMAGE}
        for ordinal in range(coco.images):
            item = source.item(ordinal)
            entries, made_from = journal.entries(item.key), journal.fingerprint(item.key)
            if item.missing is not None:
                failures[ordinal] = item.missing
            elif made_from not in (FAILED, item.fingerprint):
                failures[ordinal] = without
            else:
                if made_from == FAILED:  # one record says why, for all prompts
                    entries *= len(item.positions)
                offsets[item.positions] = [entry.offset for entry in entries]
                lengths[item.positions] = [len(entry.text) for entry in entries]

        def record(position: int) -> Record:
            if offsets[position] < 0:
                return record_of_failure(failures[int(coco.owners[position])])
            return json.loads(journal.text(int(offsets[position]), int(lengths[position])))

        return record


# What an output annotation has of a record, besides the mask.
SCORES = ("predicted_iou", "stability_score", "mask_quality", "pixels_moved", "outline_iou")
SCORES += ("points_outside", "implausible", "failure")


def write_output(
    coco: CocoFile, report: Report, record_of: Callable[[int], Record], *, segmentation: str, box: str | None
) -> None:
    """Write the changed copy of a COCO file, one annotation at a time, and bring the books up to all of it.

    `record_of` gives the record of the annotation at a position; for `box` see `options.box_is_prompt`.
    """
    report.masks, report.implausible, report.failed_prompts = 0, 0, 0
    report.failures = [failure for failure in report.failures if failure.prompt_id is None]
    report.polygons = PolygonLoss() if segmentation == "polygon" else None
    keep_box = box_is_prompt(box, filled=True)

    def change(position: int, annotation: dict) -> dict:
        record = record_of(position)
        changed = {**annotation, **{key: record[key] for key in SCORES if key in record}}
        changed.setdefault("iscrowd", 0)
        if changed.get("score") is None:
            changed["score"] = _score(record)
        if record["failure"] is not None:
            report.failed_prompts += 1
            image = coco.image_of(position)
            why, name = record["failure"], str(image.get("file_name"))
            report.add([Failure(annotation.get("image_id"), annotation.get("id"), name, why)], log=False)
            changed["segmentation"] = annotation.get("segmentation") or _nothing(image)
            changed.setdefault("area", 0)
            return changed
        report.masks += 1
        report.implausible += implausible_of([record])
        if not (keep_box and changed.get("bbox")):
            changed["bbox"] = record["bbox"]
        changed["area"] = record["area"]
        changed["segmentation"] = rle.compress(record["segmentation"])
        if report.polygons is not None:
            crop = crop_of(record)
            changed["segmentation"] = coco_polygons(crop.mask, crop.region[:2], report.polygons)
        return changed

    coco.write(report.into, change)
    report.failed_prompts = coco.count - report.masks  # with what is no annotation at all


def _score(record: Record) -> float:
    """Return the score of an annotation that has none: its mask's own number, 0 without a mask. COCOeval wants one."""
    if record["failure"] is not None:
        return 0.0
    return own_confidence(record["predicted_iou"], record.get("mask_quality"))


def _nothing(image: dict) -> dict | list:
    """Return an empty mask, which pycocotools reads; an empty list, which it does not, if the size is unknown."""
    height, width = image.get("height"), image.get("width")
    if not (isinstance(height, int) and isinstance(width, int)):
        return []
    return rle.nothing((height, width))
