"""Masks for the boxes of a COCO file, in another COCO file: resumable, and without FiftyOne's database."""

import json
import logging
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fiftyone_mobilesam.coco.file import NO_IMAGE, CocoFile, prompt_of
from fiftyone_mobilesam.coco.journal import Journal
from fiftyone_mobilesam.coco.output import write_output
from fiftyone_mobilesam.coco.report import CocoReport, check_out, keeping_books
from fiftyone_mobilesam.segmenter import PlainPrompt, Record, Segmenter, digest, failed
from mobilesam.weights import absolute_weights

logger = logging.getLogger(__name__)
NO_SUCH_IMAGE = "image_id must be that of an image of the file, got another. Add the image's record, or correct it."
SECONDS_A_REPORT = 10.0
FAILED = "-"  # fingerprint of an image that could not be read: it is tried again


@dataclass(frozen=True)
class Task:
    """An image and the prompts in it.

    Attributes:
        key: of the image in the journal.
        name: of its file.
        path: of its file, or None.
        failure: why there is no file.
        size: (width, height) that the COCO file says, None where it does not.
        positions: of its annotations in the COCO file.
        ids: of its annotations.
        prompts: one an annotation.
        identity: of the image's file and the settings.
    """

    key: str
    name: str
    path: Path | None
    failure: str | None
    size: tuple[Any, Any]
    positions: np.ndarray
    ids: list[Any]
    prompts: list[PlainPrompt]
    identity: list

    @property
    def fingerprint(self) -> str:
        """Of all that the records depend on."""
        return digest([self.identity, self.prompts])

    def prompt_key(self, prompt: PlainPrompt) -> str:
        """Return a fingerprint of what the record of one prompt depends on."""
        return digest([self.identity, prompt])


def label_coco(
    annotations: str | Path,
    images: str | Path,
    out: str | Path,
    *,
    job: str | None = None,
    weights: str | Path = "mobile_sam.pt",
    device: str | None = None,
    precision: str = "fp32",
    clip: bool | float = True,
    multimask_output: bool | None = None,
    segmentation: str = "rle",
    box: str = "prompt",
    max_pixels: int | None = None,
    cache_dir: str | Path | None = None,
    workers: int = 1,
    progress: bool = True,
    verify: bool = True,
) -> CocoReport:
    """Make a mask for each annotation of a COCO file, from its box, or without one from its visible keypoints.

    The output is the same file with `segmentation`, `area`, `predicted_iou`, `stability_score` and `failure` in every
    annotation. Where there is no mask, `failure` says why, and a segmentation that was there stays. Nothing is left
    out: annotations keep their place, id and other keys.

    What is done goes into a journal beside the output as it is done. The same call again, after a kill or with some
    boxes, images or settings changed, does what is missing; images that could not be read are tried again. An image is
    the same if path, size and time of change are. The output itself is written at the end, at once.

    Args:
        annotations: COCO file.
        images: folder that its file names are relative to. A name that leads out of it (`../`) is a failure; links in
            it are followed.
        out: COCO file to write; `<out>.report.json` has the report, while the job runs too.
        job: name of the journal. Default: that of the output. It can be removed when the output is there.
        weights: see `mobilesam.load_model`.
        device: where to run. Default: a GPU if there is one.
        precision: "fp32", "bf16" or "auto", see `SamPredictor`.
        clip: cut each mask at its box; a number grows the box by that fraction a side first; False keeps all.
        multimask_output: take the best of three candidates by predicted IoU. Default: for single points only.
        segmentation: "rle" for uncompressed run lengths, or "polygon" for polygons along the edges of the pixels, with
            holes joined to their outlines by cuts without width; the report tells what that loses.
        box: "prompt" leaves `bbox` as it is, "mask" makes it tight around the mask.
        max_pixels: larger images are failures, see `mobilesam.images.read_image`.
        cache_dir: folder for image embeddings, see `mobilesam.embedding_cache.EmbeddingCache`.
        workers: threads that read images ahead, an image each; 0 reads each when it is its turn.
        progress: show a bar.
        verify: test the model on a known image first.

    Raises:
        AnnotationError: `annotations` is not a COCO file, or another run writes the same output.
        CheckpointError: the weights do not load, or the model fails its self-test.
        OSError: the output cannot be written, what is done is in the journal; or something else is there.
        ValueError: a wrong setting.
    """
    call = _plain(locals())
    out, images = Path(out), Path(images)
    _check(images, segmentation, box, max_pixels, workers)
    check_out(out, annotations)
    with (
        CocoFile(annotations) as coco,
        Journal(out.parent / f"{job or out.name}.journal") as journal,
    ):
        report = CocoReport.of(coco, out, call)
        segmenter = Segmenter(
            weights,
            device=device,
            precision=precision,
            clip=clip,
            multimask_output=multimask_output,
            max_pixels=max_pixels,
            cache_dir=cache_dir,
            verify=verify,
        )
        if journal.dropped:
            logger.warning("%s: %d broken lines, cut off by a kill, are done again", journal.path, journal.dropped)
        task = partial(_task, coco, images, segmenter)
        pending = [i for i in range(coco.images) if _is_pending(task(i), journal)]
        bar = tqdm(total=coco.images, initial=coco.images - len(pending), unit="image", disable=not progress)
        with keeping_books(report), bar:
            written = time.monotonic()
            for item, pixels in _read_ahead(map(task, pending), segmenter, workers):
                masks = _process(item, pixels, segmenter, journal)
                report.images_done += 1
                report.masks, report.failed = report.masks + masks, report.failed + len(item.prompts) - masks
                if time.monotonic() - written > SECONDS_A_REPORT:
                    written = time.monotonic()
                    report.write()
                bar.set_postfix(masks=report.masks, failed=report.failed, refresh=False)
                bar.update()
            write_output(coco, report, _records(coco, task, journal), segmentation=segmentation, box=box)
    return report


