"""`fom.export_masks`: the masks of a field as COCO or YOLO, with the books of what came of each."""

import json
from pathlib import Path

from fiftyone.core.collections import SampleCollection

from fiftyone_mobilesam import host
from fiftyone_mobilesam.engine.report import Report, keeping_books
from fiftyone_mobilesam.export.coco import write_coco
from fiftyone_mobilesam.export.masks import UNNAMED, check_masks, exported_images
from fiftyone_mobilesam.export.yolo import write_yolo
from fiftyone_mobilesam.fields import labels_path
from fiftyone_mobilesam.options import check_choice
from fiftyone_mobilesam.polygon_loss import PolygonLoss
from mobilesam.files import replacing

FORMATS = ("coco", "coco-polygons", "yolo")


def export_masks(samples: SampleCollection, label_field: str, out: str | Path, *, format: str = "coco") -> Report:
    """Write the masks of a field into files that others read. Memory holds one sample at a time.

    Every label of the field is a mask in the output or is listed in the report with a reason. Masks may be in the
    database or on disk. The same labels give the same bytes.

    Args:
        samples: a dataset or view of images.
        label_field: field of Detections.
        out: file for COCO, folder for YOLO. `<out>.report.json` beside it has the report.
        format: "coco" for run lengths, which lose nothing; "coco-polygons" for polygons along the edges of the pixels,
            one a part, with holes joined to it by cuts without width: `pycocotools` draws the same mask; "yolo" for one
            outline a mask, parts joined and holes filled, with links to the images, ready for training with its
            `data.yaml`; `dataset.yaml` says the same to FiftyOne's importer.

    Returns:
        Labels with and without a mask, failures, and for polygons parts, holes and area, in and out.

    Raises:
        FieldError: no field of Detections, or not of images.
        OSError: the output cannot be written.
        ValueError: another format.
    """
    out = Path(out)
    check_choice("format", format, FORMATS)
    check_masks(samples, label_field, "label_field")
    if not out.absolute().parent.is_dir():
        raise NotADirectoryError(f"out must be in a folder that is there, got {str(out)!r}. Make the folder.")
    polygons = None if format == "coco" else PolygonLoss()
    report = Report(format, str(out), total=len(samples), polygons=polygons)
    write = write_yolo if format == "yolo" else write_coco
    with keeping_books(report, report.tick):
        write(exported_images(samples, label_field), out, _classes(samples, label_field), report)
    with replacing(out.with_name(out.name + ".report.json")) as unfinished:
        unfinished.write_text(json.dumps(report.as_dict(), indent=1) + "\n", encoding="utf-8")
    return report


def _classes(samples: SampleCollection, label_field: str) -> list[str]:
    """Return the classes that the dataset declares, then all others in alphabetical order."""
    dataset = host.root_dataset(samples)
    declared = dataset.classes.get(label_field) or dataset.default_classes or []
    path = f"{labels_path(samples, label_field)}.label"
    found = {label or UNNAMED for label in samples.count_values(path)}
    return [*declared, *sorted(found - set(declared))]
