"""`fom.frames_to_label`: where a label helps the tracks of a video or of images in order most."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from fiftyone.core.collections import SampleCollection

from fiftyone_mobilesam.fields import FRAMES, labels_path
from fiftyone_mobilesam.keep import TRACK_CONFIDENCE
from mobilesam import FieldError

GOOD = 0.8  # what a mask has, about, after a label
LOST = 0.3  # what counts for a track without a mask: a little less than the confidence at which one is lost
REACH = 20  # images that a label helps


class FrameToLabel(NamedTuple):
    """Where to label.

    Attributes:
        sample_id: of the video or image.
        frame_number: in the video, from 1; None for an image.
        gain: the IoU that a label here is worth at most, summed over tracks and the images that follow.
        tracks: the index of each track that is doubted here or has no mask, the worst first.
    """

    sample_id: str
    frame_number: int | None
    gain: float
    tracks: list[int]


def frames_to_label(samples: SampleCollection, label_field: str, count: int = 20) -> list[FrameToLabel]:
    """Name the frames where a label helps the tracks of `fom.label(propagate=True)` most, the most helpful first.

    A label helps its track in the images that follow. So the first of a row of doubtful masks is named, and not the
    next nineteen. Correct it there and call the job again.

    Args:
        samples: a dataset or view of videos, or of the images of one sequence in order.
        label_field: "frames.tracks", or of images "tracks".
        count: how many, at most. There can be fewer: where all masks are good, nothing is named.

    Raises:
        FieldError: the field has no `track_confidence`.
        ValueError: `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"count must be 1 or more, got {count}.")
    path = labels_path(samples, label_field)
    if samples.get_field(f"{path}.{TRACK_CONFIDENCE}") is None:
        raise FieldError(
            f"label_field must have tracks with {TRACK_CONFIDENCE}, got {label_field!r} without. Make them with "
            "fiftyone_mobilesam.label(..., propagate=True)."
        )
    columns = [f"{path}.index", f"{path}.{TRACK_CONFIDENCE}"]
    if label_field.startswith(FRAMES):
        ids, numbers, *values = samples.values(["id", "frames.frame_number", *columns])
        sequences = [
            ([(sample_id, number) for number in of_video], *of_labels)
            for sample_id, of_video, *of_labels in zip(ids, numbers, *values, strict=True)
        ]
    else:
        ids, *values = samples.values(["id", *columns])
        sequences = [([(sample_id, None) for sample_id in ids], *values)]
    found = [place for places, *labels in sequences for place in _most_helpful(places, *labels, count)]
    return sorted(found, key=lambda place: -place.gain)[:count]


def _most_helpful(
    places: Sequence[tuple[str, int | None]], indices: Sequence, confidences: Sequence, count: int
) -> list[FrameToLabel]:
    """Choose places of one sequence, one after the other; what a label helps needs no other."""
    missing, tracks = _missing(indices, confidences)
    chosen: list[FrameToLabel] = []
    while len(chosen) < count and missing.any():
        # What is missing from each image on, as far as a label reaches.
        total = np.concatenate([np.zeros((len(tracks), 1)), missing.cumsum(axis=1)], axis=1).sum(axis=0)
        stop = np.minimum(np.arange(len(places)) + REACH, len(places))
        # Rounded, so that of equals the first is chosen; and only where something is missing.
        gain = (total[stop] - total[:-1]).round(6) * missing.any(axis=0)
        at = int(gain.argmax())
        doubted = sorted(np.flatnonzero(missing[:, at]), key=lambda row: -missing[row, at])
        chosen.append(FrameToLabel(*places[at], float(gain[at]), [tracks[row] for row in doubted]))
        missing[:, at : at + REACH] = 0
    return chosen


def _missing(indices: Sequence, confidences: Sequence) -> tuple[np.ndarray, list[int]]:
    """Return what each track lacks in each image, (tracks, images), from its first mask on; and the tracks' indices."""
    images = [
        {index: told for index, told in zip(some or [], values or [], strict=True) if index is not None}
        for some, values in zip(indices or [], confidences or [], strict=True)
    ]
    tracks = sorted(set().union(*images))
    missing = np.zeros((len(tracks), len(images)))
    for row, track in enumerate(tracks):
        began = next(at for at, image in enumerate(images) if image.get(track) is not None)
        for at in range(began, len(images)):
            told = images[at].get(track, LOST)
            missing[row, at] = max(0.0, GOOD - (LOST if told is None else told))
    return missing, tracks