def _plain(call: dict[str, Any]) -> dict[str, Any]:
    """Return keywords as JSON can hold them, with paths that hold in any folder."""
    paths = ("annotations", "images", "out", "cache_dir")
    absolute = {name: str(Path(call[name]).absolute()) for name in paths if call[name] is not None}
    return {**call, "weights": absolute_weights(call["weights"]), **absolute}


def _check(images: Path, segmentation: str, box: str, max_pixels: int | None, workers: int) -> None:
    for name, value, choices in (("segmentation", segmentation, ("rle", "polygon")), ("box", box, ("prompt", "mask"))):
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}.")
    if not images.is_dir():
        raise NotADirectoryError(f"images must be a folder, got {str(images)!r}. It holds what file_name names.")
    if not isinstance(workers, int) or workers < 0:
        raise ValueError(f"workers must be a whole number, 0 or more, got {workers!r}.")
    if max_pixels is not None and (not isinstance(max_pixels, int) or max_pixels < 1):
        raise ValueError(f"max_pixels must be a whole number, 1 or more, got {max_pixels!r}.")


def _task(coco: CocoFile, images: Path, segmenter: Segmenter, ordinal: int) -> Task:
    """Read what is to be done in an image."""
    record = coco.image(ordinal) or {}
    positions = coco.positions(ordinal)
    name = record.get("file_name")
    path, state, failure = _find(images, name)
    annotations = [coco.annotation(position) for position in positions]
    return Task(
        key=digest([record.get("id"), name]),
        name=str(name),
        path=path,
        failure=failure if record else NO_SUCH_IMAGE,
        size=(record.get("width"), record.get("height")),
        positions=positions,
        ids=[annotation.get("id") for annotation in annotations],
        prompts=[prompt_of(annotation) for annotation in annotations],
        identity=[state, segmenter.fingerprint],
    )


