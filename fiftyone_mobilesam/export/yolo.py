"""Masks -> a folder for YOLO: a text file an image with an outline a mask, links to the images, and what is where."""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from fiftyone_mobilesam.engine.report import Report
from fiftyone_mobilesam.export.masks import ExportedImage, book, class_of
from fiftyone_mobilesam.polygon_loss import yolo_polygon

# What is where, twice: Ultralytics is given the file, Roboflow and CVAT look for the first name (CVAT takes it where
# there are several), FiftyOne's `YOLOv5Dataset` for the second.
CARD, CARD_OF_FIFTYONE = "data.yaml", "dataset.yaml"


def write_yolo(images: Iterable[ExportedImage], out: Path, classes: list[str], report: Report) -> None:
    """Write the folder, which appears at once or not at all. An earlier export there is replaced, and nothing else.

    Numbers of classes count from 0 in the order of `classes`.
    """
    if out.exists() and not (out / CARD).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"out must be a new folder or an earlier export, got {str(out)!r}. Name another.")
    unfinished = out.with_name(out.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        for part in ("images", "labels"):
            (unfinished / part).mkdir(parents=True)
        stems: set[str] = set()
        for image in images:
            book(report, image)
            name = _free(PurePosixPath(image.name), stems)
            link, text = unfinished / "images" / name, unfinished / "labels" / name.with_suffix(".txt")
            for path in (link, text):
                path.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.abspath(image.filepath))
            text.write_text("".join(_lines(image, classes, report)), encoding="utf-8")
        card = [f"path: {_quoted(str(out.absolute()))}\n", 'train: "images"\n', 'val: "images"\n', "names:\n"]
        card += [f"  {number}: {_quoted(name)}\n" for number, name in enumerate(classes)]
        for name in (CARD, CARD_OF_FIFTYONE):
            (unfinished / name).write_text("".join(card), encoding="utf-8")
        if out.is_dir():
            shutil.rmtree(out)
        unfinished.rename(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _free(name: PurePosixPath, stems: set[str]) -> PurePosixPath:
    """Return a name whose text file no other image has: YOLO tells a.jpg and a.png by nothing else."""
    stem, number = name.stem, 1
    while str(name.with_suffix("")) in stems:
        number += 1
        name = name.with_stem(f"{stem}_{number}")
    stems.add(str(name.with_suffix("")))
    return name


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _lines(image: ExportedImage, classes: list[str], report: Report) -> Iterable[str]:
    for mask in image.masks:
        if mask.failure is None:
            polygon = yolo_polygon(mask.mask, mask.corner, image.original_hw, report.polygons)
            values = " ".join(f"{value:.6g}" for value in polygon)
            yield f"{classes.index(class_of(mask.label))} {values}\n"
