"""What one process of a job does: read an image ahead, predict, make the labels as the database will hold them."""

import io
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fiftyone as fo
from PIL import Image

from fiftyone_mobilesam import load_model
from fiftyone_mobilesam.jobs.journal import digest, made_from, stable_id
from fiftyone_mobilesam.jobs.settings import Settings
from fiftyone_mobilesam.jobs.tracker import StepReport, Tracker
from fiftyone_mobilesam.jobs.units import Unit
from fiftyone_mobilesam.loading import LoadedImage
from fiftyone_mobilesam.options import Options
from fiftyone_mobilesam.prompts import LIST_LABELS
from fiftyone_mobilesam.report import Failure
from mobilesam.errors import MobileSamError
from mobilesam.images import VIDEO_SUFFIXES, VideoFrames, read_image

PART_OF_A_SAMPLE = "-part"
READ_AHEAD = 2  # images that wait, decoded, for the network


@dataclass(frozen=True, eq=False)
class Record:
    """What became of a unit.

    Attributes:
        unit_id: of the sample or frame.
        filepath: of its image or video.
        labels: what the database will hold, its fingerprint included; None if the whole unit failed.
        pngs: name of a mask's file -> its content, None for one that stays as it is.
        masks: number of masks.
        failures: of the unit, or of its prompts.
        tracks: number of tracks that began here.
        ended: tracks that ended here, see `StepReport`.
        kept: ids of the prompts whose labels are those of an earlier run.
        unchanged: whether the database has these labels already.
    """

    unit_id: str
    filepath: str
    labels: dict | None = None
    pngs: dict[str, bytes | None] = field(default_factory=dict)
    masks: int = 0
    failures: list[Failure] = field(default_factory=list)
    kept: frozenset[str] = frozenset()
    tracks: int = 0
    ended: list[tuple[str, int, str]] = field(default_factory=list)
    unchanged: bool = False


@dataclass(frozen=True, eq=False)
class PromptedUnit:
    """A unit with its labels as FiftyOne's classes, as `MobileSAMModel.predict_all` wants a sample."""

    id: str
    filepath: str
    labels: dict[str, fo.Label | None]

    def __getitem__(self, path: str) -> fo.Label | None:
        return self.labels[path]


