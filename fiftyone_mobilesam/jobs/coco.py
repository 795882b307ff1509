"""`fom.label_coco`: masks for the boxes of a COCO file, in another COCO file, without FiftyOne's database."""

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fiftyone_mobilesam.engine.identity import identity, name_of_weights, resolved_precision
from fiftyone_mobilesam.engine.item import failed
from fiftyone_mobilesam.engine.records import RecordForm
from fiftyone_mobilesam.engine.report import Report, keeping_books
from fiftyone_mobilesam.engine.run import Settings, processes, run
from fiftyone_mobilesam.options import MaskOptions, check_choice, check_count
from fiftyone_mobilesam.sinks.coco import CocoSink, write_output
from fiftyone_mobilesam.sinks.coco_books import check_out, coco_report, write_report
from fiftyone_mobilesam.sinks.journal import Journal
from fiftyone_mobilesam.sources.coco import CocoItem, CocoSource
from fiftyone_mobilesam.sources.coco_file import CocoFile
from mobilesam.weights import absolute_weights

logger = logging.getLogger("fiftyone.mobilesam")


def label_coco(
    annotations: str | Path,
    images: str | Path,
    out: str | Path,
    *,
    job: str | None = None,
    weights: str | Path = "mobile_sam.pt",
    device: str | Sequence[str] | None = None,
    precision: str = "fp32",
    clip: bool | float = True,
    multimask_output: bool | None = None,
    min_region_area: int = 0,
    quality: str = "fast",
    overlap: str = "keep",
    refine: bool = False,
    segmentation: str = "rle",
    box: str | None = None,
    max_pixels: int | None = None,
    cache_dir: str | Path | None = None,
    workers: int = 1,
    progress: bool = True,
    verify: bool = True,
) -> Report:
    """Make a mask for each annotation of a COCO file, from its box, or without one from its visible keypoints.
    With `refine=True` the mask that it has is made again.

    The output is the same file with `segmentation`, `area`, `predicted_iou`, `stability_score`, `mask_quality` and
    `failure` in every annotation. Where there is no mask, `failure` says why, and a segmentation that was there stays.
    A `score` that was there stays; else it is the mask's own, `mask_quality` or the predicted IoU, 0 without a mask.
    Nothing is left out: annotations keep their place, id and other keys.

    What is done goes into a journal beside the output as it is done. The same call again, after a kill or with some
    boxes, images or settings changed, does what is missing; images that could not be read are tried again. An image is
    the same if path, size and time of change are. The output itself is written at the end, at once.

    Args:
        annotations: COCO file.
        images: folder that its file names are relative to. A name that leads out of it (`../`) is a failure; links in
            it are followed.
        out: COCO file to write; `<out>.report.json` has the report, while the job runs too.
        job: name of the journal. Default: that of the output. It can be removed when the output is there.
        weights, precision, cache_dir: see `load_model`.
        device: where to run, one or several. Default: a GPU if there is one.
        clip, multimask_output, min_region_area, quality, overlap, refine: see `fiftyone_mobilesam.options.MaskOptions`.
        segmentation: "rle" for run lengths as COCO compresses them, or "polygon" for polygons along the edges of the
            pixels, with holes joined to their outlines by cuts without width; the report tells what that loses.
        box: "prompt" leaves `bbox` as it is, "mask" makes it tight around the mask. Default: "prompt", as wherever
            labels are filled that have a box.
        max_pixels: larger images are failures. Default: Pillow's own limit.
        workers: processes on each device, each with its own model. 1 on one device is this process.
        progress: show a bar.
        verify: test the model on a known image first.

    Returns:
        What was done, what was done before, and what failed. When it has finished, `masks` and `failed_prompts` are
        those of the whole file, and together its annotations.

    Raises:
        AnnotationError: `annotations` is not a COCO file, or another run writes the same output.
        CheckpointError: the weights do not load, or the model fails its self-test.
        OSError: the output cannot be written, what is done is in the journal; or something else is there.
        ValueError: a wrong setting.
    """
    call = _plain(locals())
    out, images = Path(out), Path(images)
    check_choice("segmentation", segmentation, ("rle", "polygon"))
    check_choice("box", box, (None, "prompt", "mask"))
    check_count("workers", workers)
    if max_pixels is not None:
        check_count("max_pixels", max_pixels)
    if not images.is_dir():
        raise NotADirectoryError(f"images must be a folder, got {str(images)!r}. It holds what file_name names.")
    options = MaskOptions(clip, multimask_output, min_region_area, quality, overlap, refine)
    check_out(out, annotations)
    devices = processes(device, workers)
    precision = resolved_precision(precision, devices)
    name = identity(name_of_weights(weights), precision, options, cached=cache_dir is not None)
    settings = Settings(RecordForm(), options, call["weights"], precision, call["cache_dir"], max_pixels, verify)
    with CocoFile(annotations) as coco, Journal(out.parent / f"{job or out.name}.journal") as journal:
        report = coco_report(coco, out, call)
        source, sink = CocoSource(coco, images, name, refine), CocoSink(journal, report)
        if journal.dropped:
            logger.warning("%s: %d broken lines, cut off by a kill, are done again", journal.path, journal.dropped)
        items = (sink.less_known(source.item(ordinal)) for ordinal in _to_do(source, journal, report))
        save = partial(write_report, report)
        done = report.up_to_date + report.failed
        bar = tqdm(total=report.total, initial=done, unit="image", disable=not progress)
        with keeping_books(report, save), bar:
            run(_counted(items, bar, report), sink, settings, devices, save)
            box = "mask" if refine and box is None else box  # a refined mask may leave its box
            write_output(coco, report, sink.records(source), segmentation=segmentation, box=box)
    return report


def _to_do(source: CocoSource, journal: Journal, report: Report) -> list[int]:
    """Return the images that are pending; book the others."""
    pending = []
    for ordinal in range(source.coco.images):
        item = source.item(ordinal)
        if item.prompts and item.missing is not None:
            report.book(failed(item, item.missing))
        elif item.prompts and journal.fingerprint(item.key) != item.fingerprint:
            pending.append(ordinal)
        else:
            report.up_to_date += 1
    return pending


def _counted(items: Iterator[CocoItem], bar: tqdm, report: Report) -> Iterator[CocoItem]:
    """Move a bar on as items are taken. It is ahead of what is done by the few images that are read ahead."""
    for item in items:
        yield item
        bar.set_postfix(masks=report.masks, failed=report.failed_prompts, refresh=False)
        bar.update()


def _plain(call: dict[str, Any]) -> dict[str, Any]:
    """Return keywords as JSON can hold them, with paths that hold in any folder."""
    paths = ("annotations", "images", "out", "cache_dir")
    absolute = {name: str(Path(call[name]).absolute()) for name in paths if call[name] is not None}
    return {**call, "weights": absolute_weights(call["weights"]), **absolute}
