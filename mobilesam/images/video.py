"""Frames of a video, by number or one after the other."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mobilesam.errors import ImageError

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")


UNKNOWN_FPS = 30.0


def frames_per_second(path: str | Path) -> float:
    """Return how many frames a second a video says that it has, and 30 if it does not say."""
    import cv2

    fps = cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS)
    return fps if math.isfinite(fps) and fps > 0 else UNKNOWN_FPS


class VideoFrames:
    """An open video. Reading goes forward at the cost of decoding; a step back opens the file again.

    Iteration yields all frames that can be read, from the first; an `ImageError` if there is none.
    """

    def __init__(self, path: str | Path):
        self.path, self._video, self._next = str(path), None, 1
        self._end = math.inf  # no frame from here on can be read

    def read(self, number: int) -> np.ndarray:
        """Return a frame, counted from 1, as (H, W, 3) uint8 RGB; an `ImageError` if it cannot be read."""
        frame = self._read(number)
        if frame is None:
            raise ImageError(
                f"frame {number} must be in the video, got {self.path!r}, which ends before it or cannot be read so "
                "far. Check the file, or delete the frame's labels."
            )
        return frame

    def __iter__(self) -> Iterator[np.ndarray]:
        return (frame for _, frame in self.every(1))

    def every(self, stride: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the last of each `stride` frames, with its number; an `ImageError` if there is no frame at all.

        A frame that cannot be decoded is left out.
        """
        found = False
        for number in itertools.count(stride, stride):
            frame = self._read(number)
            if frame is not None:
                found = True
                yield number, frame
            elif number >= self._end:
                break
        if not found and (stride == 1 or self._read(1) is None):
            raise ImageError(f"source must be a video that OpenCV can read, got {self.path!r} without a frame.")

    def _read(self, number: int) -> np.ndarray | None:
        import cv2

        there = number < self._end
        if there and (self._video is None or number < self._next):
            self._video, self._next = cv2.VideoCapture(self.path), 1
        while there and self._next <= number:
            there, self._next = self._video.grab(), self._next + 1
        if not there:
            self._end, self._video = min(number, self._end), None
            return None
        there, frame = self._video.retrieve()
        return np.ascontiguousarray(frame[..., ::-1]) if there else None
