"""Tracks: labels in some images of a sequence, carried on to those that follow."""

from dataclasses import dataclass, replace

import fiftyone as fo
import numpy as np

from fiftyone_mobilesam.engine.item import Answer
from fiftyone_mobilesam.engine.labeller import answered
from fiftyone_mobilesam.keep import TRACK_CONFIDENCE, stable_id
from fiftyone_mobilesam.labels import new_detection
from fiftyone_mobilesam.options import Options
from fiftyone_mobilesam.prompts import label_prompts
from mobilesam import ImageEmbedding, SamPredictor
from mobilesam.propagation import Carried, Drift, continue_tracks, start_tracks

Ended = tuple[str, int, str]  # id of the sample or frame, index of the track, why it was lost there


@dataclass
class Track:
    """An object on its way."""

    label: fo.Label  # the prompt's that it started with
    carried: Carried  # in the image before
    index: int  # number of the track in its video or sequence
    instance: fo.Instance  # shared by all labels of the track


class Tracker:
    """The tracks of one sequence, image after image.

    An object starts where it has a prompt. Motion carries its mask from one image to the next, where the model sees it
    anew; while that is not like the object, it is lost. A later prompt with the same `instance`, or the same `label`
    and `index`, corrects its track; another one starts a new track. Labels of a track share `index` and `instance`; all
    else comes from its prompt.
    """

    def __init__(self, predictor: SamPredictor, options: Options, drift: Drift):
        self.predictor, self.drift = predictor, drift
        self.options = replace(options, clip=False)
        self.tracks: list[Track] = []
        self.known: dict[tuple, tuple[int, fo.Instance]] = {}
        self.next_index = 0
        self.before: ImageEmbedding | None = None  # the last image in which there was something to do

    def step(
        self, image_id: str, prompts: fo.Label | None, pixels: np.ndarray
    ) -> tuple[list[fo.Detection], int, list[Ended]]:
        """Carry the tracks on to the next image that could be read, (H, W, 3) uint8 RGB.

        Returns:
            A label a track that is not lost, then one a prompt that has no mask; the number of tracks that began; those
            that ended or were lost.
        """
        original_hw = pixels.shape[:2]
        ended = self._end_at_another_size(image_id, original_hw)
        asked = [(p.label, p.ask(original_hw)) for p in label_prompts({"prompt_field": prompts}, self.options)]
        if not self.tracks and not asked:
            return [], 0, ended
        [embedding] = self.predictor.encode_images([pixels])
        started = self._start(asked, embedding)
        corrected = {_identity(label) for label, answer, _ in started if answer.failure is None} - {None}
        ended += self._continue(image_id, embedding, corrected)
        began = [self._track(image_id, label, carried) for label, answer, carried in started if answer.failure is None]
        self.tracks += [track for track, _ in began]
        self.before = embedding
        detections = [self._label(track, original_hw) for track in self.tracks if track.carried.lost is None]
        detections += [
            new_detection(label, replace(answer, crop=None), self.options, original_hw=original_hw)
            for label, answer, _ in started
            if answer.failure is not None
        ]
        return detections, sum(is_new for _, is_new in began), ended

    def _end_at_another_size(self, image_id: str, original_hw: tuple[int, int]) -> list[Ended]:
        if not self.tracks or original_hw == self.before.original_hw:
            return []
        (height, width), (old_height, old_width) = original_hw, self.before.original_hw
        why = f"the image is {width} x {height}, the one before {old_width} x {old_height}"
        ended, self.tracks = [(image_id, track.index, why) for track in self.tracks], []
        return ended

    def _start(
        self, asked: list[tuple[fo.Label, Answer]], image: ImageEmbedding
    ) -> list[tuple[fo.Label, Answer, Carried | None]]:
        """Return the answers with what tracks start with of all prompts that can be used, those that cannot first."""
        usable = [(label, answer) for label, answer in asked if answer.prompt is not None]
        carried = start_tracks(self.predictor, [answer.prompt for _, answer in usable], image)
        without = [(label, answer, None) for label, answer in asked if answer.prompt is None]
        return without + [
            (label, answered(answer, one.crop), one) for (label, answer), one in zip(usable, carried, strict=True)
        ]

    def _continue(self, image_id: str, image: ImageEmbedding, corrected: set) -> list[Ended]:
        """Carry all tracks on, less those that have a new mask in this image; return those that are lost now."""
        self.tracks = [track for track in self.tracks if _identity(track.label) not in corrected]
        if not self.tracks:
            return []
        before, ended = [track.carried for track in self.tracks], []
        after = continue_tracks(self.predictor, before, self.before, image, self.drift)
        for track, carried in zip(self.tracks, after, strict=True):
            if carried.lost is not None and track.carried.lost is None:
                ended.append((image_id, track.index, carried.lost))
            track.carried = carried
        return ended

    def _track(self, image_id: str, label: fo.Label, carried: Carried) -> tuple[Track, bool]:
        """Return the track that a prompt corrects or takes up again, or a new one; and whether it is new."""
        identity = _identity(label)
        if identity in self.known:
            return Track(label, carried, *self.known[identity]), False
        index = self.next_index if label.index is None else label.index
        self.next_index = max(self.next_index, index) + 1
        # The same id whenever the job is done again.
        new = fo.Instance(id=stable_id(image_id, "instance", label.id, 0))
        track = Track(label, carried, index, getattr(label, "instance", None) or new)
        if identity is not None:
            self.known[identity] = track.index, track.instance
        return track, True

    def _label(self, track: Track, original_hw: tuple[int, int]) -> fo.Detection:
        label = new_detection(track.label, Answer(crop=track.carried.crop), self.options, original_hw=original_hw)
        label.index, label.instance = track.index, track.instance
        label[TRACK_CONFIDENCE] = track.carried.confidence
        return label


def _identity(label: fo.Label) -> tuple | None:
    """Return what makes two prompts the same object, if anything does; FiftyOne numbers the objects of each class."""
    if label.instance_id is not None:
        return "instance", label.instance_id
    return None if label.index is None else ("index", label.label, label.index)
