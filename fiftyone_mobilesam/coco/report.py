"""The books of a COCO job: what a person reads while it runs, after it, and from another shell."""

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fiftyone_mobilesam.coco.file import NO_IMAGE, CocoFile
from fiftyone_mobilesam.polygon_loss import PolygonLoss
from fiftyone_mobilesam.report import SHOWN
from mobilesam.errors import JobError

logger = logging.getLogger(__name__)
FAILURES_LISTED = 1000


@dataclass
class CocoReport:
    """What a COCO job did. Every annotation of the input is in `masks` or in `failed` when it has finished.

    Attributes:
        out: the output.
        state: "running"; "finished", with or without failures; "stopped" by an error or "interrupted". A job that was
            killed stays "running": `updated` tells.
        reason: why it stopped.
        annotations: number of annotations in and out.
        masks: annotations with a mask; while it runs, those of `images_done`.
        failed: annotations without.
        failures: `{"id": ..., "image_id": ..., "reason": ...}`, the first 1,000; the output has all.
        unknown_categories: annotations whose category is not in the file; their masks were made.
        duplicate_ids: annotations whose id an earlier one has; their masks were made.
        duplicate_image_ids: images whose id an earlier one has; the annotations are the earlier one's.
        images: number of images.
        images_done: images that this run read, the others were done before or have no annotations.
        seconds: of this run.
        polygons: what polygons lost, or None.
        call: keywords of `label_coco`, to resume.
        updated: when this was written, UTC.
    """

    out: str
    state: str = "running"
    reason: str | None = None
    annotations: int = 0
    masks: int = 0
    failed: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)
    unknown_categories: int = 0
    duplicate_ids: int = 0
    duplicate_image_ids: int = 0
    images: int = 0
    images_done: int = 0
    seconds: float = 0.0
    polygons: PolygonLoss | None = None
    call: dict[str, Any] = field(default_factory=dict)
    updated: str = ""
    started: float = field(default_factory=time.monotonic, repr=False)

    @classmethod
    def of(cls, coco: CocoFile, out: str | Path, call: dict[str, Any] | None = None) -> "CocoReport":
        """Return the books of a job that begins, with what its input says."""
        names = ("images", "unknown_categories", "duplicate_ids", "duplicate_image_ids")
        counts = {name: getattr(coco, name) for name in names}
        return cls(str(out), annotations=coco.count, call=call or {}, **counts)

    @property
    def ok(self) -> bool:
        """Whether every annotation got a mask."""
        return self.state == "finished" and self.failed == 0

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {name: value for name, value in asdict(self).items() if name != "started"}

    def write(self) -> None:
        """Write the report beside the output, at once, with the time that has passed."""
        self.seconds = round(time.monotonic() - self.started, 1)
        self.updated = datetime.now(timezone.utc).isoformat(timespec="seconds")
        path = report_path(self.out)
        unfinished = path.with_name(f".{path.name}.unfinished")
        try:
            unfinished.write_text(json.dumps(self.as_dict(), indent=1) + "\n", encoding="utf-8")
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)

    def __str__(self) -> str:
        lines = [
            f"MobileSAM: {self.masks} masks for {self.annotations} annotations in {self.images} images, "
            f"{self.failed} without a mask; {self.images_done} images in {self.seconds:.0f} s in this run. {self.out}"
        ]
        for count, what in (
            (self.unknown_categories, "annotations have a category that the file does not have"),
            (self.duplicate_ids, "annotations have the id of an earlier one"),
            (self.duplicate_image_ids, "images have the id of an earlier one, and so none of the annotations"),
        ):
            lines += [f"  {count} {what}."] if count else []
        if (loss := self.polygons) is not None:
            lines.append(f"  {loss}")
        lines += [f"  annotation {f['id']} (image {f['image_id']}): {f['reason']}" for f in self.failures[:SHOWN]]
        if self.failed > SHOWN:
            lines.append(f"  ... and {self.failed - SHOWN} more, with their reasons in the output")
        return "\n".join(lines)


@contextmanager
def keeping_books(report: CocoReport) -> Iterator[None]:
    """Write down that a job begins, and how it ends if that is not well."""
    report.write()
    try:
        yield
    except BaseException as error:
        report.state = "stopped" if isinstance(error, Exception) else "interrupted"
        report.reason = str(error) or None
        try:
            report.write()
        except OSError as full:  # perhaps why the job ends
            logger.warning("%s does not say how the job ended: %s", report_path(report.out), full)
        raise


def check_out(out: Path, annotations: str | Path) -> None:
    """Check that an output can be written, and replaces nothing but an earlier one.

    Raises:
        FileExistsError: something else is there.
        NotADirectoryError: its folder is not.
        ValueError: it is the input.
    """
    if not out.parent.is_dir():
        raise NotADirectoryError(f"out must be in a folder that is there, got {str(out)!r}. Make the folder.")
    if out.exists() and out.samefile(annotations):
        raise ValueError(
            f"out must not be the input, got {str(out)!r} for both. The boxes are needed for the next run."
        )
    if out.exists() and not report_path(out).exists():
        raise FileExistsError(
            f"out must be new, or an earlier output with its report beside it, got {str(out)!r}, which is something "
            "else. Move it, or choose another name."
        )


def report_path(out: str | Path) -> Path:
    """Return where the report of an output is."""
    return Path(f"{out}.report.json")


def find_coco_job(out: str | Path) -> dict[str, Any]:
    """Return the report of a job by its output.

    Raises:
        JobError: there is none.
    """
    try:
        return json.loads(report_path(out).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise JobError(
            "job must be a name of letters, digits and underscores, or the output of a COCO job, "
            f"got {str(out)!r} without a report beside it ({error}). Check the path."
        ) from error


def coco_failures(out: str | Path) -> Iterator[dict[str, Any]]:
    """Yield every annotation of an output that has no mask: `image_id`, `annotation_id`, `file_name`, `reason`.

    Raises:
        JobError: there is no such job, or its output is not written yet.
    """
    report = find_coco_job(out)
    if report["state"] != "finished" or not Path(out).exists():
        raise JobError(f"job must have finished, got {str(out)!r}, which is {report['state']}. Resume it first.")
    with CocoFile(out) as coco:
        for position, owner in enumerate(coco.owners):
            annotation = coco.annotation(position)
            annotation = annotation if isinstance(annotation, dict) else {"failure": "An annotation must be an object."}
            if annotation.get("failure") is not None:
                yield {
                    "image_id": annotation.get("image_id"),
                    "annotation_id": annotation.get("id"),
                    "file_name": ((coco.image(owner) if owner != NO_IMAGE else None) or {}).get("file_name"),
                    "reason": annotation["failure"],
                }
