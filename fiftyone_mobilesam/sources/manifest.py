"""A Parquet manifest: one row an image with its prompts, for workers that see neither the COCO file nor FiftyOne."""

import json
import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fiftyone_mobilesam.engine.identity import digest
from fiftyone_mobilesam.engine.item import PlainPrompt
from fiftyone_mobilesam.options import Options
from fiftyone_mobilesam.sources.coco import prompt_of
from fiftyone_mobilesam.sources.coco_file import CocoFile
from mobilesam import FieldError
from mobilesam.files import replacing
from mobilesam.packages import require

if TYPE_CHECKING:
    import fiftyone as fo
    from fiftyone.core.collections import SampleCollection

    from fiftyone_mobilesam.prompts import LabelPrompt

IMAGES_PER_SHARD = 32

Row = dict[str, Any]


def write_manifest(
    samples: "SampleCollection", path: str | Path, *, images_per_shard: int = IMAGES_PER_SHARD, **options: Any
) -> int:
    """Write the images of a dataset or view and the prompts in their fields.

    Args:
        samples: of images, not of frames or patches.
        path: Parquet file to write.
        images_per_shard: images in a row group: what an actor does at a time, and loses if it is killed.
        **options: the prompt fields, `point_confidence_thresh` and `refine`, as keywords of `apply_model`.

    Returns:
        The number of images.

    Raises:
        FieldError: there is no prompt field, or not of images.
        MissingPackageError: pyarrow is not installed.
    """
    parsed = Options.parse(**options)
    check_samples(samples, parsed)
    fields = ["filepath", *parsed.prompt_paths.values()]
    rows = (dataset_row(sample, parsed) for sample in samples.select_fields(fields).iter_samples())
    return _write(path, rows, images_per_shard)


def write_coco_manifest(
    annotations: str | Path,
    images: str | Path,
    path: str | Path,
    *,
    images_per_shard: int = IMAGES_PER_SHARD,
    refine: bool = False,
) -> int:
    """Write the images of a COCO file that have annotations, and their prompts.

    Args:
        annotations: COCO file.
        images: folder or URL that its file names are relative to: anything that fsspec reads.
        path: Parquet file to write.
        images_per_shard: see `write_manifest`.
        refine: write the masks of the annotations too, to be refined.

    Returns:
        The number of images.

    Raises:
        AnnotationError: not a COCO file.
        MissingPackageError: pyarrow is not installed.
    """
    with CocoFile(annotations) as coco:
        rows = (coco_row(coco, ordinal, refine=refine) for ordinal in range(coco.images))
        rows = ({**row, "image": _join(str(images), row["image"])} for row in rows if row)
        return _write(path, rows, images_per_shard)


def check_samples(samples: "SampleCollection", options: Options) -> None:
    """Check that a manifest can be made of samples."""
    if not options.prompt_paths:
        raise FieldError("prompt_field must name the field of the prompts, got none. Pass prompt_field='detections'.")
    from fiftyone_mobilesam import host

    if samples.media_type != "image" or host.is_generated(samples):
        raise FieldError(
            f"samples must be a dataset or view of images, got {samples.media_type}s or patches. "
            "Select the images with select_group_slices(), or the labels with select_labels()."
        )


def dataset_row(sample: "fo.Sample", options: Options) -> Row:
    """Return the row of a sample. Its prompts are fractions of the image's sides, as in FiftyOne."""
    from fiftyone_mobilesam.prompts import label_prompts

    prompts = label_prompts({name: sample[field] for name, field in options.prompt_paths.items()}, options)
    return row_of_prompts(sample.id, sample.filepath, prompts)


def row_of_prompts(sample_id: str, filepath: str, prompts: "list[LabelPrompt]") -> Row:
    """Return the row of a sample with these prompts. Its id changes if a record could."""
    return _row(sample_id, filepath, None, [prompt.label.id for prompt in prompts], list(map(_relative, prompts)))


def coco_row(coco: CocoFile, ordinal: int, *, refine: bool = False) -> Row | None:
    """Return the row of an image, its path as in the file; None without a path or annotations."""
    record, annotations = coco.image(ordinal), list(map(coco.annotation, coco.positions(ordinal)))
    name = record.get("file_name")
    if not annotations or not isinstance(name, str):
        return None
    size = [record.get("width"), record.get("height")]
    ids = [json.dumps(annotation.get("id")) for annotation in annotations]
    return _row(json.dumps(record.get("id")), name, size, ids, [prompt_of(a, refine=refine) for a in annotations])


def _relative(prompt: "LabelPrompt") -> PlainPrompt:
    """Return a prompt as version 0.1 wrote it, whose shards are still good: what cannot be used is its reason only."""
    failure = prompt.ask((1, 1)).failure
    return {k: v for k, v in prompt.plain.items() if v != []} if failure is None else {"failure": failure}


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
    arrow, parquet = (require(name, extra="ray") for name in ("pyarrow", "pyarrow.parquet"))
    texts = [(name, arrow.string()) for name in ("id", "sample_id", "image", "task")]
    schema, count = arrow.schema([*texts, ("label_ids", arrow.list_(arrow.string()))]), 0
    with replacing(path) as unfinished, parquet.ParquetWriter(unfinished, schema) as writer:
        rows = iter(rows)
        while group := list(islice(rows, size)):
            writer.write_table(arrow.Table.from_pylist(group, schema=schema))
            count += len(group)
    return count