def _find(images: Path, name: Any) -> tuple[Path | None, list, str | None]:
    """Return the file of an image, what it is known by, and why there is none."""
    if not isinstance(name, str):
        return None, [], f"file_name must be a text, got {name!r:.200}. Correct the image's record."
    path = Path(os.path.normpath(images.absolute() / name))
    if not path.is_relative_to(os.path.normpath(images.absolute())):
        return (
            None,
            [],
            f"file_name must lead into the folder {str(images)!r}, got {name!r}. Name a folder that holds all.",
        )
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        return None, [], f"image must be a file, got {str(images / name)!r} ({error}). Check the path."
    if not stat.S_ISREG(found.st_mode):
        return None, [], f"image must be a file, got {str(images / name)!r}, which is something else. Check the path."
    return path, [found.st_size, found.st_mtime_ns], None


def _is_pending(task: Task, journal: Journal) -> bool:
    if task.failure is not None and task.prompts:
        logger.warning("image %s: %s", task.name, task.failure)
    return bool(task.prompts) and task.failure is None and journal.fingerprint(task.key) != task.fingerprint


def _read_ahead(tasks: Iterable[Task], segmenter: Segmenter, workers: int) -> Iterator[tuple[Task, np.ndarray | str]]:
    """Yield tasks with their pixels, or the reason why there are none, in order; at most `workers` are read ahead."""

    def read(task: Task) -> np.ndarray | str:
        return segmenter.read(task.path, task.size)

    if not workers:
        yield from ((task, read(task)) for task in tasks)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque = deque()
        for task in tasks:
            waiting.append((task, pool.submit(read, task)))
            if len(waiting) > workers:
                first, pixels = waiting.popleft()
                yield first, pixels.result()
                del pixels
        while waiting:
            first, pixels = waiting.popleft()
            yield first, pixels.result()


def _process(task: Task, pixels: np.ndarray | str, segmenter: Segmenter, journal: Journal) -> int:
    """Do what is missing in an image and write it down. Return the number of new and old masks."""
    known = {entry.key: entry.text for entry in journal.entries(task.key)}
    keys = [task.prompt_key(prompt) for prompt in task.prompts]
    missing = {key: prompt for key, prompt in zip(keys, task.prompts, strict=True) if key not in known}
    records, failure = segmenter.attempt(pixels, list(missing.values()))
    if failure is not None:
        logger.warning("image %s: %s", task.name, failure)
        journal.append(task.key, FAILED, [(FAILED, _text(failed(failure)))])
        return 0
    known |= {key: _text(record) for key, record in zip(missing, records, strict=True)}
    journal.append(task.key, task.fingerprint, [(key, known[key]) for key in keys])
    failures = {key: record["failure"] for key, record in zip(missing, records, strict=True) if record["failure"]}
    for annotation_id, key in zip(task.ids, keys, strict=True):
        if key in failures:
            logger.warning("annotation %s (%s): %s", annotation_id, task.name, failures[key])
    return sum(key not in failures for key in keys)


def _text(record: Record) -> bytes:
    return json.dumps(record).encode()


def _records(coco: CocoFile, task: Callable[[int], Task], journal: Journal) -> Callable[[int], Record]:
    """Return what gives an annotation's record by its position. It holds no records, only where they are."""
    offsets, lengths = np.full(coco.count, -1), np.zeros(coco.count, dtype=np.int64)
    failures = {NO_IMAGE: NO_SUCH_IMAGE}
    for ordinal in range(coco.images):
        item = task(ordinal)
        entries = journal.entries(item.key)
        if item.failure is not None:
            failures[ordinal] = item.failure
        elif journal.fingerprint(item.key) not in (FAILED, item.fingerprint):
            failures[ordinal] = "image must stay the same during a run, got one that changed. Run the job again."
        else:
            if journal.fingerprint(item.key) == FAILED:
                entries *= len(item.positions)
            offsets[item.positions] = [entry.offset for entry in entries]
            lengths[item.positions] = [len(entry.text) for entry in entries]

    def record(position: int) -> Record:
        if offsets[position] < 0:
            return failed(failures[int(coco.owners[position])])
        return json.loads(journal.text(int(offsets[position]), int(lengths[position])))

    return record
