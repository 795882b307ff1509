"""Tracks: labels in some images of a sequence, carried on to those that follow."""

from dataclasses import dataclass, field, replace

import fiftyone as fo

from fiftyone_mobilesam.jobs.journal import stable_id
from fiftyone_mobilesam.labels import NO_MASK, new_detection
from fiftyone_mobilesam.loading import LoadedImage
from fiftyone_mobilesam.options import Options
from fiftyone_mobilesam.prompts import PromptRecord, prompt_records
from fiftyone_mobilesam.report import Failure, RunReport
from mobilesam import ImageEmbedding, MaskCrop, SamPredictor
from mobilesam.propagation import Drift, continue_tracks, start_tracks


@dataclass
class StepReport(RunReport):
    """The books of one image.

    Attributes:
        tracks: number of tracks that began.
        ended: `(id of the sample or frame, index of the track, why it ended there)`.
    """

    tracks: int = 0
    ended: list[tuple[str, int, str]] = field(default_factory=list)


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


class Tracker:
    """The tracks of one sequence, image after image.

    An object starts where it has a prompt. From its mask in one image come the box, point and mask prompt of the next,
    until the track drifts. A later prompt with the same `instance`, or the same `label` and `index`, corrects its track
    or takes it up again; another one starts a new track. Labels of a track share `index` and `instance`; all else comes
    from its prompt.
    """

    def __init__(self, predictor: SamPredictor, options: Options, drift: Drift):
        self.predictor, self.drift = predictor, drift
        self.options = replace(options, clip=False)
        self.forget()

    def forget(self) -> None:
        """End all tracks: another sequence begins."""
        self.tracks: list[Track] = []
        self.known: dict[tuple, tuple[int, fo.Instance]] = {}
        self.next_index = 0
        self.original_hw: tuple[int, int] | None = None

    def step(
        self, image_id: str, filepath: str, prompts: fo.Label | None, image: LoadedImage, report: StepReport
    ) -> fo.Detections | None:
        """Return the labels of the next image, None if it could not be read: its tracks go on in the image after.

        Args:
            image_id: of the sample or frame.
            filepath: of its image or video.
            prompts: in this image, or None.
            image: its pixels, or the reason why there are none.
            report: is told all.
        """
        if image.pixels is None:
            report.failed.append(Failure(image_id, None, filepath, image.failure))
            return None
        original_hw = image.pixels.shape[:2]
        self._end_at_another_size(image_id, original_hw, report)
        records = prompt_records({"prompt_field": prompts}, self.options, original_hw=original_hw)
        if not self.tracks and not records:
            return fo.Detections()
        [embedding] = self.predictor.encode_images([image.pixels])
        started, failed = self._start(records, embedding)
        self._continue(image_id, embedding, {_identity(record.label) for record, _ in started} - {None}, report)
        self.tracks += [self._track(image_id, record, crop, report) for record, crop in started]
        report.failed += [Failure(image_id, r.label.id, filepath, r.failure or NO_MASK) for r in failed]
        report.masks += len(self.tracks)
        return fo.Detections(
            detections=[self._label(track, original_hw) for track in self.tracks]
            + [new_detection(record, None, self.options, original_hw=original_hw) for record in failed]
        )

    def _end_at_another_size(self, image_id: str, original_hw: tuple[int, int], report: StepReport) -> None:
        if self.tracks and original_hw != self.original_hw:
            (height, width), (old_height, old_width) = original_hw, self.original_hw
            why = f"the image is {width} x {height}, the one before {old_width} x {old_height}"
            report.ended += [(image_id, track.index, why) for track in self.tracks]
            self.tracks = []
        self.original_hw = original_hw

    def _start(
        self, records: list[PromptRecord], image: ImageEmbedding
    ) -> tuple[list[tuple[PromptRecord, MaskCrop]], list[PromptRecord]]:
        """Return the prompts that have a mask, with it, and those that have none."""
        usable = [record for record in records if record.prompt is not None]
        pairs = list(zip(usable, start_tracks(self.predictor, [r.prompt for r in usable], image), strict=True))
        failed = [record for record in records if record.prompt is None]
        failed += [record for record, crop in pairs if not crop.mask.any()]
        return [(record, crop) for record, crop in pairs if crop.mask.any()], failed

    def _continue(self, image_id: str, image: ImageEmbedding, corrected: set, report: StepReport) -> None:
        """Carry all tracks on, less those that have a new mask in this image."""
        tracks = [track for track in self.tracks if _identity(track.record.label) not in corrected]
        steps = continue_tracks(self.predictor, [track.crop for track in tracks], image, self.drift) if tracks else []
        self.tracks = []
        for track, step in zip(tracks, steps, strict=True):
            if step.crop is None:
                report.ended.append((image_id, track.index, step.reason))
            else:
                track.crop = step.crop
                self.tracks.append(track)

    def _track(self, image_id: str, record: PromptRecord, crop: MaskCrop, report: StepReport) -> Track:
        """Return the track that a prompt corrects or takes up again, or a new one."""
        identity = _identity(record.label)
        if identity in self.known:
            return Track(record, crop, *self.known[identity])
        report.tracks += 1
        index = self.next_index if record.label.index is None else record.label.index
        self.next_index = max(self.next_index, index) + 1
        # The same id whenever the job is done again.
        new = fo.Instance(id=stable_id(image_id, "instance", record.label.id, 0))
        track = Track(record, crop, index, getattr(record.label, "instance", None) or new)
        if identity is not None:
            self.known[identity] = track.index, track.instance
        return track

    def _label(self, track: Track, original_hw: tuple[int, int]) -> fo.Detection:
        label = new_detection(track.record, track.crop, self.options, original_hw=original_hw)
        label.index, label.instance = track.index, track.instance
        return label


def _identity(label: fo.Label) -> tuple | None:
    """Return what makes two prompts the same object, if anything does; FiftyOne numbers the objects of each class."""
    if label.instance_id is not None:
        return "instance", label.instance_id
    return None if label.index is None else ("index", label.label, label.index)
