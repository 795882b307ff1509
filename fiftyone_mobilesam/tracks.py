"""Tracks: labels in some images of a sequence, carried on to those that follow."""

from dataclasses import dataclass, replace

import fiftyone as fo
import numpy as np

from fiftyone_mobilesam.engine.item import Answer
from fiftyone_mobilesam.engine.labeller import answered
from fiftyone_mobilesam.keep import stable_id
from fiftyone_mobilesam.labels import new_detection
from fiftyone_mobilesam.options import Options
from fiftyone_mobilesam.prompts import label_prompts
from mobilesam import ImageEmbedding, MaskCrop, SamPredictor
from mobilesam.propagation import Drift, continue_tracks, start_tracks

Ended = tuple[str, int, str]  # id of the sample or frame, index of the track, why it ended there


@dataclass
class Track:
    """An object on its way."""

    label: fo.Label  # the prompt's that it started with
    crop: MaskCrop  # its mask in the image before
    index: int  # number of the track in its video or sequence
    instance: fo.Instance  # shared by all labels of the track


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
        self.tracks: list[Track] = []
        self.known: dict[tuple, tuple[int, fo.Instance]] = {}
        self.next_index = 0
        self.original_hw: tuple[int, int] | None = None

    def step(
        self, image_id: str, prompts: fo.Label | None, pixels: np.ndarray
    ) -> tuple[list[fo.Detection], int, list[Ended]]:
        """Carry the tracks on to the next image that could be read, (H, W, 3) uint8 RGB.

        Returns:
            A label a track, then one a prompt that has no mask; the number of tracks that began; those that ended.
        """
        original_hw = pixels.shape[:2]
        ended = self._end_at_another_size(image_id, original_hw)
        asked = [(p.label, p.ask(original_hw)) for p in label_prompts({"prompt_field": prompts}, self.options)]
        if not self.tracks and not asked:
            return [], 0, ended
        [embedding] = self.predictor.encode_images([pixels])
        started = self._start(asked, embedding)
        corrected = {_identity(label) for label, answer in started if answer.failure is None} - {None}
        ended += self._continue(image_id, embedding, corrected)
        began = [self._track(image_id, label, answer.crop) for label, answer in started if answer.failure is None]
        self.tracks += [track for track, _ in began]
        detections = [self._label(track, original_hw) for track in self.tracks]
        detections += [
            new_detection(label, replace(answer, crop=None), self.options, original_hw=original_hw)
            for label, answer in started
            if answer.failure is not None
        ]
        return detections, sum(is_new for _, is_new in began), ended

    def _end_at_another_size(self, image_id: str, original_hw: tuple[int, int]) -> list[Ended]:
        ended = []
        if self.tracks and original_hw != self.original_hw:
            (height, width), (old_height, old_width) = original_hw, self.original_hw
            why = f"the image is {width} x {height}, the one before {old_width} x {old_height}"
            ended = [(image_id, track.index, why) for track in self.tracks]
            self.tracks = []
        self.original_hw = original_hw
        return ended

    def _start(self, asked: list[tuple[fo.Label, Answer]], image: ImageEmbedding) -> list[tuple[fo.Label, Answer]]:
        """Return the answers with the masks of all prompts that can be used, those that cannot last."""
        usable = [(label, answer) for label, answer in asked if answer.prompt is not None]
        crops = start_tracks(self.predictor, [answer.prompt for _, answer in usable], image)
        found = [(label, answered(answer, crop)) for (label, answer), crop in zip(usable, crops, strict=True)]
        without = [(label, answer) for label, answer in asked if answer.prompt is None]
        return without + found

    def _continue(self, image_id: str, image: ImageEmbedding, corrected: set) -> list[Ended]:
        """Carry all tracks on, less those that have a new mask in this image; return those that ended."""
        tracks = [track for track in self.tracks if _identity(track.label) not in corrected]
        steps = continue_tracks(self.predictor, [track.crop for track in tracks], image, self.drift) if tracks else []
        self.tracks, ended = [], []
        for track, step in zip(tracks, steps, strict=True):
            if step.crop is None:
                ended.append((image_id, track.index, step.reason))
            else:
                track.crop = step.crop
                self.tracks.append(track)
        return ended

    def _track(self, image_id: str, label: fo.Label, crop: MaskCrop) -> tuple[Track, bool]:
        """Return the track that a prompt corrects or takes up again, or a new one; and whether it is new."""
        identity = _identity(label)
        if identity in self.known:
            return Track(label, crop, *self.known[identity]), False
        index = self.next_index if label.index is None else label.index
        self.next_index = max(self.next_index, index) + 1
        # The same id whenever the job is done again.
        new = fo.Instance(id=stable_id(image_id, "instance", label.id, 0))
        track = Track(label, crop, index, getattr(label, "instance", None) or new)
        if identity is not None:
            self.known[identity] = track.index, track.instance
        return track, True

    def _label(self, track: Track, original_hw: tuple[int, int]) -> fo.Detection:
        label = new_detection(track.label, Answer(crop=track.crop), self.options, original_hw=original_hw)
        label.index, label.instance = track.index, track.instance
        return label


def _identity(label: fo.Label) -> tuple | None:
    """Return what makes two prompts the same object, if anything does; FiftyOne numbers the objects of each class."""
    if label.instance_id is not None:
        return "instance", label.instance_id
    return None if label.index is None else ("index", label.label, label.index)
