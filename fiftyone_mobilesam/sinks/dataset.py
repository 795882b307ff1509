"""What was made goes to disk and to the database: masks first, then labels and journal in one update."""

import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import bson
from bson import ObjectId
from pymongo import UpdateOne, WriteConcern
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from fiftyone_mobilesam.database import patiently
from fiftyone_mobilesam.engine.item import Outcome, failed
from fiftyone_mobilesam.engine.report import Report
from fiftyone_mobilesam.keep import JOURNAL
from fiftyone_mobilesam.replaced import Found
from fiftyone_mobilesam.sinks.form import DatasetForm, DatasetItem
from mobilesam.errors import JobError
from mobilesam.files import replacing

# Outcomes are kept back until there are this many, this many bytes, or seconds have passed.
OUTCOMES, BYTES, SECONDS = 32, 4 * 2**20, 2.0
MAX_DOCUMENT_BYTES = 16 * 2**20


class DatasetSink:
    """Writes outcomes into a label field, and books each when it is safe. For `wait` see `patiently`.

    `keep` is told first what will be replaced, so that undo can bring it back; None where there is nothing.
    """

    def __init__(
        self,
        documents: Collection,
        form: DatasetForm,
        report: Report,
        *,
        wait: float,
        keep: Callable[..., None] | None = None,
    ):
        # j: a database that is killed would lose up to 100 ms of updates that it has acknowledged.
        self.documents = documents.with_options(write_concern=WriteConcern(w=1, j=True))
        self.form, self.report, self.wait, self.keep = form, report, wait, keep
        self.waiting: list[tuple[DatasetItem, Outcome]] = []
        self.bytes, self.flushed = 0, time.monotonic()

    def put(self, item: DatasetItem, outcome: Outcome) -> None:
        """Take an outcome. A JobError says that a disk is full or read-only, or that the database stays away."""
        if outcome.content is None or outcome.unchanged:
            self.report.book(outcome)
            return
        size = len(bson.encode(outcome.content.labels))
        if size > MAX_DOCUMENT_BYTES:
            why = f"Labels of a sample must fit into {MAX_DOCUMENT_BYTES} bytes, got {size}. "
            why += "Keep the masks on disk with output_dir, or split the sample's prompts."
            self.report.book(failed(item, why))
            return
        if self.form.output_dir is not None:
            write_masks(self.form.mask_folder(item.key), outcome.content.pngs)
        self.waiting.append((item, outcome))
        self.bytes += size
        late = time.monotonic() - self.flushed > SECONDS
        if len(self.waiting) >= OUTCOMES or self.bytes >= BYTES or late:
            self.flush()

    def flush(self) -> None:
        """Write what was kept back."""
        waiting, self.waiting, self.bytes = self.waiting, [], 0
        if waiting:
            if self.keep is not None:
                self._keep({item.key: (item, outcome.content.labels) for item, outcome in waiting})
            updates = [self._update(item, outcome.content.labels) for item, outcome in waiting]
            refused = patiently(lambda: self._write(updates), wait=self.wait)
            for number, (item, outcome) in enumerate(waiting):
                self.report.book(failed(item, refused[number]) if number in refused else outcome)
        self.flushed = time.monotonic()

    def _keep(self, waiting: dict[str, tuple[DatasetItem, dict[str, Any]]]) -> None:
        """Keep what is about to be replaced."""
        field, in_place = self.form.label_field, self.form.options.in_place
        wanted = {"_id": {"$in": [ObjectId(key) for key in waiting]}}
        there = patiently(lambda: list(self.documents.find(wanted, {field: 1})), wait=self.wait)
        found = []
        for document in there:
            item, labels = waiting[str(document["_id"])]
            stays = {str(label["_id"]) for label in item.stays.all()}
            found.append(Found.of(item.key, document.get(field), labels, None, in_place=in_place, stays=stays))
        if found:
            self.keep(*found)

    def _write(self, updates: list[UpdateOne]) -> dict[int, str]:
        """Update documents; return for those the database refused their place in the list and the reason."""
        try:
            self.documents.bulk_write(updates, ordered=False)
        except BulkWriteError as error:
            if error.details["writeConcernErrors"] or not error.details["writeErrors"]:
                raise
            return {failure["index"]: failure["errmsg"] for failure in error.details["writeErrors"]}
        return {}

    def _update(self, item: DatasetItem, labels: dict[str, Any]) -> UpdateOne:
        field = self.form.label_field
        changes, filters = {field: labels}, None
        if self.form.options.in_place and "detections" in labels:
            # A view may show some of the labels; the others stay as they are.
            changes = {f"{field}.{name}": labels[name] for name in JOURNAL}
            made = [detection for detection in labels["detections"] if str(detection["_id"]) not in item.stays.labels]
            changes |= {f"{field}.detections.$[d{number}]": detection for number, detection in enumerate(made)}
            filters = [{f"d{number}._id": detection["_id"]} for number, detection in enumerate(made)]
        changes["last_modified_at"] = datetime.now(timezone.utc)
        return UpdateOne({"_id": ObjectId(item.key)}, {"$set": changes}, array_filters=filters or None)


def write_masks(folder: Path, pngs: dict[str, bytes | None]) -> None:
    """Make a sample's folder hold these files and nothing else; each is whole or not there. None: it stays as it is."""
    try:
        if pngs:
            folder.mkdir(parents=True, exist_ok=True)
        for name, content in pngs.items():
            if content is not None:
                with replacing(folder / name) as unfinished:
                    unfinished.write_bytes(content)
        if folder.is_dir():
            for path in folder.iterdir():
                if path.name not in pngs:
                    path.unlink()
            if not pngs:
                folder.rmdir()
    except OSError as error:
        raise JobError(
            f"output_dir must take the masks, got {error}. Make room or allow writing there, and start the job again; "
            "it goes on where it stopped."
        ) from error
