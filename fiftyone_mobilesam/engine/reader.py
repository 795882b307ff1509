"""Pixels of items from wherever they are. Never raises: an image that cannot be read costs only itself."""

import shutil
import tempfile
from pathlib import Path

import numpy as np

from fiftyone_mobilesam.engine.item import Item, LoadedImage
from mobilesam.errors import ImageError, reason_of
from mobilesam.images import IMAGE_SUFFIXES, VideoFrames, read_image
from mobilesam.packages import require

NO_FILE = "file_name must lead into the folder of the images, got another. Name a folder that holds all."


class Reader:
    """Reads images, frames of videos, and what lies anywhere fsspec reads. For one thread.

    Images of more than `max_pixels` are failures. Default: where Pillow suspects an attack.
    """

    def __init__(self, max_pixels: int | None = None):
        self.max_pixels = max_pixels
        self.video: VideoFrames | None = None

    def read(self, item: Item) -> LoadedImage:
        """Return the pixels of an item, or the reason why there are none."""
        try:
            return LoadedImage(self._pixels(item))
        except Exception as error:
            return LoadedImage(None, reason_of(error))

    def _pixels(self, item: Item) -> np.ndarray:
        if not item.image:
            raise ImageError(NO_FILE)
        if item.frame_number is not None and not item.image.lower().endswith(IMAGE_SUFFIXES):
            return self._frame(item.image, item.frame_number)
        if "://" in item.image:
            return self._remote(item)
        return self._file(item.image, item.size)

    def _file(self, path: str, size: tuple | None) -> np.ndarray:
        pixels = read_image(path, max_pixels=self.max_pixels)
        height, width = pixels.shape[:2]
        if any(said not in (None, found) for said, found in zip(size or (), (width, height), strict=False)):
            raise ImageError(
                f"image must have the size that the file says, {size[0]} x {size[1]}, got {width} x {height} once it "
                "is upright. Its boxes would not fit: correct one."
            )
        return pixels

    def _remote(self, item: Item) -> np.ndarray:
        fsspec = require("fsspec", extra="ray")
        with tempfile.NamedTemporaryFile(suffix=Path(item.image).suffix) as copy:
            try:
                with fsspec.open(item.image, "rb") as source:
                    shutil.copyfileobj(source, copy)
            except Exception as error:  # each file system has its own
                why = f"image must be a file that can be read, got {item.image!r} ({reason_of(error)}). Check it."
                raise ImageError(why) from error
            copy.flush()
            try:
                return self._file(copy.name, item.size)
            except Exception as error:
                raise ImageError(reason_of(error).replace(copy.name, item.image)) from error

    def _frame(self, path: str, number: int) -> np.ndarray:
        # An open video goes forward at the cost of decoding, so it stays open until another is asked for.
        if self.video is None or self.video.path != path:
            self.video = VideoFrames(path)
        return self.video.read(number)
