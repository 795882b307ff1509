"""Which documents of a dataset a job labels, sample by sample or frame by frame, and what is up to date already."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import fiftyone as fo
import fiftyone.core.utils as fou
from bson import ObjectId
from fiftyone.core.collections import SampleCollection

from fiftyone_mobilesam import host
from fiftyone_mobilesam.database import patiently
from fiftyone_mobilesam.engine.item import Item, SequenceItem, Unit
from fiftyone_mobilesam.engine.report import Failure, Report
from fiftyone_mobilesam.fields import FRAMES, Target
from fiftyone_mobilesam.keep import (
    LISTS,
    TRACK_CONFIDENCE,
    Names,
    Stays,
    files_are_there,
    known_object,
    prompt_names,
    singles,
    what_stays,
)
from fiftyone_mobilesam.labels import ATTRIBUTES
from fiftyone_mobilesam.options import Options
from fiftyone_mobilesam.sources.sequences import Key, dynamic_groups, flat, in_sequences, settled_by
from mobilesam import FieldError

FETCHED_AT_ONCE = 16
ASKED_AT_ONCE = 10_000  # ids in one query
JOURNAL_FIELDS = {
    "fingerprint": fo.StringField,
    "failed_prompts": fo.IntField,
    "made_from": fo.DictField,
    "prompt_boxes": fo.DictField,
}
FOUND_ATTRIBUTES = ("predicted_iou", "stability_score", "mask_quality")  # of what no prompt asked for


@dataclass(frozen=True, eq=False, kw_only=True)
class DatasetItem(Item):
    """A sample or frame on its way to its labels. `prompts` are by field name, as the database holds them."""

    stays: Stays = field(default_factory=Stays)  # of the labels that it has
    boxes: dict[str, Any] = field(default_factory=dict)  # by id, of labels filled in place, before the first run
    fingerprint: str | None = None  # of a sequence up to here; None if an item stands alone
    stored: str | None = None  # the fingerprint that the database has for it
    settled_by: int = 0  # place in its sequence of the last image that may change its masks


class DatasetSource:
    """The documents of a dataset or view that get labels; with `propagate` in sequences, see `in_sequences`.

    Of groups all image slices are taken. `wait` is how long to wait for the database, in seconds.
    """

    def __init__(
        self, samples: SampleCollection, label_field: str, options: Options, *, propagate: bool = False, wait: float
    ):
        if not isinstance(samples, SampleCollection):
            raise TypeError(f"samples must be a dataset or view, got {samples!r:.200}. Load it: fo.load_dataset(name).")
        self.given, self.options, self.wait = samples, options, wait
        self.samples = flat(samples)
        self.target = Target(self.samples, label_field)
        self.target.check(options)
        self.label_field = label_field.removeprefix(FRAMES)
        self.on_frames = self.target.is_video or host.is_frames_view(self.samples)
        self.root = host.root_dataset(self.samples)
        if self.target.is_video and (propagate or not options.prompt_paths):
            self.samples.ensure_frames()
        self.documents = host.documents(self.root, frames=self.on_frames)
        groups = dynamic_groups(samples) if host.is_dynamic_groups(samples) else None
        self.keys = list(chain.from_iterable(groups)) if groups else self._keys()
        self.sequences: list[list[Key]] | None = None
        if propagate:
            self.sequences = groups or in_sequences(self.samples, self.keys, is_video=self.target.is_video)

    def __len__(self) -> int:
        return len(self.keys)

    def check_owner(self) -> None:
        """Check that no labels but a job's own will be replaced."""
        others = 0
        for chunk in fou.iter_slices(self.keys, ASKED_AT_ONCE):
            wanted = {
                "_id": {"$in": [ObjectId(unit_id) for unit_id, _ in chunk]},
                f"{self.label_field}.detections.0": {"$exists": True},
                f"{self.label_field}.fingerprint": {"$exists": False},
            }
            others += patiently(lambda wanted=wanted: self.documents.count_documents(wanted), wait=self.wait)
        if others:
            raise FieldError(
                f"label_field must be new or a job's own, got {self.label_field!r}, where {others} of {len(self)} "
                "samples have labels that no job wrote. Use another name, or pass overwrite=True to have them replaced."
            )

    def declare(self) -> None:
        """Declare the label field and its attributes before the first write, so that no moment is without them."""
        self.target.prepare()
        add = self.root.add_frame_field if self.on_frames else self.root.add_sample_field
        get = self.root.get_frame_field_schema if self.on_frames else self.root.get_field_schema
        if self.label_field not in (schema := get(flat=True)):
            add(self.label_field, fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
        single = self.options.in_place and f"{self.label_field}.detections" not in schema
        labels = self.label_field if single else f"{self.label_field}.detections"
        names = ATTRIBUTES if self.options.prompt_paths else FOUND_ATTRIBUTES
        fields = {f"{self.label_field}.{name}": kind for name, kind in JOURNAL_FIELDS.items()}
        fields |= {f"{labels}.{name}": ATTRIBUTES[name] for name in names}
        if self.sequences is not None:
            fields[f"{labels}.{TRACK_CONFIDENCE}"] = fo.FloatField
        if not self.options.in_place:
            del fields[f"{self.label_field}.prompt_boxes"]
        for path, kind in fields.items():
            if path not in schema:
                add(path, kind)

    def finish(self) -> None:
        """Declare the prompts' attributes that the labels took over, and let views and samples in memory see them."""
        self.target.declare()
        self.root.reload()
        if host.is_generated(self.given):
            self.given.reload()

    def pending(self, names: Names, report: Report, *, on_disk: bool = False) -> Iterator[Unit]:
        """Yield in order each document that has no labels, or others than its prompts and the settings ask for.

        Those that are up to date are booked. Of a sequence, all are given if one is, as one unit.
        """
        if self.sequences is not None:
            for keys in self.sequences:
                yield from self._pending_sequence(keys, names, report)
            return
        files = ("detections.mask_path", "mask_path") if on_disk else ()
        for item, journal in self._with_journals(self.keys, files):
            nothing = self.options.in_place and not any(item.prompts.values())
            same = journal.get("fingerprint") in names.fingerprints(item.prompts) and files_are_there(journal)
            if nothing or same or (found := self._to_do(item, journal, names)) is None:
                _up_to_date(report, journal)
            else:
                yield found

    def _pending_sequence(self, keys: list[Key], names: Names, report: Report) -> Iterator[SequenceItem]:
        # A mask depends on all images before it, so one stale document makes the sequence start again.
        found, names_so_far, before = list(self._with_journals(keys)), [], []
        for item, _ in found:
            before = names.next_fingerprints(before, item.prompts)
            names_so_far.append(before)
        places = settled_by([_objects(item.prompts) for item, _ in found])
        if all(journal.get("fingerprint") in names_so_far[at] for at, (_, journal) in zip(places, found, strict=True)):
            for _, journal in found:
                _up_to_date(report, journal)
            return
        images = [
            replace(item, fingerprint=names_so_far[at][0], stored=journal.get("fingerprint"), settled_by=at)
            for at, (item, journal) in zip(places, found, strict=True)
        ]
        yield SequenceItem(images)

    def _with_journals(self, keys: list[Key], others: Sequence[str] = ()) -> Iterator[tuple[DatasetItem, dict]]:
        """Yield documents as the view shows them, and what jobs wrote beside their labels, which it might not show."""
        for chunk in map(dict, fou.iter_slices(keys, FETCHED_AT_ONCE)):
            journals = self._stored(chunk, (*JOURNAL_FIELDS, *others))
            for item in self._fetch(chunk):
                yield item, _value(journals.get(item.key), self.label_field) or {}

    def _to_do(self, item: DatasetItem, journal: dict, names: Names) -> DatasetItem | None:
        """Return an item with what stays of its labels; None if a view hides prompts and the others are up to date."""
        if "fingerprint" not in journal or not item.prompts:
            return item
        same_settings = names.made(journal["fingerprint"])
        before, now = journal.get("made_from") or {}, prompt_names(item.prompts, masks=names.masks)
        whole = self._stored([item.key], fields=item.prompts).get(item.key)  # with what the view hides
        there = prompt_names({name: _value(whole, name) for name in item.prompts}, masks=names.masks)
        hidden = (before.keys() & there.keys()) - now.keys()
        shown = {name: what for name, what in before.items() if name not in hidden}
        same = shown.keys() == now.keys() and all(shown[name] in known for name, known in now.items())
        if before and same_settings and same and files_are_there(journal):
            return None
        labels = self._stored([item.key], ["detections"]).get(item.key)
        stored = journal | (_value(labels, self.label_field) or {})
        how = {"in_place": self.options.in_place, "masks": names.masks}
        stays = what_stays(stored, item.prompts, same_settings=same_settings, hidden=hidden, **how)
        # A box that was corrected since is the prompt now, and the one to go back to.
        known = hidden | {name for name, same in now.items() if before.get(name) in same}
        boxes = {name: box for name, box in (journal.get("prompt_boxes") or {}).items() if name in known}
        return replace(item, stays=stays, stored=journal["fingerprint"], boxes=boxes)

    def prompt_failures(self) -> Iterator[Failure]:
        """Yield each prompt that has a record with a reason in place of a mask."""
        names = ("detections.failure", "detections.prompt_id", "failure", "prompt_id")
        for chunk in map(dict, fou.iter_slices(self.keys, FETCHED_AT_ONCE)):
            for unit_id, doc in self._stored(chunk, names, ("filepath", "frame_number")).items():
                path = doc.get("filepath") or f"frame {doc.get('frame_number', '?')}"
                labels = _value(doc, self.label_field) or {}
                for label in labels.get("detections", [labels]):
                    if label.get("failure"):
                        yield Failure(unit_id, label.get("prompt_id"), path, label["failure"])

    def _keys(self) -> list[Key]:
        """Return id, file and frame number of each document, each once."""
        if not self.target.is_video:
            ids = patiently(lambda: self.samples.values("id"), wait=self.wait)
            return [(unit_id, ("", None)) for unit_id in ids]
        paths = ["filepath", "frames.id", "frames.frame_number"]
        columns = patiently(lambda: self.samples.values(paths), wait=self.wait)
        frames = {
            frame_id: (filepath, number)  # clips can overlap
            for filepath, ids, numbers in zip(*columns, strict=True)
            for frame_id, number in zip(ids or [], numbers or [], strict=True)
        }
        return list(frames.items())

    def _stored(self, ids: Iterable[str], names: Iterable[str] = (), fields: Iterable[str] = ()) -> dict[str, dict]:
        """Return documents by id, not as the view shows them: of the label field `names`, and other `fields`."""
        wanted = {"_id": {"$in": [ObjectId(unit_id) for unit_id in ids]}}
        paths = dict.fromkeys([*(f"{self.label_field}.{name}" for name in names), *fields], 1)
        found = patiently(lambda: list(self.documents.find(wanted, paths)), wait=self.wait)
        return {str(doc["_id"]): doc for doc in found}

    def _fetch(self, chunk: dict) -> Iterator[DatasetItem]:
        """Yield the documents of a chunk as the view shows them. One that was deleted meanwhile gives nothing."""
        names = [path.removeprefix(FRAMES) for path in self.options.prompt_paths.values()]
        wanted = [
            {"$match": {"_id": {"$in": [ObjectId(unit_id) for unit_id in chunk]}}},
            {"$project": {name: 1 for name in ("filepath", "frame_number", *names)}},
        ]
        found = patiently(lambda: host.aggregate(self.samples, wanted, frames=self.target.is_video), wait=self.wait)
        documents = {str(doc["_id"]): doc for doc in found}
        for unit_id, (filepath, number) in chunk.items():
            if doc := documents.get(unit_id):
                yield DatasetItem(
                    key=unit_id,
                    image=doc.get("filepath") or filepath,
                    frame_number=doc.get("frame_number", number),
                    prompts={name: _labels(_value(doc, name)) for name in names},
                )


def _up_to_date(report: Report, journal: dict) -> None:
    report.up_to_date += 1
    report.failed_prompts += journal.get("failed_prompts", 0)


def _objects(prompts: dict[str, Any]) -> set[tuple]:
    """Return the objects that have a label here, of those that can be known again."""
    labels = chain.from_iterable(map(singles, prompts.values()))
    names = (((label.get("instance") or {}).get("_id"), label.get("label"), label.get("index")) for label in labels)
    return {known_object(*name) for name in names} - {None}


def _value(doc: dict | None, path: str) -> Any:
    """Return what stands at a dotted path, or None."""
    for name in path.split("."):
        doc = (doc or {}).get(name)
    return doc


def _labels(value: dict | None) -> dict | None:
    """Return labels, or None where a view shows none as a list of nothing, `{"detections": None}`."""
    return None if value and any(value.get(name, ()) is None for name in LISTS) else value
