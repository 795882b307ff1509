"""A Parquet manifest: one row an image with its prompts, for workers that see neither the COCO file nor FiftyOne."""

import json
import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fiftyone_mobilesam.coco.file import CocoFile, prompt_of
from fiftyone_mobilesam.segmenter import PlainPrompt, digest
from mobilesam import FieldError, MissingPackageError

if TYPE_CHECKING:
    import fiftyone as fo
    from fiftyone.core.collections import SampleCollection

    from fiftyone_mobilesam.options import Options

IMAGES_PER_SHARD = 32

Row = dict[str, Any]


def require(module: str) -> Any:
    """Import a package of the extra `ray`.

    Raises:
        MissingPackageError: it is not installed.
    """
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise MissingPackageError(
            f"{module} must be installed, got {error}. Run: pip install 'mobilesam[ray]'"
        ) from error


def write_manifest(
    samples: "SampleCollection", path: str | Path, *, images_per_shard: int = IMAGES_PER_SHARD, **options: Any
) -> int:
    """Write the images of a dataset or view and the prompts in their fields.

    Args:
        samples: of images, not of frames or patches.
        path: Parquet file to write.
        images_per_shard: images in a row group: what an actor does at a time, and loses if it is killed.
        **options: the prompt fields and `point_confidence_thresh`, as keywords of `apply_model`.

    Returns:
        The number of images.

    Raises:
        FieldError: there is no prompt field, or not of images.
        MissingPackageError: pyarrow is not installed.
    """
    from fiftyone_mobilesam.options import Options

    parsed = Options.parse(**options)
    check_samples(samples, parsed)
    fields = ["filepath", *parsed.prompt_paths.values()]
    rows = (dataset_row(sample, parsed) for sample in samples.select_fields(fields).iter_samples())
    return _write(path, rows, images_per_shard)


def write_coco_manifest(
    annotations: str | Path, images: str | Path, path: str | Path, *, images_per_shard: int = IMAGES_PER_SHARD
) -> int:
    """Write the images of a COCO file that have annotations, and their prompts.

    Args:
        annotations: COCO file.
        images: folder or URL that its file names are relative to: anything that fsspec reads.
        path: Parquet file to write.
        images_per_shard: see `write_manifest`.

    Returns:
        The number of images.

    Raises:
        AnnotationError: not a COCO file.
        MissingPackageError: pyarrow is not installed.
    """
    with CocoFile(annotations) as coco:
        rows = (coco_row(coco, ordinal) for ordinal in range(coco.images))
        rows = ({**row, "image": _join(str(images), row["image"])} for row in rows if row)
        return _write(path, rows, images_per_shard)


def check_samples(samples: "SampleCollection", options: "Options") -> None:
    """Check that a manifest can be made of samples.

    Raises:
        FieldError: it cannot.
    """
    if not options.prompt_paths:
        raise FieldError("prompt_field must name the field of the prompts, got none. Pass prompt_field='detections'.")
    if samples.media_type != "image" or samples._is_generated:
        raise FieldError(
            f"samples must be a dataset or view of images, got {samples.media_type}s or patches. "
            "Select the images with select_group_slices(), or the labels with select_labels()."
        )


def dataset_row(sample: "fo.Sample", options: "Options") -> Row:
    """Return the row of a sample. Its prompts are fractions of the image's sides, as in FiftyOne."""
    from fiftyone_mobilesam.prompts import prompt_records

    labels = {name: sample[field] for name, field in options.prompt_paths.items()}
    records = prompt_records(labels, options, original_hw=(1, 1))
    prompts = [_plain(record) for record in records]
    return _row(sample.id, sample.filepath, None, [record.label.id for record in records], prompts)


def coco_row(coco: CocoFile, ordinal: int) -> Row | None:
    """Return the row of an image, its path as in the file; None without a path or annotations."""
    record, positions = coco.image(ordinal) or {}, coco.positions(ordinal)
    name = record.get("file_name")
    if not len(positions) or not isinstance(name, str):
        return None
    annotations = [coco.annotation(position) for position in positions]
    size = [record.get("width"), record.get("height")]
    ids = [json.dumps(annotation.get("id")) for annotation in annotations]
    return _row(json.dumps(record.get("id")), name, size, ids, [prompt_of(annotation) for annotation in annotations])


def _plain(record: Any) -> PlainPrompt:
    if record.prompt is None:
        return {"failure": record.failure}
    names = {"box": "box", "point_coords": "points", "point_labels": "labels"}
    given = {short: getattr(record.prompt, name) for name, short in names.items()}
    return {"relative": True, **{name: array.tolist() for name, array in given.items() if array is not None}}


def _row(sample_id: str, image: str, size: list | None, label_ids: list[str], prompts: list[PlainPrompt]) -> Row:
    task = json.dumps({"size": size, "prompts": prompts})
    return {
        "id": digest([sample_id, image, label_ids, task]),
        "sample_id": sample_id,
        "image": image,
        "label_ids": label_ids,
        "task": task,
    }


def _join(folder: str, name: str) -> str:
    """Return the place of an image, or "" if its name leads out of the folder."""
    path = os.path.normpath(name)
    if os.path.isabs(path) or path.split(os.sep)[0] == os.pardir or "://" in name:
        return ""
    return f"{folder.rstrip('/')}/{path}" if "://" in folder else str(Path(folder).absolute() / path)


def _write(path: str | Path, rows: Iterable[Row], size: int) -> int:
    """Write rows, some at a time; the file appears at once or not at all."""
    arrow, parquet = require("pyarrow"), require("pyarrow.parquet")
    texts = [(name, arrow.string()) for name in ("id", "sample_id", "image", "task")]
    schema = arrow.schema([*texts, ("label_ids", arrow.list_(arrow.string()))])
    unfinished, count = Path(f"{path}.unfinished"), 0
    try:
        with parquet.ParquetWriter(unfinished, schema) as writer:
            rows = iter(rows)
            while group := list(islice(rows, size)):
                writer.write_table(arrow.Table.from_pylist(group, schema=schema))
                count += len(group)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return count
