"""A COCO file that may be larger than memory: an index of it, its annotations by image, and a changed copy."""

import json
from array import array
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fiftyone_mobilesam.sources.json_items import read_items
from mobilesam import AnnotationError
from mobilesam.files import replacing

NO_IMAGE = -1


class CocoFile:
    """An index of a COCO file: where in it each image and annotation is.

    Attributes:
        count: number of annotations. They are known by their position in the file, ids may be doubled.
        images: number of images that are in the file or named by annotations; each has an ordinal.
        owners: (count,) ordinal of each annotation's image, -1 where it names none.
        unknown_categories: number of annotations whose category is not in the file.
        duplicate_ids: number of annotations whose id an earlier one has.
        duplicate_image_ids: number of images whose id an earlier one has; annotations are the earlier one's.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.duplicate_image_ids = 0
        self._ordinals: dict[Any, int] = {}
        self._images: dict[int, tuple[int, int]] = {}
        offsets, lengths, owners, ids = array("q"), array("q"), array("q"), array("q")
        used, known, seen = Counter(), set(), Counter()
        for item in read_items(path, ("images", "annotations")):
            if item.kind == "start":
                seen[item.key] += 1
            elif item.key == "images" and item.kind == "item":
                self._add_image(json.loads(item.text), item.offset, len(item.text))
            elif item.key == "annotations" and item.kind == "item":
                annotation = json.loads(item.text)
                offsets.append(item.offset)
                lengths.append(len(item.text))
                if isinstance(annotation, dict):
                    owners.append(self._ordinal(annotation.get("image_id")))
                    ids.append(hash(repr(annotation.get("id"))))
                    used[repr(annotation.get("category_id"))] += 1
                else:
                    owners.append(NO_IMAGE)
            elif item.key == "categories":
                found = json.loads(item.text)
                known = {repr(c.get("id")) for c in found if isinstance(c, dict)} if isinstance(found, list) else set()
        if seen != {"images": 1, "annotations": 1}:
            raise AnnotationError(
                f"annotations must be a COCO file with a list of images and a list of annotations, got {str(path)!r} "
                "without. A list of results alone has no images: put it under the key annotations of such a file."
            )
        self.count, self.images = len(offsets), len(self._ordinals)
        self.unknown_categories = sum(number for category, number in used.items() if category not in known)
        self.duplicate_ids = len(ids) - len(np.unique(np.asarray(ids)))
        self._offsets, self._lengths = np.asarray(offsets), np.asarray(lengths)
        self.owners = np.asarray(owners)
        self._by_image = np.argsort(self.owners, kind="stable")
        self._firsts = np.searchsorted(self.owners[self._by_image], np.arange(self.images + 1))
        self._file = open(path, "rb")  # noqa: SIM115 -- open as long as the index is used

    def __enter__(self) -> "CocoFile":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()

    def positions(self, ordinal: int) -> np.ndarray:
        """Return the positions of an image's annotations."""
        return self._by_image[self._firsts[ordinal] : self._firsts[ordinal + 1]]

    def image(self, ordinal: int) -> dict[str, Any]:
        """Return an image's record, empty if annotations name it and the file does not have it."""
        return self._read(*self._images[ordinal]) if ordinal in self._images else {}

    def image_of(self, position: int) -> dict[str, Any]:
        """Return the record of an annotation's image, empty if it names none that the file has."""
        return self.image(int(self.owners[position]))

    def annotation(self, position: int) -> Any:
        """Return an annotation."""
        return self._read(int(self._offsets[position]), int(self._lengths[position]))

    def write(self, out: str | Path, change: Callable[[int, dict], dict]) -> None:
        """Write a copy whose annotations are `change(position, annotation)`; all else stays as it is.

        The copy appears at once or not at all.
        """
        position, separator, in_list = 0, b"{", b""
        with replacing(out) as unfinished, open(unfinished, "wb") as file:
            for item in read_items(self.path, ("images", "annotations")):
                if item.kind in ("start", "value"):
                    file.write(separator + json.dumps(item.key).encode() + b": ")
                    separator, in_list = b",\n", b"\n"
                text = item.text
                if item.kind == "item":
                    if item.key == "annotations":
                        annotation = json.loads(text)
                        if isinstance(annotation, dict):
                            text = json.dumps(change(position, annotation), ensure_ascii=False).encode()
                        position += 1
                    text, in_list = in_list + text, b",\n"
                file.write(text)
            file.write(b"}\n")

    def _ordinal(self, image_id: Any) -> int:
        if not isinstance(image_id, (int, float, str)):
            return NO_IMAGE
        return self._ordinals.setdefault(image_id, len(self._ordinals))

    def _add_image(self, image: Any, offset: int, length: int) -> None:
        ordinal = self._ordinal(image.get("id")) if isinstance(image, dict) else NO_IMAGE
        if ordinal != NO_IMAGE:
            self.duplicate_image_ids += ordinal in self._images
            self._images.setdefault(ordinal, (offset, length))

    def _read(self, offset: int, length: int) -> Any:
        self._file.seek(offset)
        return json.loads(self._file.read(length))
