"""Masks on several machines: a manifest in, append-only shards of records out, by actors of Ray Data."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fiftyone_mobilesam.manifest import Row, require
from fiftyone_mobilesam.segmenter import Segmenter
from mobilesam.weights import resolve, sha256_of

IMAGES_PER_SHARD = 32
IMAGES_PER_BATCH = 4


def label_manifest(
    manifest: str | Path,
    out: str | Path,
    *,
    actors: int = 1,
    cpus: float = 1,
    gpus: float = 0,
    images_per_shard: int = IMAGES_PER_SHARD,
    **options: Any,
) -> None:
    """Make the masks of a manifest on a Ray cluster, or on this machine if none is running.

    Each actor loads the model once, reads images with fsspec, and returns a record a prompt. Shards, Parquet files with
    a row an image, are only ever added. Ray Data keeps a checkpoint of the rows that are written: the same call again
    does the others. An actor that dies is started again, and its batch with it. No actor needs FiftyOne.

    Args:
        manifest: from `write_manifest` or `write_coco_manifest`.
        out: folder for the shards and the checkpoint, which every machine must reach; of one set of options.
        actors: how many run at once.
        cpus: of each actor.
        gpus: of each actor; 0.5 puts two on a GPU.
        images_per_shard: what is lost at most for each actor if all machines stop.
        **options: of `Segmenter`: weights, device, precision, clip, multimask_output, max_pixels, cache_dir, verify.

    Raises:
        MissingPackageError: Ray is not installed.
        ValueError: `out` has shards that were made with other options.
    """
    ray_data = require("ray.data")
    from ray.data.checkpoint import CheckpointConfig

    out = Path(out).absolute()
    _check_options(out, options)
    context = ray_data.DataContext.get_current()
    before, context.checkpoint_config = (
        context.checkpoint_config,
        CheckpointConfig(id_column="id", checkpoint_path=str(out / "checkpoint"), delete_checkpoint_on_success=False),
    )
    try:
        count = require("pyarrow.parquet").read_metadata(manifest).num_rows
        rows = ray_data.read_parquet(str(manifest), override_num_blocks=max(1, -(-count // images_per_shard)))
        rows.map_batches(
            Worker,
            fn_constructor_kwargs=options,
            batch_size=IMAGES_PER_BATCH,
            batch_format="pyarrow",
            compute=ray_data.ActorPoolStrategy(size=actors),
            num_cpus=cpus,
            num_gpus=gpus,
        ).write_parquet(str(out / "shards"), mode="append")
    finally:
        context.checkpoint_config = before


class Worker:
    """What an actor runs: a `Segmenter` on rows of a manifest.

    Args:
        **options: of `Segmenter`.
    """

    def __init__(self, **options: Any):
        self.segmenter = Segmenter(**options)

    def __call__(self, batch: Any) -> Any:
        """Return the rows of a table with their records."""
        arrow = require("pyarrow")
        texts = [(name, arrow.string()) for name in ("id", "sample_id", "failure")]
        sizes = [(name, arrow.int64()) for name in ("height", "width")]
        lists = [(name, arrow.list_(arrow.string())) for name in ("label_ids", "records")]
        rows = [label_row(row, self.segmenter) for row in batch.to_pylist()]
        return arrow.Table.from_pylist(rows, schema=arrow.schema([*texts, *sizes, *lists]))


def label_row(row: Row, segmenter: Segmenter) -> Row:
    """Make the records of one row of a manifest.

    Returns:
        `id`, `sample_id`, `label_ids` as they were; `height`, `width` of the image; `records`, JSON, one a label; and
        `failure`, the reason why the image could not be used, or None.
    """
    task = json.loads(row["task"])
    pixels = read(row["image"], segmenter, task["size"])
    records, failure = segmenter.attempt(pixels, task["prompts"])
    height, width = (None, None) if isinstance(pixels, str) else pixels.shape[:2]
    return {
        **{key: row[key] for key in ("id", "sample_id", "label_ids")},
        "height": height,
        "width": width,
        "records": [json.dumps(record) for record in records],
        "failure": failure,
    }


def read(image: str, segmenter: Segmenter, size: list | None = None) -> np.ndarray | str:
    """Return the pixels (H, W, 3) of an image that lies anywhere fsspec reads, or the reason why there are none."""
    if not image:
        return "file_name must lead into the folder of the images, got another. Name a folder that holds all."
    if "://" not in image:
        return segmenter.read(image, size)
    fsspec = require("fsspec")
    with tempfile.NamedTemporaryFile(suffix=Path(image).suffix) as copy:
        try:
            with fsspec.open(image, "rb") as source:
                shutil.copyfileobj(source, copy)
        except Exception as error:  # each file system has its own
            return f"image must be a file that can be read, got {image!r} ({type(error).__name__}: {error}). Check it."
        copy.flush()
        pixels = segmenter.read(copy.name, size)
    return pixels.replace(copy.name, image) if isinstance(pixels, str) else pixels


def read_shards(out: str | Path) -> Iterator[Row]:
    """Yield the rows of the shards of a run, a file at a time, in any order. A row can be there twice.

    Raises:
        FileNotFoundError: there are none.
    """
    parquet = require("pyarrow.parquet")
    shards = sorted((Path(out) / "shards").glob("*.parquet"))
    if not shards:
        raise FileNotFoundError(f"out must be a folder with the shards of a run, got {str(out)!r} with none.")
    for shard in shards:
        yield from parquet.read_table(shard).to_pylist()


def _check_options(out: Path, options: dict[str, Any]) -> None:
    """Note what the shards are made with, and refuse others."""
    weights = sha256_of(resolve(options.get("weights", "mobile_sam.pt")))
    described = {name: value for name, value in options.items() if name not in ("weights", "device", "verify")}
    text = json.dumps({"weights": weights, **described}, sort_keys=True, default=str)
    note = out / "options.json"
    out.mkdir(parents=True, exist_ok=True)
    if not note.exists():
        note.write_text(text + "\n", encoding="utf-8")
    elif (found := note.read_text(encoding="utf-8").strip()) != text:
        raise ValueError(f"out must be made with one set of options, got {text} where {found} is. Use another folder.")
