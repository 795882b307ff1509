"""`export_masks`: the masks of a field as COCO or YOLO, with the books of what came of each."""

from pathlib import Path

import fiftyone as fo
from fiftyone.core.collections import SampleCollection
from fiftyone.core.media import IMAGE

from fiftyone_mobilesam.export.coco import write_coco
from fiftyone_mobilesam.export.masks import UNNAMED, exported_images
from fiftyone_mobilesam.export.report import ExportReport
from fiftyone_mobilesam.export.yolo import write_yolo
from fiftyone_mobilesam.fields import label_fields, labels_path
from fiftyone_mobilesam.polygon_loss import PolygonLoss
from mobilesam import FieldError

FORMATS = ("coco", "coco-polygons", "yolo")
MASKS = (fo.Detections, fo.Detection)


def export_masks(samples: SampleCollection, label_field: str, out: str | Path, *, format: str = "coco") -> ExportReport:
    """See `fiftyone_mobilesam.export_masks`."""
    out = Path(out)
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(map(repr, FORMATS))}, got {format!r}.")
    if samples.media_type != IMAGE:
        raise FieldError(
            f"samples must be images, got media type {samples.media_type!r}. "
            "Select images with select_group_slices(), or turn videos into images with to_frames(sample_frames=True)."
        )
    if label_field not in (fields := label_fields(samples, MASKS)):
        raise FieldError(
            f"label_field must be a field of Detections, got {label_field!r}. Fields that fit: {', '.join(fields)}."
        )
    if not out.absolute().parent.is_dir():
        raise NotADirectoryError(f"out must be in a folder that is there, got {str(out)!r}. Make the folder.")
    report = ExportReport(str(out), format, polygons=None if format == "coco" else PolygonLoss())
    write = write_yolo if format == "yolo" else write_coco
    write(exported_images(samples, label_field), out, _classes(samples, label_field), report)
    report.write(out.with_name(out.name + ".report.json"))
    return report


def _classes(samples: SampleCollection, label_field: str) -> list[str]:
    """Return the classes that the dataset declares, then all others in alphabetical order."""
    dataset = samples._root_dataset
    declared = dataset.classes.get(label_field) or dataset.default_classes or []
    path = f"{labels_path(samples, label_field)}.label"
    found = {label or UNNAMED for label in samples.count_values(path)}
    return [*declared, *sorted(found - set(declared))]