class Engine:
    """A model and a thread that reads ahead.

    Args:
        settings: of the job.
        device: "cpu", "cuda:0", ...; None for a GPU if there is one.
    """

    def __init__(self, settings: Settings, device: str | None):
        options = {name: getattr(settings.options, name) for name in Options.__dataclass_fields__}
        self.settings = settings
        self.model = load_model(
            settings.weights, device=device, precision=settings.precision, cache_dir=settings.cache_dir, **options
        )
        self.reader = ThreadPoolExecutor(1)
        self.video: VideoFrames | None = None
        self.tracker = settings.drift and Tracker(self.model.predictor, settings.options, settings.drift)
        self.missing: list[str] = []  # ids in this sequence that could not be read

    def start(self, unit: Unit) -> tuple[Unit, Future]:
        """Begin to read a unit's image."""
        return unit, self.reader.submit(self._read, unit)

    def finish(self, unit: Unit, image: Future) -> Record:
        """Make the labels of a unit. Never raises for what is wrong with the unit itself."""
        report = self.model.last_run = StepReport()
        if unit.is_first:
            self.tracker.forget()
            self.missing = []
        try:
            labels = {name: _label(value, without=unit.kept) for name, value in unit.prompts.items()}
            sample = PromptedUnit(unit.id, unit.filepath, labels)
            if self.tracker is None:
                [label] = self.model.predict_all([image.result()], samples=[sample])
            else:
                [prompts] = labels.values()
                label = self.tracker.step(unit.id, unit.filepath, prompts, image.result(), report)
            if label is None:
                self.missing.append(unit.id)
                return Record(unit.id, unit.filepath, failures=report.failed)
            return self._record(unit, label, report)
        except Exception as error:
            self.missing.append(unit.id)
            reason = f"{type(error).__name__}: {error}"
            return Record(unit.id, unit.filepath, failures=[Failure(unit.id, None, unit.filepath, reason)])

    def records(self, units: Iterable[Unit]) -> Iterator[Record]:
        """Yield a record a unit, in order, reading a few images ahead."""
        waiting: deque[tuple[Unit, Future]] = deque()
        for unit in units:
            waiting.append(self.start(unit))
            if len(waiting) > READ_AHEAD:
                yield self.finish(*waiting.popleft())
        while waiting:
            yield self.finish(*waiting.popleft())

    def _read(self, unit: Unit) -> LoadedImage:
        try:
            if not unit.filepath.lower().endswith(VIDEO_SUFFIXES):
                return LoadedImage(read_image(unit.filepath, max_pixels=self.settings.max_pixels))
            if self.video is None or self.video.path != unit.filepath:
                self.video = VideoFrames(unit.filepath)
            return LoadedImage(self.video.read(unit.frame_number))
        except MobileSamError as error:
            return LoadedImage(None, str(error))
        except Exception as error:
            return LoadedImage(None, f"{type(error).__name__}: {error}")

    def _record(self, unit: Unit, label: fo.Label, report: StepReport) -> Record:
        in_place = self.settings.options.in_place
        detections = [label] if isinstance(label, fo.Detection) else label.detections
        if not in_place:
            numbers: Counter = Counter()
            for detection in detections:
                prompt_id = detection.get_attribute_value("prompt_id", None)
                detection.id = stable_id(unit.id, self.settings.label_field, prompt_id, numbers[prompt_id])
                numbers[prompt_id] += 1
        pngs = {} if self.settings.output_dir is None else dict(map(self._to_disk(unit), detections))
        stay = [*unit.kept.values(), *unit.others]
        pngs |= {Path(label["mask_path"]).name: None for label in stay if label.get("mask_path")}
        pngs.pop(None, None)
        labels = label.to_dict()
        if unit.kept:
            by_prompt = {made["prompt_id"]: made for made in labels["detections"]} | unit.kept
            labels["detections"] = [by_prompt[prompt_id] for prompt_id in made_from(unit.prompts)]
        if not in_place and unit.others:
            labels["detections"] = [*labels["detections"], *unit.others]
        # In place the prompts have changed now: their boxes may lie on whole pixels.
        prompts = {name: labels for name in unit.prompts} if in_place else unit.prompts
        part = PART_OF_A_SAMPLE if unit.hidden else ""  # another job, on all prompts, must look closer
        labels["fingerprint"] = self._in_sequence(unit) or self.settings.fingerprint(prompts) + part
        labels["made_from"] = {} if unit.fingerprint else unit.hidden | made_from(prompts)
        labels["failed_prompts"] = len(report.failed)
        return Record(
            unit.id,
            unit.filepath,
            labels,
            pngs,
            report.masks,
            report.failed,
            frozenset(unit.kept),
            report.tracks,
            report.ended,
            unchanged=unit.fingerprint is not None and labels["fingerprint"] == unit.stored,
        )

    def _in_sequence(self, unit: Unit) -> str | None:
        """Return a unit's fingerprint in its sequence: another one if images before could not be read this time."""
        return f"{unit.fingerprint}-{digest(self.missing)}" if unit.fingerprint and self.missing else unit.fingerprint

    def _to_disk(self, unit: Unit) -> Any:
        """Return a function that moves a detection's mask into a PNG: its name and content, or None, None."""

        def move(detection: fo.Detection) -> tuple[str | None, bytes | None]:
            if detection.mask is None:
                return None, None
            content, name = io.BytesIO(), f"{detection.id}.png"
            Image.fromarray(detection.mask.astype("uint8") * 255).save(content, "PNG")
            detection.mask, detection.mask_path = None, str(self.settings.mask_folder(unit.id) / name)
            return name, content.getvalue()

        return move


def _label(value: dict | None, *, without: dict[str, dict]) -> fo.Label | None:
    """Return a value of the database as a label, less those of some ids."""
    if value is None:
        return None
    if without:
        [name] = value.keys() & set(LIST_LABELS.values())
        value = {**value, name: [label for label in value[name] if str(label["_id"]) not in without]}
    return getattr(fo, value["_cls"]).from_dict(value)
