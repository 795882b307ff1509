"""Tracks: labels in some images of a sequence, carried on to those that follow, and back to the label before."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import fiftyone as fo
import numpy as np

from fiftyone_mobilesam.engine.item import Answer
from fiftyone_mobilesam.engine.labeller import answered
from fiftyone_mobilesam.keep import TRACK_CONFIDENCE, known_object, stable_id
from fiftyone_mobilesam.labels import new_detection
from fiftyone_mobilesam.options import Options
from fiftyone_mobilesam.prompts import label_prompts
from mobilesam import ImageEmbedding, MaskCrop, SamPredictor
from mobilesam.carried import Carried
from mobilesam.motion import Motion, without_pixels
from mobilesam.propagation import Drift, better, continue_tracks, moved_masks, start_tracks

Ended = tuple[str, int, str]  # id of the sample or frame, index of the track, why it was lost there


@dataclass(frozen=True, eq=False)
class Track:
    """An object on its way, in one image."""

    label: fo.Label  # the prompt's that its mask comes from
    carried: Carried
    index: int  # number of the track in its video or sequence
    instance: fo.Instance  # shared by all labels of the track
    id: str  # the instance's; another one where several prompts of an image have the same instance


@dataclass(eq=False)
class Held:
    """An image whose masks may change while labels are still to come."""

    image_id: str
    original_hw: tuple[int, int]
    image: ImageEmbedding | None = None  # None if there was nothing to do
    tracks: dict[str, Track] = field(default_factory=dict)  # by id
    labelled: list[str] = field(default_factory=list)  # ids of tracks that have a label here
    without: list[fo.Detection] = field(default_factory=list)  # of prompts that have no mask
    began: int = 0  # tracks
    ended: list[Ended] = field(default_factory=list)


class Tracker:
    """The tracks of one sequence, image after image.

    An object starts where it has a prompt. Motion carries its mask from one image to the next, where the model sees it
    anew; while that is not like the object, it is lost. A later prompt with the same `instance`, or the same `label`
    and `index`, corrects its track, and is carried back to the images that are held; another one starts a new track.
    Labels of a track share `index` and `instance`; all else comes from the prompt that a mask was carried from.
    """

    def __init__(self, predictor: SamPredictor, options: Options, drift: Drift):
        self.predictor, self.drift = predictor, drift
        self.options = replace(options, clip=False)
        self.tracks: dict[str, Track] = {}  # in the last image in which there was something to do
        self.before: ImageEmbedding | None = None  # that image
        self.known: dict[tuple, tuple[int, fo.Instance]] = {}
        self.next_index = 0
        self.held: deque[Held] = deque()
        self.lost: set[str] = set()  # ids of tracks that are lost in the image that was settled last

    def add(self, image_id: str, prompts: fo.Label | None, pixels: np.ndarray) -> None:
        """Carry the tracks on to the next image that could be read, (H, W, 3) uint8 RGB, and hold it."""
        now = Held(image_id, pixels.shape[:2])
        asked = [(p.label, p.ask(now.original_hw)) for p in label_prompts({"prompt_field": prompts}, self.options)]
        self._end_at_another_size(now)
        if self.tracks or asked:
            [embedding] = self.predictor.encode_images([pixels])
            now.image = without_pixels(embedding)
            motion = Motion(self.before, now.image) if self.tracks else None
            started = self._start(asked, motion, embedding)
            now.without = [
                new_detection(label, replace(answer, crop=None), self.options, original_hw=now.original_hw)
                for label, answer, _ in started
                if answer.failure is not None
            ]
            begin = [(label, carried) for label, answer, carried in started if answer.failure is None]
            corrected = {_identity(label) for label, _ in begin} - {None}
            going = [track for track in self.tracks.values() if _identity(track.label) not in corrected]
            now.tracks = self._carried(going, motion, embedding)
            for label, carried in begin:
                self._begin(now, label, carried)
            self._go_back(now)
            self.tracks, self.before = now.tracks, now.image
        self.held.append(now)

    def settle(self) -> tuple[list[fo.Detection], int, list[Ended]]:
        """Give the oldest image that is held away.

        Returns:
            A label a track that is not lost, then one a prompt that has no mask; the number of tracks that began; those
            that ended or were lost.
        """
        now = self.held.popleft()
        lost = {track.id: track for track in now.tracks.values() if track.carried.lost is not None}
        lost_here = [track for name, track in lost.items() if name not in self.lost]
        ended = now.ended + [(now.image_id, track.index, track.carried.lost) for track in lost_here]
        self.lost = set(lost)
        made = [self._label(track, now.original_hw) for name, track in now.tracks.items() if name not in lost]
        return made + now.without, now.began, ended

    def _end_at_another_size(self, now: Held) -> None:
        if not self.tracks or now.original_hw == self.before.original_hw:
            return
        (height, width), (old_height, old_width) = now.original_hw, self.before.original_hw
        why = f"the image is {width} x {height}, the one before {old_width} x {old_height}"
        now.ended, self.tracks = [(now.image_id, track.index, why) for track in self.tracks.values()], {}

    def _start(
        self, asked: list[tuple[fo.Label, Answer]], motion: Motion | None, image: ImageEmbedding
    ) -> list[tuple[fo.Label, Answer, Carried | None]]:
        """Return the answers with what tracks start with of all prompts that can be used, those that cannot first."""
        usable = [(label, answer) for label, answer in asked if answer.prompt is not None]
        expected = self._expected([label for label, _ in usable], motion, image)
        carried = start_tracks(self.predictor, [answer.prompt for _, answer in usable], image, expected)
        without = [(label, answer, None) for label, answer in asked if answer.prompt is None]
        return without + [
            (label, answered(answer, one.crop), one) for (label, answer), one in zip(usable, carried, strict=True)
        ]

    def _expected(
        self, labels: Sequence[fo.Label], motion: Motion | None, image: ImageEmbedding
    ) -> list[MaskCrop | None]:
        """Return for each label where motion took the mask of its track, None if it has none that is not lost."""
        going = {_identity(track.label): track.carried for track in self.tracks.values() if track.carried.lost is None}
        wanted = [name for name in map(_identity, labels) if name is not None and name in going]
        moved = moved_masks(self.predictor, [going[name] for name in wanted], motion, image) if wanted else []
        masks = dict(zip(wanted, moved, strict=True))
        return [masks.get(_identity(label)) for label in labels]

    def _carried(self, tracks: Sequence[Track], motion: Motion | None, image: ImageEmbedding) -> dict[str, Track]:
        """Carry tracks on to another image."""
        if not tracks:
            return {}
        after = continue_tracks(self.predictor, [track.carried for track in tracks], motion, image, self.drift)
        return {track.id: replace(track, carried=carried) for track, carried in zip(tracks, after, strict=True)}

    def _begin(self, now: Held, label: fo.Label, carried: Carried) -> None:
        """Take up the track that a prompt corrects, or a new one."""
        identity = _identity(label)
        if identity in self.known:
            index, instance = self.known[identity]
        else:
            index = self.next_index if label.index is None else label.index
            self.next_index = max(self.next_index, index) + 1
            # The same id whenever the job is done again.
            new = fo.Instance(id=stable_id(now.image_id, "instance", label.id, 0))
            instance = getattr(label, "instance", None) or new
            now.began += 1
            if identity is not None:
                self.known[identity] = index, instance
        name = instance.id
        while name in now.labelled:
            name += "'"
        now.tracks[name] = Track(label, carried, index, instance, name)
        now.labelled.append(name)

    def _go_back(self, now: Held) -> None:
        """Carry what is labelled here back through the images that are held, as far as to its label before."""
        after, going = now.image, [now.tracks[name] for name in now.labelled]
        for held in reversed(self.held):
            going = [track for track in going if track.id in held.tracks and track.id not in held.labelled]
            if not going or held.original_hw != now.original_hw:
                return
            back = self._carried(going, Motion(after, held.image), held.image)
            for name, track in back.items():
                if better(held.tracks[name].carried, track.carried) is track.carried:
                    held.tracks[name] = track
            after, going = held.image, list(back.values())

    def _label(self, track: Track, original_hw: tuple[int, int]) -> fo.Detection:
        label = new_detection(track.label, Answer(crop=track.carried.crop), self.options, original_hw=original_hw)
        label.index, label.instance = track.index, track.instance
        label[TRACK_CONFIDENCE] = track.carried.confidence
        return label


def _identity(label: fo.Label) -> tuple | None:
    """Return what makes two prompts the same object, if anything does."""
    return known_object(label.instance_id, label.label, label.index)
