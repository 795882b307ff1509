"""Records of masks -> the annotations of a COCO file, and a report of what came of them."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fiftyone_mobilesam.coco.file import NO_IMAGE, CocoFile
from fiftyone_mobilesam.polygon_loss import PolygonLoss, coco_polygons
from fiftyone_mobilesam.report import SHOWN
from fiftyone_mobilesam.segmenter import Record
from mobilesam import rle

FAILURES_LISTED = 1000


@dataclass
class CocoReport:
    """The books of a COCO job. Every annotation of the input is in `masks` or in `failed`.

    Attributes:
        out: the output.
        annotations: number of annotations in and out.
        masks: annotations with a mask.
        failed: annotations without.
        failures: `{"id": ..., "image_id": ..., "reason": ...}`, the first 1,000; the output has all.
        unknown_categories: annotations whose category is not in the file; their masks were made.
        duplicate_ids: annotations whose id an earlier one has; their masks were made.
        images: number of images.
        images_done: images that this run read, the others were done before or have no annotations.
        seconds: of this run.
        polygons: what polygons lost, or None.
    """

    out: str
    annotations: int = 0
    masks: int = 0
    failed: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)
    unknown_categories: int = 0
    duplicate_ids: int = 0
    images: int = 0
    images_done: int = 0
    seconds: float = 0.0
    polygons: PolygonLoss | None = None

    @property
    def ok(self) -> bool:
        """Whether every annotation got a mask."""
        return self.failed == 0

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    def write(self, path: str | Path) -> None:
        """Write the report as JSON."""
        Path(path).write_text(json.dumps(self.as_dict(), indent=1) + "\n", encoding="utf-8")

    def __str__(self) -> str:
        lines = [
            f"MobileSAM: {self.masks} masks for {self.annotations} annotations in {self.images} images, "
            f"{self.failed} without a mask; {self.images_done} images in {self.seconds:.0f} s in this run. {self.out}"
        ]
        for count, what in (
            (self.unknown_categories, "have a category that the file does not have"),
            (self.duplicate_ids, "have the id of an earlier one"),
        ):
            lines += [f"  {count} annotations {what}."] if count else []
        if (loss := self.polygons) is not None:
            lines.append(f"  {loss}")
        lines += [f"  annotation {f['id']} (image {f['image_id']}): {f['reason']}" for f in self.failures[:SHOWN]]
        if self.failed > SHOWN:
            lines.append(f"  ... and {self.failed - SHOWN} more, with their reasons in the output")
        return "\n".join(lines)


def write_output(
    coco: CocoFile, out: str | Path, record_of: Callable[[int], Record], *, segmentation: str, box: str
) -> CocoReport:
    """Write the changed copy of a COCO file, one annotation at a time.

    Args:
        coco: the input.
        out: path of the copy.
        record_of: gives the record of the annotation at a position.
        segmentation: "rle" or "polygon".
        box: "prompt" to leave `bbox` as it is, "mask" for the mask's.
    """
    report = CocoReport(
        str(out),
        annotations=coco.count,
        unknown_categories=coco.unknown_categories,
        duplicate_ids=coco.duplicate_ids,
        images=coco.images,
        polygons=PolygonLoss() if segmentation == "polygon" else None,
    )

    def change(position: int, annotation: dict) -> dict:
        record = record_of(position)
        changed = {**annotation, **{key: record[key] for key in ("predicted_iou", "stability_score", "failure")}}
        changed.setdefault("iscrowd", 0)
        if record["failure"] is not None:
            _book(report, annotation, record)
            changed["segmentation"] = annotation.get("segmentation") or _nothing(coco, position)
            changed.setdefault("area", 0)
            return changed
        report.masks += 1
        if box == "mask" or not changed.get("bbox"):
            changed["bbox"] = record["bbox"]
        changed["area"] = record["area"]
        changed["segmentation"] = record["segmentation"]
        if report.polygons is not None:
            changed["segmentation"] = _polygons(record, report.polygons)
        return changed

    coco.write(out, change)
    report.failed = report.annotations - report.masks  # with what is no annotation at all
    return report


def _book(report: CocoReport, annotation: dict, record: Record) -> None:
    if len(report.failures) < FAILURES_LISTED:
        who = {"id": annotation.get("id"), "image_id": annotation.get("image_id")}
        report.failures.append({**who, "reason": record["failure"]})


def _nothing(coco: CocoFile, position: int) -> dict | list:
    """Return an empty mask, which pycocotools reads; an empty list, which it does not, if the size is unknown."""
    owner = int(coco.owners[position])
    image = (coco.image(owner) if owner != NO_IMAGE else None) or {}
    height, width = image.get("height"), image.get("width")
    if not (isinstance(height, int) and isinstance(width, int)):
        return []
    return {"size": [height, width], "counts": [height * width]}


def _polygons(record: Record, loss: PolygonLoss) -> list[list[float]]:
    """Return a record's mask as COCO polygons, and book what that loses."""
    x, y, width, height = record["bbox"]
    mask = rle.decode(record["segmentation"])[y : y + height, x : x + width]
    return coco_polygons(mask, (x, y), loss)
