"""Records -> a journal while a COCO job runs, and at its end the annotations of a COCO file."""

import json
from collections.abc import Callable

import numpy as np

from fiftyone_mobilesam.engine.item import Outcome
from fiftyone_mobilesam.engine.records import Record, record_of_failure
from fiftyone_mobilesam.engine.report import Failure, Report
from fiftyone_mobilesam.options import box_is_prompt
from fiftyone_mobilesam.polygon_loss import PolygonLoss, coco_polygons
from fiftyone_mobilesam.sinks.journal import Journal
from fiftyone_mobilesam.sources.coco import NO_SUCH_IMAGE, CocoItem, CocoSource
from fiftyone_mobilesam.sources.coco_file import NO_IMAGE, CocoFile
from mobilesam.geometry import rle

CHANGED = "image must stay the same during a run, got one that changed. Run the job again."
FAILED = "-"  # fingerprint of an image that could not be read: it is tried again


class CocoSink:
    """Writes outcomes into a journal, and books them.

    Args:
        journal: of the job.
        report: the books.
    """

    def __init__(self, journal: Journal, report: Report):
        self.journal, self.report = journal, report

    def is_pending(self, item: CocoItem) -> bool:
        """Whether an image has prompts whose records are missing or were made from something else."""
        return bool(item.prompts) and self.journal.fingerprint(item.key) != item.fingerprint

    def known(self, item: CocoItem) -> set[str]:
        """Return the keys of the prompts of an image that have a record."""
        return {entry.key for entry in self.journal.entries(item.key)}

    def put(self, item: CocoItem, outcome: Outcome) -> None:
        """Take an outcome.

        Raises:
            OSError: the disk is full, say. What was there before stays whole.
        """
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

        Args:
            source: of the items.
            without: the failure of an image that the journal does not have as it is now.
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


def write_output(
    coco: CocoFile, report: Report, record_of: Callable[[int], Record], *, segmentation: str, box: str | None
) -> None:
    """Write the changed copy of a COCO file, one annotation at a time, and bring the books up to all of it.

    Args:
        coco: the input.
        report: the books, with the path of the copy.
        record_of: gives the record of the annotation at a position.
        segmentation: "rle" or "polygon".
        box: see `fiftyone_mobilesam.options.box_is_prompt`.
    """
    report.masks, report.failed_prompts = 0, 0
    report.failures = [failure for failure in report.failures if failure.prompt_id is None]
    report.polygons = PolygonLoss() if segmentation == "polygon" else None
    keep_box = box_is_prompt(box, filled=True)

    def change(position: int, annotation: dict) -> dict:
        record = record_of(position)
        changed = {**annotation, **{key: record[key] for key in ("predicted_iou", "stability_score", "failure")}}
        changed.setdefault("iscrowd", 0)
        if record["failure"] is not None:
            _book(coco, report, position, annotation, record["failure"])
            changed["segmentation"] = annotation.get("segmentation") or _nothing(coco, position)
            changed.setdefault("area", 0)
            return changed
        report.masks += 1
        if not (keep_box and changed.get("bbox")):
            changed["bbox"] = record["bbox"]
        changed["area"] = record["area"]
        changed["segmentation"] = record["segmentation"]
        if report.polygons is not None:
            changed["segmentation"] = _polygons(record, report.polygons)
        return changed

    coco.write(report.into, change)
    report.failed_prompts = coco.count - report.masks  # with what is no annotation at all


def file_name(coco: CocoFile, position: int) -> str | None:
    """Return the file name of the image of an annotation, or None."""
    owner = int(coco.owners[position])
    return ((coco.image(owner) if owner != NO_IMAGE else None) or {}).get("file_name")


def _book(coco: CocoFile, report: Report, position: int, annotation: dict, why: str) -> None:
    report.failed_prompts += 1
    name = str(file_name(coco, position))
    report.add([Failure(annotation.get("image_id"), annotation.get("id"), name, why)], log=False)


def _nothing(coco: CocoFile, position: int) -> dict | list:
    """Return an empty mask, which pycocotools reads; an empty list, which it does not, if the size is unknown."""
    owner = int(coco.owners[position])
    image = (coco.image(owner) if owner != NO_IMAGE else None) or {}
    height, width = image.get("height"), image.get("width")
    if not (isinstance(height, int) and isinstance(width, int)):
        return []
    return {"size": [height, width], "counts": [height * width]}


def _polygons(record: Record, loss: PolygonLoss) -> list[list[float]]:
    """Return a record's mask as COCO polygons, and book what that loses."""
    x, y, width, height = record["bbox"]
    mask = rle.decode(record["segmentation"])[y : y + height, x : x + width]
    return coco_polygons(mask, (x, y), loss)
