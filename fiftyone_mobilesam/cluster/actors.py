"""Masks on several machines: a manifest in, append-only shards of records out, by actors of Ray Data."""

import inspect
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fiftyone_mobilesam.cluster.manifest import Row, require
from fiftyone_mobilesam.segmenter import Segmenter, digest
from mobilesam.weights import resolve, sha256_of

SHARDS = "shards"


def label_manifest(
    manifest: str | Path, out: str | Path, *, actors: int = 1, cpus: float = 1, gpus: float = 0, **options: Any
) -> int:
    """Make the masks of a manifest on a Ray cluster, or on this machine if none is running.

    Each actor loads the model once, reads images with fsspec, and writes a record a prompt. A shard is the records of
    one row group of the manifest; it appears at once or not at all, under a name made of what the group asks for, and
    is replaced only to try again an image that could not be used. So the same call again, after anything was killed,
    does what is missing. Ray starts an actor that dies again, and its group with it. No actor needs FiftyOne.

    Args:
        manifest: from `write_manifest` or `write_coco_manifest`, where every machine can read it.
        out: folder for the shards, where every machine can write; of one set of options.
        actors: how many run at once.
        cpus: of each actor.
        gpus: of each actor; 0.5 puts two on a GPU.
        **options: of `Segmenter`: weights, device, precision, clip, multimask_output, max_pixels, cache_dir, verify.

    Returns:
        The number of images that this run did.

    Raises:
        MissingPackageError: Ray is not installed.
        TypeError: an option that does not exist.
        ValueError: `out` has shards that were made with other options.
    """
    ray_data = require("ray.data")
    inspect.signature(Segmenter).bind_partial(**options)
    manifest, out = Path(manifest).absolute(), Path(out).absolute()
    _check_options(out, options)
    groups = [{"group": group} for group, name in _groups(manifest) if not _is_done(out / SHARDS / name)]
    if not groups:
        return 0
    # A group is a block, and so a task of its own.
    done = ray_data.from_items(groups, override_num_blocks=len(groups)).map_batches(
        Worker,
        fn_constructor_kwargs={"manifest": str(manifest), "out": str(out), **options},
        batch_size=1,
        compute=ray_data.ActorPoolStrategy(size=actors),
        num_cpus=cpus,
        num_gpus=gpus,
    )
    return sum(int(row["images"]) for row in done.iter_rows())


class Worker:
    """What an actor runs: a `Segmenter` on row groups of a manifest.

    Args:
        manifest: Parquet file.
        out: folder of the run.
        **options: of `Segmenter`.
    """

    def __init__(self, manifest: str, out: str, **options: Any):
        self.manifest, self.out = manifest, Path(out)
        self.segmenter = Segmenter(**options)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[int]]:
        """Make the shards of the row groups in `group`, and return how many `images` each has."""
        return {"images": [self._write_shard(int(group)) for group in batch["group"]]}

    def _write_shard(self, group: int) -> int:
        arrow, parquet = require("pyarrow"), require("pyarrow.parquet")
        texts = [(name, arrow.string()) for name in ("id", "sample_id", "failure")]
        sizes = [(name, arrow.int64()) for name in ("height", "width")]
        lists = [(name, arrow.list_(arrow.string())) for name in ("label_ids", "records")]
        wanted = parquet.ParquetFile(self.manifest).read_row_group(group).to_pylist()
        shard = self.out / SHARDS / _shard_name([row["id"] for row in wanted])
        before = parquet.read_table(shard).to_pylist() if shard.exists() else []
        done = {row["id"]: row for row in before if row["failure"] is None}
        table = arrow.Table.from_pylist(
            [done.get(row["id"]) or label_row(row, self.segmenter) for row in wanted],
            schema=arrow.schema([*texts, *sizes, *lists]),
        )
        unfinished = shard.with_name(f"{uuid.uuid4().hex}.unfinished")
        shard.parent.mkdir(parents=True, exist_ok=True)
        try:
            parquet.write_table(table, unfinished)
            os.replace(unfinished, shard)
        finally:
            unfinished.unlink(missing_ok=True)
        return len(wanted) - len(done)


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
    shards = sorted((Path(out) / SHARDS).glob("*.parquet"))
    if not shards:
        raise FileNotFoundError(f"out must be a folder with the shards of a run, got {str(out)!r} with none.")
    for shard in shards:
        yield from parquet.read_table(shard).to_pylist()


def _groups(manifest: Path) -> Iterator[tuple[int, str]]:
    """Yield the number of each row group and the name of its shard."""
    file = require("pyarrow.parquet").ParquetFile(manifest)
    for group in range(file.num_row_groups):
        yield group, _shard_name(file.read_row_group(group, columns=["id"])["id"].to_pylist())


def _is_done(shard: Path) -> bool:
    """Return whether a shard is there and all its images could be used."""
    failures = require("pyarrow.parquet").read_table(shard, columns=["failure"]) if shard.exists() else None
    return failures is not None and failures["failure"].null_count == len(failures)


def _shard_name(ids: list[str]) -> str:
    return f"{digest(ids)}.parquet"


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
