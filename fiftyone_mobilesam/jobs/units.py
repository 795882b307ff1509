"""Which documents of a dataset a job labels, sample by sample or frame by frame, and what is up to date already."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import fiftyone as fo
from bson import ObjectId
from fiftyone.core.collections import SampleCollection

from fiftyone_mobilesam.fields import FRAMES, Target
from fiftyone_mobilesam.jobs.database import patiently
from fiftyone_mobilesam.jobs.journal import (
    JOURNAL,
    check_owner,
    files_are_there,
    kept_labels,
    labels_of_others,
    made_from,
    outdated,
)
from fiftyone_mobilesam.jobs.sequences import Key, dynamic_groups, flat, in_sequences
from fiftyone_mobilesam.jobs.settings import Settings
from fiftyone_mobilesam.labels import ATTRIBUTES
from fiftyone_mobilesam.options import Options
from fiftyone_mobilesam.prompts import LIST_LABELS
from fiftyone_mobilesam.report import Failure

FETCHED_AT_ONCE = 16
FOUND_ATTRIBUTES = ("predicted_iou", "stability_score")  # of what no prompt asked for


@dataclass(frozen=True, eq=False)
class Unit:
    """A sample or frame on its way to a mask; without pixels, so that it travels to a worker.

    Attributes:
        id: of the sample or frame.
        filepath: of the image, or of the video.
        frame_number: in that video, from 1; None for an image.
        prompts: by field name, the labels as the database holds them.
        kept: by prompt id, the labels of an earlier run that stay, as the database holds them.
        others: labels that stay and are of no prompt here: drawn by hand, or of prompts that the view hides.
        hidden: what the latter prompts were, see `made_from`.
        fingerprint: of a sequence up to here; None if a unit stands alone.
        stored: the fingerprint that the database has for it, if it is of a sequence.
        is_first: whether a sequence begins here.
    """

    id: str
    filepath: str
    frame_number: int | None
    prompts: dict[str, dict | None]
    kept: dict[str, dict] = field(default_factory=dict)
    others: list[dict] = field(default_factory=list)
    hidden: dict[str, str] = field(default_factory=dict)
    fingerprint: str | None = None
    stored: str | None = None
    is_first: bool = False


class Units:
    """The documents of a dataset or view that get labels.

    Args:
        samples: images, patches, videos, clips, frames, or groups, of which all image slices are taken.
        label_field: where the masks go.
        options: of the masks; the prompt fields are in it.
        propagate: whether they follow each other, see `in_sequences`.
        wait: how long to wait for the database, in seconds.

    Raises:
        FieldError: a field that is missing or does not fit.
        TypeError: no dataset or view.
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
        self.on_frames = self.target.is_video or self.samples._dataset._is_frames
        self.root = self.samples._root_dataset
        if self.target.is_video and (propagate or not options.prompt_paths):
            self.samples.ensure_frames()
        collection = self.root._frame_collection_name if self.on_frames else self.root._sample_collection_name
        self.collection = fo.core.odm.get_db_conn()[collection]
        groups = dynamic_groups(samples) if samples._is_dynamic_groups else None
        self.keys = list(chain.from_iterable(groups)) if groups else self._keys()
        self.sequences: list[list[Key]] | None = None
        if propagate:
            self.sequences = groups or in_sequences(self.samples, self.keys, is_video=self.target.is_video)

    def __len__(self) -> int:
        return len(self.keys)

    def declare(self) -> None:
        """Declare the label field and its attributes before the first write, so that no moment is without them."""
        self.target.prepare()
        add = self.root.add_frame_field if self.on_frames else self.root.add_sample_field
        schema = (
            self.root.get_frame_field_schema(flat=True) if self.on_frames else self.root.get_field_schema(flat=True)
        )
        if self.label_field not in schema:
            add(self.label_field, fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
        single = self.options.in_place and f"{self.label_field}.detections" not in schema
        labels = self.label_field if single else f"{self.label_field}.detections"
        names = ATTRIBUTES if self.options.prompt_paths else FOUND_ATTRIBUTES
        fields = {f"{self.label_field}.{name}": kind for name, kind in JOURNAL.items()}
        for path, kind in {**fields, **{f"{labels}.{name}": ATTRIBUTES[name] for name in names}}.items():
            if path not in schema:
                add(path, kind)

    def finish(self) -> None:
        """Declare the prompts' attributes that the labels took over, and let views and samples in memory see them."""
        self.target.declare()
        self.root.reload()
        if self.given._is_generated:
            self.given.reload()

    def pending(self, settings: Settings) -> Iterator[tuple[Unit | None, int]]:
        """Yield in order each document that has no labels, or others than its prompts and the settings ask for.

        A document whose labels are up to date gives None and its number of prompts without a mask. One that was
        deleted meanwhile gives nothing. Of a sequence, all are given if one is.
        """
        if self.sequences is not None:
            for keys in self.sequences:
                yield from self._pending_sequence(keys, settings)
            return
        files = ["detections.mask_path", "mask_path"] if settings.output_dir else []
        for chunk in map(dict, _chunks(self.keys, FETCHED_AT_ONCE)):
            stored = self._stored(chunk, (*JOURNAL, *files))
            for unit in self._fetch(chunk):
                labels = stored.get(unit.id) or {}
                nothing = self.options.in_place and not any(unit.prompts.values())
                same = labels.get("fingerprint") == settings.fingerprint(unit.prompts) and files_are_there(labels)
                pending = None if nothing or same else self._pending(unit, labels, settings)
                yield pending, 0 if pending else labels.get("failed_prompts", 0)

    def _pending_sequence(self, keys: list[Key], settings: Settings) -> Iterator[tuple[Unit | None, int]]:
        fingerprints, failed_prompts, before, stale = {}, [], "", False
        for chunk in map(dict, _chunks(keys, FETCHED_AT_ONCE)):
            stored = self._stored(chunk)
            for unit in self._fetch(chunk):
                before = fingerprints[unit.id] = settings.next_fingerprint(before, unit.prompts)
                labels = stored.get(unit.id) or {}
                stale |= labels.get("fingerprint") != before
                failed_prompts.append(labels.get("failed_prompts", 0))
        if not stale:
            yield from ((None, count) for count in failed_prompts)
            return
        is_first = True
        for chunk in map(dict, _chunks(keys, FETCHED_AT_ONCE)):
            stored = self._stored(chunk)
            for unit in self._fetch(chunk):
                if unit.id in fingerprints:
                    now = (stored.get(unit.id) or {}).get("fingerprint")
                    yield replace(unit, fingerprint=fingerprints[unit.id], stored=now, is_first=is_first), 0
                    is_first = False

    def check_owner(self) -> None:
        """Check that no labels but a job's own will be replaced.

        Raises:
            FieldError: there are others.
        """
        ids = [unit_id for unit_id, _ in self.keys]
        patiently(lambda: check_owner(self.collection, ids, self.label_field), wait=self.wait)

    def _pending(self, unit: Unit, journal: dict, settings: Settings) -> Unit | None:
        """Return a unit with what stays of its labels; None if a view hides prompts and the others are up to date."""
        if "fingerprint" not in journal or not unit.prompts:
            return unit
        same_settings = journal["fingerprint"].startswith(settings.digest)
        before, now = journal.get("made_from") or {}, made_from(unit.prompts)
        hidden = {name: what for name, what in before.items() if name in self._all_prompts(unit) and name not in now}
        if before and same_settings and hidden | now == before and files_are_there(journal):
            return None
        stored = self._stored({unit.id: None}, ["detections"]).get(unit.id) or {}
        kept = kept_labels(unit.prompts, journal | stored, same_settings=same_settings)
        others = [] if self.options.in_place else labels_of_others(stored, hidden)
        if not same_settings:
            hidden = {name: outdated(what) for name, what in hidden.items()}
        return replace(unit, kept=kept, others=others, hidden=hidden)

    def _all_prompts(self, unit: Unit) -> set[str]:
        """Return the ids of a unit's prompts, those that the view hides too."""
        found = patiently(
            lambda: self.collection.find_one({"_id": ObjectId(unit.id)}, dict.fromkeys(unit.prompts, 1)), wait=self.wait
        )
        return made_from({name: _value(found or {}, name) for name in unit.prompts}).keys()

    def prompt_failures(self) -> Iterator[Failure]:
        """Yield each prompt that has a record with a reason in place of a mask."""
        names = ("detections.failure", "detections.prompt_id", "failure", "prompt_id")
        for chunk in map(dict, _chunks(self.keys, FETCHED_AT_ONCE)):
            for unit_id, labels in self._stored(chunk, names).items():
                labels = labels or {}
                for label in labels.get("detections", [labels]):
                    if label.get("failure"):
                        yield Failure(unit_id, label.get("prompt_id"), self._filepath(unit_id), label["failure"])

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

    def _filepath(self, unit_id: str) -> str:
        doc = patiently(lambda: self.collection.find_one({"_id": ObjectId(unit_id)}), wait=self.wait) or {}
        return doc.get("filepath") or f"frame {doc.get('frame_number', '?')}"

    def _stored(self, chunk: dict, names: Iterable[str] = tuple(JOURNAL)) -> dict[str, dict | None]:
        """Return what jobs wrote beside the labels, by id; a view might not show it."""
        wanted = {"_id": {"$in": [ObjectId(unit_id) for unit_id in chunk]}}
        fields = {f"{self.label_field}.{name}": 1 for name in names}
        found = patiently(lambda: list(self.collection.find(wanted, fields)), wait=self.wait)
        return {str(doc["_id"]): _value(doc, self.label_field) for doc in found}

    def _fetch(self, chunk: dict) -> Iterator[Unit]:
        """Yield the documents of a chunk as the view shows them."""
        names = [path.removeprefix(FRAMES) for path in self.options.prompt_paths.values()]
        wanted = [
            {"$match": {"_id": {"$in": [ObjectId(unit_id) for unit_id in chunk]}}},
            {"$project": {name: 1 for name in ("filepath", "frame_number", *names)}},
        ]
        video = self.target.is_video
        call = {"post_pipeline": wanted, "attach_frames": video, "frames_only": video}
        docs = {
            str(doc["_id"]): doc for doc in patiently(lambda: list(self.samples._aggregate(**call)), wait=self.wait)
        }
        for unit_id, (filepath, number) in chunk.items():
            if doc := docs.get(unit_id):
                prompts = {name: _labels(_value(doc, name)) for name in names}
                path = doc.get("filepath") or filepath
                yield Unit(unit_id, path, doc.get("frame_number", number), prompts)


def _value(doc: dict, path: str) -> Any:
    """Return what stands at a dotted path, or None."""
    for name in path.split("."):
        doc = (doc or {}).get(name)
    return doc


def _labels(value: dict | None) -> dict | None:
    """Return labels, or None where a view shows none as a list of nothing, `{"detections": None}`."""
    return None if value and any(value.get(name, ()) is None for name in LIST_LABELS.values()) else value


def _chunks(items: Sequence, size: int) -> Iterator[Sequence]:
    return (items[start : start + size] for start in range(0, len(items), size))
