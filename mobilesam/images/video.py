"""Frames of a video, by number or one after the other."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mobilesam.errors import ImageError

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")


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
        """Yield the last of each `stride` frames, with its number; an `ImageError` if there is no frame at all."""
        for number in itertools.count(stride, stride):
            frame = self._read(number)
            if frame is None and number == stride and (stride == 1 or self._read(1) is None):
                raise ImageError(f"source must be a video that OpenCV can read, got {self.path!r} without a frame.")
            if frame is None:
                return
            yield number, frame

    def _read(self, number: int) -> np.ndarray | None:
        import cv2

        there = number < self._end
        if there and (self._video is None or number < self._next):
            self._video, self._next = cv2.VideoCapture(self.path), 1
        while there and self._next <= number:
            there, self._next = self._video.grab(), self._next + 1
        if not there:
            self._end = min(number, self._end)
        there, frame = self._video.retrieve() if there else (False, None)
        if not there:
            self._video = None
            return None
        return np.ascontiguousarray(frame[..., ::-1])
