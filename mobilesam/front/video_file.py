"""A video of pictures that come one after the other."""

import sys
from pathlib import Path

import cv2
import numpy as np

# What Ultralytics writes: AVI, and on a Mac MP4. OpenCV has both codecs in itself there.
SUFFIX, CODEC = (".mp4", "avc1") if sys.platform == "darwin" else (".avi", "MJPG")


class VideoFile:
    """A video file, which the first picture begins. It can be played whenever it is closed, however that came about.

    Args:
        path: without suffix, which is `SUFFIX`.
        fps: pictures a second.
    """

    def __init__(self, path: str | Path, fps: float):
        self.path, self.fps = str(Path(path).with_name(Path(path).name + SUFFIX)), fps
        self._writer, self._size = None, (0, 0)

    def write(self, picture: np.ndarray) -> None:
        """Write a picture (H, W, 3) uint8 BGR, in the size of the first; an `OSError` if the folder takes none."""
        if self._writer is None:
            self._size = picture.shape[1::-1]
            self._writer = cv2.VideoWriter(self.path, cv2.VideoWriter_fourcc(*CODEC), self.fps, self._size)
            if not self._writer.isOpened():
                raise OSError(f"save must be into a folder that can be written to, got {self.path!r}.")
        if picture.shape[1::-1] != self._size:
            picture = cv2.resize(picture, self._size)
        self._writer.write(picture)

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
