"""What a job has made goes to disk and to the database: masks first, then labels and fingerprint in one update."""

import os
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import bson
from bson import ObjectId
from pymongo import UpdateOne, WriteConcern
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from fiftyone_mobilesam.jobs.database import patiently
from fiftyone_mobilesam.jobs.engine import Record
from fiftyone_mobilesam.jobs.journal import JOURNAL
from fiftyone_mobilesam.jobs.settings import Settings
from fiftyone_mobilesam.report import Failure
from mobilesam.errors import JobError

# Records are kept back until there are this many, this many bytes, or seconds have passed.
RECORDS, BYTES, SECONDS = 32, 4 * 2**20, 2.0
MAX_DOCUMENT_BYTES = 16 * 2**20
TEMPORARY = ".part"


class Writer:
    """Writes records, and hands each on when it is safe.

    Args:
        collection: of samples or frames.
        settings: of the job.
        wait: how long to wait for the database, in seconds.
        written: called with each record once it is on disk, with `labels` None and failures if it could not be.
    """

    def __init__(self, collection: Collection, settings: Settings, wait: float, written: Callable[[Record], None]):
        # j: a database that is killed would lose up to 100 ms of updates that it has acknowledged.
        self.collection = collection.with_options(write_concern=WriteConcern(w=1, j=True))
        self.settings, self.wait, self.written = settings, wait, written
        self.records: list[Record] = []
        self.bytes, self.flushed = 0, time.monotonic()

    def add(self, record: Record) -> None:
        """Take a record.

        Raises:
            JobError: the disk is full, a folder is not writable, or the database stays away.
        """
        if record.labels is None or record.unchanged:
            self.written(record)
            return
        size = len(bson.encode(record.labels))
        if size > MAX_DOCUMENT_BYTES:
            self.written(_failed(record, _too_large(size)))
            return
        if self.settings.output_dir is not None:
            write_masks(self.settings.mask_folder(record.unit_id), record.pngs)
        self.records.append(record)
        self.bytes += size
        late = time.monotonic() - self.flushed > SECONDS
        if len(self.records) >= RECORDS or self.bytes >= BYTES or late:
            self.flush()

    def flush(self) -> None:
        """Write what was kept back.

        Raises:
            JobError: the database stays away.
        """
        records, self.records, self.bytes = self.records, [], 0
        if records:
            updates = [self._update(record) for record in records]
            refused = patiently(lambda: self._write(updates), wait=self.wait)
            for number, record in enumerate(records):
                self.written(_failed(record, refused[number]) if number in refused else record)
        self.flushed = time.monotonic()

    def _write(self, updates: list[UpdateOne]) -> dict[int, str]:
        """Update documents; return for those the database refused their place in the list and the reason."""
        try:
            self.collection.bulk_write(updates, ordered=False)
        except BulkWriteError as error:
            if error.details["writeConcernErrors"] or not error.details["writeErrors"]:
                raise
            return {failed["index"]: failed["errmsg"] for failed in error.details["writeErrors"]}
        return {}

    def _update(self, record: Record) -> UpdateOne:
        field, labels = self.settings.label_field, record.labels
        changes, filters = {field: labels}, None
        if self.settings.options.in_place and "detections" in labels:
            # A view may show some of the labels; the others stay as they are.
            changes = {f"{field}.{name}": labels[name] for name in JOURNAL}
            made = [detection for detection in labels["detections"] if str(detection["_id"]) not in record.kept]
            changes |= {f"{field}.detections.$[d{number}]": detection for number, detection in enumerate(made)}
            filters = [{f"d{number}._id": detection["_id"]} for number, detection in enumerate(made)]
        changes["last_modified_at"] = datetime.now(timezone.utc)
        return UpdateOne({"_id": ObjectId(record.unit_id)}, {"$set": changes}, array_filters=filters or None)


def write_masks(folder: Path, pngs: dict[str, bytes | None]) -> None:
    """Make a unit's folder hold these files and nothing else; each is whole or not there. None: it stays as it is.

    Raises:
        JobError: the disk is full, or the folder cannot be written.
    """
    try:
        if pngs:
            folder.mkdir(parents=True, exist_ok=True)
        for name, content in pngs.items():
            if content is not None:
                _replace(folder / name, content)
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


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _failed(record: Record, reason: str) -> Record:
    failure = Failure(record.unit_id, None, record.filepath, reason)
    return Record(record.unit_id, record.filepath, failures=[failure])


def _too_large(size: int) -> str:
    return (
        f"Labels of a sample must fit into {MAX_DOCUMENT_BYTES} bytes, got {size}. "
        "Keep the masks on disk with output_dir, or split the sample's prompts."
    )
