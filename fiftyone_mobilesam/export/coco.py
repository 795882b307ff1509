"""Masks -> a COCO file, an annotation a label, in order."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fiftyone_mobilesam.export.masks import ExportedImage, ExportedMask, attributes, class_of
from fiftyone_mobilesam.export.report import ExportReport
from fiftyone_mobilesam.polygon_loss import coco_polygons
from mobilesam.geometry import rle


def write_coco(images: Iterable[ExportedImage], out: Path, classes: list[str], report: ExportReport) -> None:
    """Write the file, image by image; it appears at once or not at all. A label without a mask says why in `failure`.

    Args:
        images: with their masks.
        out: the file.
        classes: category ids count from 1 in this order.
        report: is told all; polygons are written if it has a place for their loss.
    """
    categories = [{"id": i, "name": name} for i, name in enumerate(classes, start=1)]
    unfinished = out.with_name(out.name + ".unfinished")
    try:
        with (
            open(unfinished, "w", encoding="utf-8") as file,
            tempfile.TemporaryFile("w+", encoding="utf-8", dir=out.parent) as annotations,
        ):
            file.write(f'{{"categories": {json.dumps(categories)},\n"images": [')
            count = 0
            for image_id, image in enumerate(images, start=1):
                report.book(image)
                _item(file, _image(image_id, image), first=image_id == 1)
                for mask in image.masks:
                    count += 1
                    who = {"id": count, "image_id": image_id, "category_id": 1 + classes.index(class_of(mask.label))}
                    _item(annotations, who | _annotation(image, mask, report), first=count == 1)
            file.write('],\n"annotations": [')
            annotations.seek(0)
            shutil.copyfileobj(annotations, file)
            file.write("]}\n")
        os.replace(unfinished, out)
    finally:
        unfinished.unlink(missing_ok=True)


def _item(file: Any, item: dict, *, first: bool) -> None:
    file.write(("\n" if first else ",\n") + json.dumps(item))


def _image(image_id: int, image: ExportedImage) -> dict[str, Any]:
    height, width = image.original_hw or (None, None)
    return {"id": image_id, "file_name": image.name, "width": width, "height": height, "sample_id": image.id}


def _annotation(image: ExportedImage, mask: ExportedMask, report: ExportReport) -> dict[str, Any]:
    kept = {"iscrowd": 0, "label_id": mask.label.id, **attributes(mask.label), "failure": mask.failure}
    if mask.failure is not None:
        height, width = image.original_hw or (0, 0)
        scale = (width, height, width, height)
        box = [share * side for share, side in zip(mask.label.bounding_box or [0] * 4, scale, strict=True)]
        return kept | {"bbox": box, "area": 0, "segmentation": {"size": [height, width], "counts": [height * width]}}
    rows, columns = mask.mask.any(axis=1).nonzero()[0], mask.mask.any(axis=0).nonzero()[0]
    x, y = mask.corner[0] + int(columns[0]), mask.corner[1] + int(rows[0])
    box = [x, y, int(columns[-1] - columns[0]) + 1, int(rows[-1] - rows[0]) + 1]
    if report.polygons is None:
        segmentation = rle.encode(mask.mask, corner=mask.corner, size=image.original_hw)
    else:
        segmentation = coco_polygons(mask.mask, mask.corner, report.polygons)
    return kept | {"bbox": box, "area": int(mask.mask.sum()), "segmentation": segmentation}
