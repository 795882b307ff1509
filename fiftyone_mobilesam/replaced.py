"""What runs replaced, kept until they are undone: label by label, in a collection beside those of the datasets.

It is kept before it is replaced, so that a kill loses nothing, and no document grows with the dataset.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import fiftyone as fo
from pymongo import UpdateOne

from fiftyone_mobilesam import host
from fiftyone_mobilesam.database import DATABASE_WAIT, patiently
from fiftyone_mobilesam.keep import LISTS, MASK, is_of, looks_of, singles

COLLECTION = "mobilesam.replaced"
END = "\uffff"  # behind every id


@dataclass
class Found:
    """What a run found in the label field of a sample or frame, its unit. `run` is its key, or None of a job.

    Attributes:
        unit_id: of the sample or frame.
        beside: what stood beside the labels, such as a job's journal; None if the field had no value.
        wrote: how the labels that the run wrote looked, by id, see `looks_of`.
        replaced: the labels that it replaced, with their places in the list. In place, those that had a mask.
    """

    unit_id: str
    beside: dict[str, Any] | None = None
    wrote: dict[str, str] = field(default_factory=dict)
    replaced: list[tuple[int, dict]] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        unit_id: str,
        value: dict | None,
        written: dict,
        run: str | None,
        *,
        in_place: bool,
        stays: Collection[str] = (),
    ) -> "Found":
        """Compare what the database holds with the value that takes its place, or of a patch the label.

        `stays` are ids of labels in it that are written as they were. Labels are jobs' own where a journal is.
        """
        new = {str(label["_id"]): label for label in singles(written)}
        wrote = {i: looks_of(label) for i, label in new.items() if i not in stays and is_of(label, run)}
        has_own = run is not None or "fingerprint" in (value or {})
        others = [(place, label) for place, label in enumerate(singles(value)) if not (has_own and is_of(label, run))]
        if in_place:
            masks = [(place, label) for place, label in others if any(label.get(name) for name in MASK)]
            return cls(unit_id, {}, wrote, [(place, label) for place, label in masks if str(label["_id"]) in wrote])
        beside = None if value is None else {name: what for name, what in value.items() if name not in LISTS}
        return cls(unit_id, beside, wrote, [(place, label) for place, label in others if str(label["_id"]) not in new])

    def put_back(self, now: list[dict], run: str | None, *, in_place: bool) -> list[dict]:
        """Return the labels that are there now as they were before the run.

        A label of the run that a person changed since stays, and so does what else is there now of a prompt; what the
        run replaced there does not come back.
        """
        if in_place:
            masks = {str(label["_id"]): label for _, label in self.replaced}
            return [masks.get(str(label["_id"]), label) if self.untouched(label, run) else label for label in now]
        labels = [label for label in now if not self.untouched(label, run)]
        ids, prompts = {label["_id"] for label in labels}, {label.get("prompt_id") for label in labels} - {None}
        for place, label in sorted(self.replaced, key=lambda placed: placed[0]):
            if label["_id"] not in ids and label.get("prompt_id") not in prompts:
                labels.insert(place, label)
        return labels

    def value(self, now: dict | None, labels: list[dict], *, without: Collection[str] = ()) -> dict | None:
        """Return a field's value with other labels, and what stood beside them but for some names."""
        if now and "_id" in now:
            return labels[0]
        if self.beside is None and not labels:
            return None
        name = next((name for name in LISTS if name in (now or {})), LISTS[0])
        value = {"_cls": "Detections", **(self.beside or {}), **(now or {}), name: labels}
        return {name: what for name, what in value.items() if name not in without}

    def untouched(self, label: dict, run: str | None) -> bool:
        """Return whether a label is as the run wrote it."""
        looks = looks_of(label)
        return is_of(label, run) and self.wrote.get(str(label["_id"]), looks) == looks


class Replaced:
    """What one run of a dataset replaced. `wait` is how long to wait for the database, in seconds."""

    def __init__(self, dataset: fo.Dataset, key: str, *, wait: float = DATABASE_WAIT):
        self.dataset, self.key, self.wait = dataset, key, wait
        self._documents = host.database()[COLLECTION]
        self._prefix = f"{host.dataset_key(dataset)}/{key}/"

    def __len__(self) -> int:
        """Return how many labels are kept."""
        return self._documents.count_documents(self._mine({"label": {"$exists": True}}))

    def is_known(self, wanted: dict[str, Any] | None = None) -> bool:
        """Whether the run kept what it found, be it nothing; or whether something of what it kept is as wanted."""
        return self._documents.find_one(self._mine(wanted), {"_id": 1}) is not None

    def keep(self, *found: Found, always: bool = True) -> None:
        """Keep what a run is about to replace in samples or frames; `always`, those too in which that is nothing."""
        updates = []
        for unit in found:
            wrote = {f"wrote.{label_id}": looks for label_id, looks in unit.wrote.items()}
            first = {"$setOnInsert": {"beside": unit.beside}, "$set": {"unit": True, **wrote}}
            updates.append(UpdateOne({"_id": self._id(unit.unit_id)}, first, upsert=always or bool(unit.replaced)))
            for number, label in unit.replaced:
                kept_id, change = self._id(unit.unit_id, label["_id"]), {"$set": {"number": number, "label": label}}
                updates.append(UpdateOne({"_id": kept_id}, change, upsert=True))
        patiently(lambda: self._documents.bulk_write(updates), wait=self.wait)

    def found(self) -> Iterator[Found]:
        """Yield what the run found, sample by sample; nothing if it kept nothing."""
        documents = self._documents.find(self._mine()).sort("_id")
        for unit_id, of_unit in groupby(documents, lambda document: document["_id"].split("/")[2]):
            unit, *labels = of_unit
            replaced = [(document["number"], document["label"]) for document in labels]
            yield Found(unit_id, unit["beside"], unit.get("wrote", {}), replaced)

    def replaced_by(self, others: Iterable[str], *, written: dict[str, Any]) -> str | None:
        """Return the key of another run that replaced labels which this one wrote, or None. `written` selects them."""
        wanted = {f"label.{name}": value for name, value in written.items()}
        kept = (Replaced(self.dataset, key) for key in others if key != self.key)
        return next((them.key for them in kept if them.is_known(wanted)), None)

    def forget(self) -> None:
        """Delete what is kept of this run, and of runs and datasets that are not there any more."""
        self._documents.delete_many(self._mine())
        runs = host.database().runs.find({}, {"_dataset_id": 1, "key": 1})
        there = {f"{run['_dataset_id']}/{run['key']}/" for run in runs}
        last = ""
        while document := self._documents.find_one({"_id": {"$gt": last}}, {"_id": 1}, sort=[("_id", 1)]):
            prefix = "/".join(document["_id"].split("/")[:2]) + "/"
            if prefix not in there:
                self._documents.delete_many(_beginning_with(prefix))
            last = prefix + END

    def _mine(self, wanted: dict[str, Any] | None = None) -> dict[str, Any]:
        return _beginning_with(self._prefix) | (wanted or {})

    def _id(self, unit_id: str, label_id: Any = "") -> str:
        return f"{self._prefix}{unit_id}/{label_id}"


def _beginning_with(prefix: str) -> dict[str, Any]:
    return {"_id": {"$gte": prefix, "$lt": prefix + END}}
