"""Shards of records -> a COCO file, without FiftyOne."""

import json
import tempfile
from pathlib import Path

import numpy as np

from fiftyone_mobilesam.cluster.actors import read_shards
from fiftyone_mobilesam.cluster.manifest import coco_row
from fiftyone_mobilesam.coco.file import NO_IMAGE, CocoFile
from fiftyone_mobilesam.coco.output import write_output
from fiftyone_mobilesam.coco.report import CocoReport, check_out
from fiftyone_mobilesam.segmenter import Record, failed

NOT_DONE = "The shards have nothing for this annotation as it is now. Write the manifest and run the job again."


def merge_coco(
    annotations: str | Path, shards: str | Path, out: str | Path, *, segmentation: str = "rle", box: str = "prompt"
) -> CocoReport:
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
    with CocoFile(annotations) as coco, tempfile.TemporaryFile(dir=Path(out).parent) as spool:
        rows = ((ordinal, coco_row(coco, ordinal)) for ordinal in range(coco.images))
        wanted = {row["id"]: ordinal for ordinal, row in rows if row}
        offsets, lengths = np.full(coco.count, -1), np.zeros(coco.count, dtype=np.int64)
        for row in read_shards(shards):
            ordinal = wanted.get(row["id"], NO_IMAGE)
            if ordinal == NO_IMAGE:
                continue
            for position, text in zip(coco.positions(ordinal), row["records"], strict=True):
                offsets[position] = spool.tell()
                lengths[position] = spool.write(text.encode())

        def record_of(position: int) -> Record:
            if offsets[position] < 0:
                return failed(NOT_DONE)
            spool.seek(offsets[position])
            return json.loads(spool.read(lengths[position]))

        report = CocoReport.of(coco, out)
        write_output(coco, report, record_of, segmentation=segmentation, box=box)
    return report
