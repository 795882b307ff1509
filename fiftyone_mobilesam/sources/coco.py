"""The images of a COCO file and what is asked of each: one prompt an annotation, in pixels."""

import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fiftyone_mobilesam.engine.identity import digest
from fiftyone_mobilesam.engine.item import Item, PlainPrompt
from fiftyone_mobilesam.engine.outline import bounds
from fiftyone_mobilesam.sources.coco_file import CocoFile
from mobilesam.errors import reason_of
from mobilesam.geometry import rle, tight_region

NO_SUCH_IMAGE = "image_id must be that of an image of the file, got another. Add the image's record, or correct it."
VISIBLE = 2


@dataclass(frozen=True, eq=False, kw_only=True)
class CocoItem(Item):
    """An image of a COCO file."""

    missing: str | None  # why there is no such file
    positions: np.ndarray  # of its annotations in the COCO file
    fingerprint: str  # of all that its records depend on
    prompt_keys: list[str]  # of what the record of each prompt depends on


@dataclass(frozen=True)
class CocoSource:
    """The images of a COCO file."""

    coco: CocoFile
    images: Path | None = None  # folder that its file names are relative to; None if files are looked for elsewhere
    identity: str = ""  # of what masks are made from but their prompts
    refine: bool = False  # whether the masks of annotations are prompts too

    def item(self, ordinal: int) -> CocoItem:
        """Read what is asked of an image."""
        record = self.coco.image(ordinal)
        positions, name = self.coco.positions(ordinal), record.get("file_name")
        path, state, failure = (None, [], None) if self.images is None else find_image(self.images, name)
        annotations = list(map(self.coco.annotation, positions))
        prompts, made_from = [prompt_of(a, refine=self.refine) for a in annotations], [state, self.identity]
        return CocoItem(
            key=digest([record.get("id"), name]),
            source_id=record.get("id"),
            image=str(name if path is None else path),
            size=(record.get("width"), record.get("height")),
            prompts=prompts,
            prompt_ids=[annotation.get("id") for annotation in annotations],
            missing=failure if record else NO_SUCH_IMAGE,
            positions=positions,
            fingerprint=digest([made_from, prompts]),
            prompt_keys=[digest([made_from, prompt]) for prompt in prompts],
        )


def find_image(images: Path, name: Any) -> tuple[Path | None, list, str | None]:
    """Return the file of an image, what it is known by, and why there is none."""
    if not isinstance(name, str):
        return None, [], f"file_name must be a text, got {name!r:.200}. Correct the image's record."
    folder = os.path.normpath(images.absolute())
    path = Path(os.path.normpath(images.absolute() / name))
    if not path.is_relative_to(folder):
        why = f"file_name must lead into the folder {str(images)!r}, got {name!r}. Name a folder that holds all."
        return None, [], why
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        return None, [], f"image must be a file, got {str(images / name)!r} ({error}). Check the path."
    if not stat.S_ISREG(found.st_mode):
        return None, [], f"image must be a file, got {str(images / name)!r}, which is something else. Check the path."
    return path, [found.st_size, found.st_mtime_ns], None


def prompt_of(annotation: dict, *, refine: bool = False) -> PlainPrompt:
    """Return what an annotation asks for: its box, or without one its visible keypoints (`v` of 2).

    With `refine` its mask, if it has one, is part of the prompt.
    """
    box, keypoints = annotation.get("bbox"), annotation.get("keypoints")
    if refine and annotation.get("segmentation"):
        try:
            return _outline(annotation["segmentation"])
        except Exception as error:
            return {
                "failure": "segmentation must be polygons [[x, y, x, y, ...], ...] or run lengths with size and counts "
                f"to be refined ({reason_of(error)}). Correct it, or remove it."
            }
    if box:
        return _box(box)
    if keypoints:
        return _points(keypoints)
    return {"failure": "An annotation must have a bbox or keypoints, got neither. Add one, or remove it."}


def _outline(segmentation: Any) -> PlainPrompt:
    if isinstance(segmentation, list):
        polygons = [np.array(polygon, dtype=np.float64).reshape(-1, 2).tolist() for polygon in segmentation]
        return {"box": bounds(polygons), "outline": {"polygons": polygons}}
    mask = rle.decode(segmentation)
    height, width = mask.shape
    box = list(map(float, tight_region(mask)))
    if not box[2]:
        raise ValueError("it has no pixel")
    return {"box": box, "outline": {"mask": rle.encode(mask), "box": [0.0, 0.0, float(width), float(height)]}}


def _box(box: Any) -> PlainPrompt:
    values = _numbers(box)
    x, y, width, height = values if len(values) == 4 else [math.nan] * 4
    corners = [x, y, x + width, y + height]
    if not (all(map(math.isfinite, corners)) and width > 0 and height > 0):
        return {
            "failure": "bbox must be [x, y, width, height] in pixels, finite, width and height above 0, "
            f"got {box!r:.200}. Correct or remove it."
        }
    return {"box": corners}


def _points(keypoints: Any) -> PlainPrompt:
    values = _numbers(keypoints)
    if not values or len(values) % 3:
        return {
            "failure": f"keypoints must be [x, y, v, x, y, v, ...], got {keypoints!r:.200}. Correct or remove them."
        }
    triples = [values[i : i + 3] for i in range(0, len(values), 3)]
    points = [[x, y] for x, y, v in triples if v == VISIBLE and math.isfinite(x) and math.isfinite(y)]
    if not points:
        return {"failure": f"keypoints must have a visible point (v = {VISIBLE}), got none. Add one, or a bbox."}
    return {"points": points, "labels": [1] * len(points)}


def _numbers(values: Any) -> list[float]:
    """Return a list of numbers as floats, none if it is something else."""
    try:
        return [float(value) for value in values] if isinstance(values, list) else []
    except (TypeError, ValueError, OverflowError):
        return []
