"""Masks -> a COCO file, an annotation a label, in order."""

import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fiftyone_mobilesam.engine.report import Report
from fiftyone_mobilesam.export.masks import ExportedImage, ExportedMask, attributes, book, class_of
from fiftyone_mobilesam.polygon_loss import coco_polygons
from mobilesam.files import replacing
from mobilesam.geometry import rle, tight_region


def write_coco(images: Iterable[ExportedImage], out: Path, classes: list[str], report: Report) -> None:
    """Write the file, image by image; it appears at once or not at all. A label without a mask says why in `failure`.

    Category ids count from 1 in the order of `classes`. Polygons are written if the report has a place for their loss.
    """
    categories = [{"id": i, "name": name} for i, name in enumerate(classes, start=1)]
    with (
        replacing(out) as unfinished,
        open(unfinished, "w", encoding="utf-8") as file,
        tempfile.TemporaryFile("w+", encoding="utf-8", dir=out.parent) as annotations,
    ):
        file.write(f'{{"categories": {json.dumps(categories)},\n"images": [')
        count = 0
        for image_id, image in enumerate(images, start=1):
            book(report, image)
            height, width = image.original_hw or (None, None)
            about = {"file_name": image.name, "width": width, "height": height, "sample_id": image.id}
            _item(file, {"id": image_id, **about}, first=image_id == 1)
            for mask in image.masks:
                count += 1
                who = {"id": count, "image_id": image_id, "category_id": 1 + classes.index(class_of(mask.label))}
                _item(annotations, who | _annotation(image, mask, report), first=count == 1)
        # COCO wants two lists one after the other, and both grow with every image: the second waits in a file.
        file.write('],\n"annotations": [')
        annotations.seek(0)
        shutil.copyfileobj(annotations, file)
        file.write("]}\n")


def _item(file: Any, item: dict, *, first: bool) -> None:
    file.write(("\n" if first else ",\n") + json.dumps(item))


def _annotation(image: ExportedImage, mask: ExportedMask, report: Report) -> dict[str, Any]:
    kept = {"iscrowd": 0, "label_id": mask.label.id, **attributes(mask.label), "failure": mask.failure}
    if mask.failure is not None:
        height, width = image.original_hw or (0, 0)
        x, y, w, h = mask.label.bounding_box or [0] * 4
        box = [x * width, y * height, w * width, h * height]
        kept.setdefault("score", 0.0)  # COCOeval wants one of each
        return kept | {"bbox": box, "area": 0, "segmentation": rle.nothing((height, width))}
    x0, y0, x1, y1 = tight_region(mask.mask)
    box = [mask.corner[0] + x0, mask.corner[1] + y0, x1 - x0, y1 - y0]
    if report.polygons is None:
        segmentation = rle.compress(rle.encode(mask.mask, corner=mask.corner, size=image.original_hw))
    else:
        segmentation = coco_polygons(mask.mask, mask.corner, report.polygons)
    return kept | {"bbox": box, "area": int(mask.mask.sum()), "segmentation": segmentation}
