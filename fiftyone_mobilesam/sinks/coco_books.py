"""The report of a COCO job beside its output: what a person reads while it runs, after it, and from another shell."""

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fiftyone_mobilesam.engine.report import FINISHED, REMARKS, Report
from fiftyone_mobilesam.sources.coco_file import CocoFile
from mobilesam.errors import JobError
from mobilesam.files import replacing


def coco_report(coco: CocoFile, out: str | Path, call: dict[str, Any] | None = None) -> Report:
    """Return the books of a job that begins, with what its input says."""
    remarks = {name: getattr(coco, name) for name in REMARKS}
    return Report(into=str(out), total=coco.images, remarks=remarks, call=call or {})


def write_report(report: Report) -> None:
    """Write a report beside the output, at once, with the time that has passed."""
    updated = datetime.now(timezone.utc).isoformat(timespec="seconds")
    books = report.tick().as_dict() | {"updated": updated}
    with replacing(report_path(report.into)) as unfinished:
        unfinished.write_text(json.dumps(books, indent=1) + "\n", encoding="utf-8")


def check_out(out: Path, annotations: str | Path) -> None:
    """Check that an output can be written, and replaces nothing but an earlier one."""
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
    """Return the report of a job by its output."""
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
    if report["state"] != FINISHED or not Path(out).exists():
        raise JobError(f"job must have finished, got {str(out)!r}, which is {report['state']}. Resume it first.")
    with CocoFile(out) as coco:
        for position in range(coco.count):
            annotation = coco.annotation(position)
            annotation = annotation if isinstance(annotation, dict) else {"failure": "An annotation must be an object."}
            if annotation.get("failure") is not None:
                yield {
                    "image_id": annotation.get("image_id"),
                    "annotation_id": annotation.get("id"),
                    "file_name": coco.image_of(position).get("file_name"),
                    "reason": annotation["failure"],
                }
