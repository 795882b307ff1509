"""Shards come home into a COCO file. Doing it again changes nothing."""

import tempfile
from functools import partial
from pathlib import Path

from fiftyone_mobilesam.engine.report import Report, keeping_books
from fiftyone_mobilesam.sinks.coco import CocoSink, write_output
from fiftyone_mobilesam.sinks.coco_books import check_out, coco_report, write_report
from fiftyone_mobilesam.sinks.journal import Journal
from fiftyone_mobilesam.sinks.shards import NOT_DONE, read_note, read_shards
from fiftyone_mobilesam.sources.coco import CocoSource
from fiftyone_mobilesam.sources.coco_file import CocoFile
from fiftyone_mobilesam.sources.manifest import coco_row


def merge_coco(
    annotations: str | Path, shards: str | Path, out: str | Path, *, segmentation: str = "rle", box: str | None = None
) -> Report:
    """Write the COCO file that `label_coco` would have written, from the shards of a run.

    Args:
        annotations: COCO file that the manifest was written from.
        shards: folder of the run.
        out: COCO file to write; `<out>.report.json` has the report.
        segmentation: see `label_coco`.
        box: see `label_coco`.

    Raises:
        AnnotationError: not a COCO file.
        FileNotFoundError: there are no shards.
        OSError: the output cannot be written, or something else is there.
    """
    check_out(Path(out), annotations)
    with (
        CocoFile(annotations) as coco,
        tempfile.TemporaryDirectory(dir=Path(out).parent) as folder,
        Journal(Path(folder) / "journal") as journal,
    ):
        refine = bool(read_note(shards).get("refine"))
        source, report = CocoSource(coco, refine=refine), coco_report(coco, out)
        rows = ((ordinal, coco_row(coco, ordinal, refine=refine)) for ordinal in range(coco.images))
        wanted = {row["id"]: ordinal for ordinal, row in rows if row}
        answered: set[str] = set()
        for row in read_shards(shards):
            # A row can be there twice, where it was tried again: a failure takes nothing away.
            if row["id"] in wanted and (row["failure"] is None or row["id"] not in answered):
                answered.add(row["id"])
                item = source.item(wanted[row["id"]])
                records = zip(item.prompt_keys, map(str.encode, row["records"]), strict=True)
                journal.append(item.key, item.fingerprint, list(records))
        with keeping_books(report, partial(write_report, report)):
            record_of = CocoSink(journal, report).records(source, without=NOT_DONE.format("annotation"))
            box = "mask" if refine and box is None else box
            write_output(coco, report, record_of, segmentation=segmentation, box=box)
    return report
