"""Tracks: labels in some frames of a video, or some samples of a sequence, carried on to those that follow."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import fiftyone as fo
from fiftyone.core.collections import SampleCollection
from fiftyone.core.media import VIDEO

from fiftyone_mobilesam.fields import FRAMES, Target
from fiftyone_mobilesam.labels import NO_MASK, new_detection
from fiftyone_mobilesam.options import Options
from fiftyone_mobilesam.prompts import PromptRecord, prompt_records
from fiftyone_mobilesam.report import Failure
from mobilesam import MaskCrop, MobileSamError, SamPredictor
from mobilesam.images import read_image
from mobilesam.propagation import Drift, continue_tracks, start_tracks
from mobilesam.video import VideoFrames

SAVED_AT_ONCE = 50  # frames


@dataclass
class Track:
    """An object on its way.

    Attributes:
        record: the prompt that it started with.
        crop: its mask in the image before.
        index: number of the track in its video or sequence.
        instance: shared by all labels of the track.
    """

    record: PromptRecord
    crop: MaskCrop
    index: int
    instance: fo.Instance


@dataclass
class PropagationReport:
    """What was done.

    Attributes:
        images: frames or samples looked at.
        masks: labels written with a mask.
        tracks: number of tracks begun.
        ended: `(id of the sample or frame, index of the track, why it ended there)`.
        failed: images that could not be read, and prompts without a mask.
    """

    images: int = 0
    masks: int = 0
    tracks: int = 0
    ended: list[tuple[str, int, str]] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"MobileSAM: {self.tracks} tracks, {self.masks} masks in {self.images} images; "
            f"{len(self.ended)} tracks ended early, {len(self.failed)} failures."
        )


def propagate(
    samples: SampleCollection,
    prompt_field: str,
    label_field: str,
    *,
    model: Any = None,
    drift: Drift | None = None,
    on_sample: Callable[[PropagationReport], None] | None = None,
) -> PropagationReport:
    """Carry labeled objects on through the frames of videos, or through samples in the order of the view.

    An object starts where it has a prompt. From its mask in one image come the box, point and mask prompt of the next,
    until the track drifts (`Drift`). A later prompt with the same `instance` or `index` corrects its track; another
    one starts a new track. Labels of a track share `index` and `instance`; all else comes from its prompt.

    Args:
        samples: videos; or images in order, such as `dataset.match(...).sort_by("frame_number")`, all of one size.
        prompt_field: field of boxes, keypoints or polylines, with "frames." for videos.
        label_field: where the masks go, with "frames." for videos. It is replaced in every image that is looked at.
        model: from `fiftyone_mobilesam.load_model`. Default: a new one.
        drift: when a track ends.
        on_sample: called after each video, or each image.

    Raises:
        FieldError: a field that is missing or does not fit.
    """
    target = Target(samples, label_field)
    options = Options(prompt_field=prompt_field)
    target.check(options)
    if model is None:
        from fiftyone_mobilesam import load_model

        model = load_model()
    tracker = Tracker(model.predictor, options, drift or Drift())
    if samples.media_type == VIDEO:
        for sample in samples.iter_samples(autosave=False):
            _propagate_video(sample, tracker, prompt_field, label_field)
            if on_sample is not None:
                on_sample(tracker.report)
    else:
        for sample in samples.iter_samples(autosave=True, batch_size=SAVED_AT_ONCE):
            sample[label_field] = tracker.step(sample.id, sample.filepath, sample[prompt_field], _reader(sample))
            if on_sample is not None:
                on_sample(tracker.report)
    target.declare()
    return tracker.report


class Tracker:
    """The tracks of one video or sequence, image after image."""

    def __init__(self, predictor: SamPredictor, options: Options, drift: Drift):
        self.predictor, self.options, self.drift = predictor, options, drift
        self.report = PropagationReport()
        self.forget()

    def forget(self) -> None:
        """End all tracks: another video begins."""
        self.tracks: list[Track] = []
        self.next_index = 0

    def step(self, image_id: str, filepath: str, prompts: Any, read: Callable[[], Any]) -> fo.Detections | None:
        """Return the labels of the next image, None if it cannot be read. Its tracks go on in the image after."""
        self.report.images += 1
        if not self.tracks and prompts is None:
            return fo.Detections()
        try:
            pixels = read()
        except MobileSamError as error:
            self.report.failed.append(Failure(image_id, None, filepath, str(error)))
            return None
        original_hw = pixels.shape[:2]
        [image] = self.predictor.encode_images([pixels])
        records = prompt_records({"prompt_field": prompts}, self.options, original_hw=original_hw)
        self._continue(image_id, image, corrected={_identity(record.label) for record in records} - {None})
        failed = self._start(image_id, filepath, records, image)
        detections = [self._label(track, original_hw) for track in self.tracks]
        self.report.masks += len(detections)
        return fo.Detections(
            detections=detections
            + [new_detection(record, None, self.options, original_hw=original_hw) for record in failed]
        )

    def _continue(self, image_id: str, image: Any, corrected: set) -> None:
        tracks = [track for track in self.tracks if _identity_of(track) not in corrected]
        steps = continue_tracks(self.predictor, [track.crop for track in tracks], image, self.drift) if tracks else []
        self.ending = [track for track in self.tracks if track not in tracks]
        self.tracks = []
        for track, step in zip(tracks, steps, strict=True):
            if step.crop is None:
                self.report.ended.append((image_id, track.index, step.reason))
            else:
                track.crop = step.crop
                self.tracks.append(track)

    def _start(self, image_id: str, filepath: str, records: list[PromptRecord], image: Any) -> list[PromptRecord]:
        """Start a track for each prompt, or correct its track; return the prompts without a mask."""
        usable = [record for record in records if record.prompt is not None]
        crops = start_tracks(self.predictor, [record.prompt for record in usable], image)
        failed = [record for record in records if record.prompt is None]
        for record, crop in zip(usable, crops, strict=True):
            if crop.mask.any():
                self.tracks.append(self._track(record, crop))
            else:
                failed.append(record)
        for record in failed:
            self.report.failed.append(Failure(image_id, record.label.id, filepath, record.failure or NO_MASK))
        return failed

    def _track(self, record: PromptRecord, crop: MaskCrop) -> Track:
        identity = _identity(record.label)
        for track in self.ending:
            if identity is not None and _identity_of(track) == identity:
                return Track(record, crop, track.index, track.instance)
        self.report.tracks += 1
        index = self.next_index if record.label.index is None else record.label.index
        self.next_index = max(self.next_index, index) + 1
        return Track(record, crop, index, getattr(record.label, "instance", None) or fo.Instance())

    def _label(self, track: Track, original_hw: tuple[int, int]) -> fo.Detection:
        options = Options(prompt_field=self.options.prompt_field, clip=False)
        label = new_detection(track.record, track.crop, options, original_hw=original_hw)
        label.index, label.instance = track.index, track.instance
        return label


def _identity(label: fo.Label) -> tuple | None:
    """Return what makes two prompts the same object, if anything does."""
    if label.instance_id is not None:
        return "instance", label.instance_id
    return None if label.index is None else ("index", label.index)


def _identity_of(track: Track) -> tuple | None:
    return _identity(track.record.label)


def _propagate_video(sample: fo.Sample, tracker: Tracker, prompt_field: str, label_field: str) -> None:
    tracker.forget()
    video = VideoFrames(sample.filepath)
    prompts, labels = prompt_field.removeprefix(FRAMES), label_field.removeprefix(FRAMES)
    for number in _numbers(sample):
        frame = sample.frames[number]
        value = frame[prompts] if frame.has_field(prompts) else None
        name = f"{sample.id}, frame {number}"
        frame[labels] = tracker.step(name, sample.filepath, value, lambda n=number: video.read(n))
        if number % SAVED_AT_ONCE == 0:
            sample.save()
    sample.save()


def _numbers(sample: fo.Sample) -> Iterator[int]:
    """Return the numbers of a video's frames, or of those that a clip shows."""
    if sample.metadata is None or not sample.metadata.total_frame_count:
        sample.compute_metadata()
    support: Iterable[int] | None = getattr(sample, "support", None) if sample.has_field("support") else None
    first, last = support or (1, sample.metadata.total_frame_count)
    yield from range(first, last + 1)


def _reader(sample: fo.Sample) -> Callable[[], Any]:
    return lambda: read_image(sample.filepath)
