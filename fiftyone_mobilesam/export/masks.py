"""The masks of a field, sample by sample, on whole pixels of their images."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
from fiftyone.core.collections import SampleCollection
from fiftyone.core.media import IMAGE, VIDEO, get_media_type
from PIL import Image

from fiftyone_mobilesam.engine.item import Outcome
from fiftyone_mobilesam.engine.report import Failure, Report
from fiftyone_mobilesam.fields import label_fields
from fiftyone_mobilesam.prompts import single_labels
from mobilesam import FieldError, ImageError
from mobilesam.errors import reason_of
from mobilesam.images import image_size

NO_MASK = "The label must have a mask, got none. Draw one, or delete the label."
NO_PIXEL = "mask must have a pixel in the image, got none. Draw it again, or delete the label."
HALF = 0.5  # of an image's side: a mask of all its pixels is not meant for a smaller box
LARGEST = 3  # sides of an image: a box with its image on each side. Boxes in pixels would ask for gigabytes
UNNAMED = "object"
MASKS = (fo.Detections, fo.Detection)


@dataclass(frozen=True, eq=False)
class ExportedMask:
    """A label and its mask, (h, w) bool with at least one pixel, `corner` its (x0, y0) in the image; or the failure."""

    label: fo.Detection
    mask: np.ndarray | None = None
    corner: tuple[int, int] = (0, 0)
    failure: str | None = None

    def full(self, original_hw: tuple[int, int]) -> np.ndarray:
        """Return the mask on its whole image, (H, W) bool."""
        full, (x, y) = np.zeros(original_hw, dtype=bool), self.corner
        height, width = self.mask.shape
        full[y : y + height, x : x + width] = self.mask
        return full


@dataclass(frozen=True, eq=False)
class ExportedImage:
    """A sample and its masks, one a label, in order.

    Its `name` is relative to the folder that holds all images, with "/". `original_hw` is None if it cannot be read.
    """

    id: str
    filepath: str
    name: str
    original_hw: tuple[int, int] | None
    masks: list[ExportedMask]


def check_masks(samples: SampleCollection, field: str, argument: str) -> None:
    """Check that samples are images with such a field of Detections, which can hold masks."""
    if samples.media_type != IMAGE:
        raise FieldError(
            f"samples must be images, got media type {samples.media_type!r}. "
            "Select images with select_group_slices(), or turn videos into images with to_frames(sample_frames=True)."
        )
    if field not in (fields := label_fields(samples, MASKS)):
        raise FieldError(
            f"{argument} must be a field of Detections, got {field!r}. Fields that fit: {', '.join(fields)}."
        )


def exported_images(samples: SampleCollection, label_field: str) -> Iterator[ExportedImage]:
    """Yield the samples of a collection of images in order."""
    folder = os.path.commonpath({os.path.dirname(path) for path in samples.values("filepath")} or {os.curdir})
    for sample in samples.select_fields([label_field, "metadata"]).iter_samples():
        try:
            original_hw, failure = _size_of(sample.filepath), None
        except Exception as error:
            size = sample.metadata and (sample.metadata.height, sample.metadata.width)
            original_hw = size if size and all(size) else None
            failure = reason_of(error)
        masks = [
            ExportedMask(label, failure=failure) if original_hw is None else exported_mask(label, original_hw)
            for label in single_labels(sample[label_field])
        ]
        name = Path(os.path.relpath(sample.filepath, folder)).as_posix()
        yield ExportedImage(sample.id, sample.filepath, name, original_hw, masks)


def _size_of(path: str) -> tuple[int, int]:
    """Return the size (H, W) of an image, or of the frames of a video."""
    return _size_of_frames(path) if get_media_type(path) == VIDEO else image_size(path)


@lru_cache(maxsize=1)  # frames of a video come one after the other
def _size_of_frames(path: str) -> tuple[int, int]:
    metadata = fo.VideoMetadata.build_for(path)
    if not (metadata.frame_height and metadata.frame_width):
        raise ImageError(f"video must be readable by ffprobe, got {path!r}. Check the path, and that ffmpeg is there.")
    return metadata.frame_height, metadata.frame_width


def exported_mask(label: fo.Detection, original_hw: tuple[int, int]) -> ExportedMask:
    """Put a label's mask on the pixels of its box, as FiftyOne paints it; what lies outside the image is cut off."""
    try:
        mask = label.get_mask()
        if mask is None:
            return ExportedMask(label, failure=label.get_attribute_value("failure", None) or NO_MASK)
        if (failure := _wrong(label.bounding_box, mask := np.asarray(mask), original_hw)) is not None:
            return ExportedMask(label, failure=failure)
        x0, y0, x1, y1 = _pixels(label.bounding_box, original_hw)
        mask = mask > 0
        if mask.shape != (y1 - y0, x1 - x0):
            size = (max(1, x1 - x0), max(1, y1 - y0))
            mask = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
        left, top = max(0, -x0), max(0, -y0)
        mask = mask[top : max(0, original_hw[0] - y0), left : max(0, original_hw[1] - x0)]
    except Exception as error:
        reason = reason_of(error).rstrip(".")
        return ExportedMask(
            label, failure=f"mask must be readable, got {reason}. Restore its file, or delete the label."
        )
    if not mask.any():
        return ExportedMask(label, failure=NO_PIXEL)
    return ExportedMask(label, mask, (x0 + left, y0 + top))


def _wrong(box: list[float], mask: np.ndarray, original_hw: tuple[int, int]) -> str | None:
    """Return why a mask cannot be put on its box, None if it can."""
    values = np.array(box or [], dtype=float)
    sides = values[2:]
    if values.shape != (4,) or not np.isfinite(values).all() or sides.min() <= 0 or sides.max() > LARGEST:
        return (
            "bounding_box must be [x, y, width, height] as shares of the image's sides, with a width and height above "
            f"0, got {box}. Draw the label again, or delete it."
        )
    if mask.ndim != 2:
        return f"mask must be (height, width), got {mask.shape}. Draw it again, or delete the label."
    if not mask.size:
        return NO_PIXEL
    if mask.shape == original_hw and sides.min() < HALF:
        (width, height), (rows, columns) = np.round(sides * original_hw[::-1]).astype(int), mask.shape
        return (
            f"mask must be of the pixels in its box, {width} x {height}, got {columns} x {rows}, the whole image. "
            "Cut it out at the box."
        )
    return None


def book(report: Report, image: ExportedImage) -> None:
    """Count the labels of an image."""
    bad = [Failure(image.id, m.label.id, image.filepath, m.failure) for m in image.masks if m.failure is not None]
    report.book(Outcome(image.id, image, len(image.masks) - len(bad), bad), log=False)


def class_of(label: fo.Detection) -> str:
    """Return the class of a label."""
    return label.label or UNNAMED


def attributes(label: fo.Detection) -> dict[str, Any]:
    """Return what a label has besides box and mask, as far as JSON can hold it."""
    # FiftyOne gives them in the order of a set, another one in every process.
    kept = {name: value for name, value in sorted(label.iter_attributes()) if name not in ("failure", "instance")}
    kept |= {"score": label.confidence, "index": label.index, "tags": list(label.tags) or None}
    return {name: value for name, value in kept.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, (bool, int, str)) or (isinstance(value, list) and all(map(_is_plain, value)))


def _pixels(box: list[float], original_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return a relative box in whole pixels by truncation, as FiftyOne does; ours come out exactly."""
    height, width = original_hw
    x, y, w, h = box
    return int(width * x), int(height * y), int(width * (x + w)), int(height * (y + h))
