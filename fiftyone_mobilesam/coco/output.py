"""Records of masks -> the annotations of a COCO file."""

from collections.abc import Callable

from fiftyone_mobilesam.coco.file import NO_IMAGE, CocoFile
from fiftyone_mobilesam.coco.report import FAILURES_LISTED, CocoReport
from fiftyone_mobilesam.polygon_loss import PolygonLoss, coco_polygons
from fiftyone_mobilesam.segmenter import Record
from mobilesam.geometry import rle


def write_output(
    coco: CocoFile, report: CocoReport, record_of: Callable[[int], Record], *, segmentation: str, box: str
) -> None:
    """Write the changed copy of a COCO file, one annotation at a time, and then the books.

    Args:
        coco: the input.
        report: the books, with the path of the copy.
        record_of: gives the record of the annotation at a position.
        segmentation: "rle" or "polygon".
        box: "prompt" to leave `bbox` as it is, "mask" for the mask's.
    """
    report.masks, report.failures = 0, []
    report.polygons = PolygonLoss() if segmentation == "polygon" else None

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

    coco.write(report.out, change)
    report.failed = report.annotations - report.masks  # with what is no annotation at all
    report.state = "finished"
    report.write()


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
