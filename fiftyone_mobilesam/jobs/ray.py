"""Masks on several machines: a manifest in, append-only shards of records out, by actors of Ray Data."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from fiftyone_mobilesam.engine.item import Item
from fiftyone_mobilesam.engine.records import RecordForm
from fiftyone_mobilesam.engine.run import Settings, Worker
from fiftyone_mobilesam.options import MaskOptions, check_choice
from fiftyone_mobilesam.sinks.shards import SHARDS, check_note, note_of, parquet, row_of, shard_name, write_shard
from mobilesam.packages import require
from mobilesam.weights import absolute_weights


def label_manifest(
    manifest: str | Path,
    out: str | Path,
    *,
    workers: int = 1,
    num_cpus: float = 1,
    num_gpus: float = 0,
    device: str | None = None,
    weights: str | Path = "mobile_sam.pt",
    precision: str = "fp32",
    max_pixels: int | None = None,
    cache_dir: str | Path | None = None,
    verify: bool = True,
    **options: Any,
) -> int:
    """Make the masks of a manifest on a Ray cluster, or on this machine if none is running.

    Each worker, an actor, loads the model once, reads images with fsspec, and writes a record a prompt. A shard is the
    records of one row group of the manifest; it appears at once or not at all, under a name made of what the group asks
    for, and is replaced only to try again an image that could not be used. So the same call again, after anything was
    killed, does what is missing. Ray starts a worker that dies again, and its group with it. None needs FiftyOne.

    Args:
        manifest: from `write_manifest` or `write_coco_manifest`, where every machine can read it.
        out: folder for the shards, where every machine can write; of one set of options.
        workers: how many run at once, each with its own model.
        num_cpus: of each worker.
        num_gpus: of each worker; 0.5 puts two on a GPU.
        device: where each runs. Default: a GPU if it has one.
        weights, cache_dir, verify: see `load_model`.
        precision: "fp32" or "bf16": what "auto" means could differ from machine to machine.
        max_pixels: larger images are failures.
        **options: of the masks, see `fiftyone_mobilesam.options.MaskOptions`.

    Returns:
        The number of images that this run did.

    Raises:
        MissingPackageError: Ray is not installed.
        TypeError: an option that does not exist.
        ValueError: a wrong setting, or `out` has shards that were made with others.
    """
    ray_data = require("ray.data", extra="ray")
    check_choice("precision", precision, ("fp32", "bf16"))
    parsed = MaskOptions.parse(**options)
    manifest, out = Path(manifest).absolute(), Path(out).absolute()
    check_note(out, note_of(weights, precision, parsed, cached=cache_dir is not None), weights)
    file = parquet().ParquetFile(manifest)
    groups, images = [], 0
    for group in range(file.num_row_groups):
        ids = file.read_row_group(group, columns=["id"])["id"].to_pylist()
        if missing := _missing(out / SHARDS / shard_name(ids), len(ids)):
            groups.append({"group": group})
            images += missing
    if not groups:
        return 0
    settings = Settings(RecordForm(), parsed, absolute_weights(weights), precision, cache_dir, max_pixels, verify)
    # A group is a block, and so a task of its own.
    work = ray_data.from_items(groups, override_num_blocks=len(groups)).map_batches(
        ShardWriter,
        fn_constructor_kwargs={"manifest": str(manifest), "out": str(out), "settings": settings, "device": device},
        batch_size=1,
        compute=ray_data.ActorPoolStrategy(size=workers),
        num_cpus=num_cpus,
        num_gpus=num_gpus,
    )
    work.materialize()
    return (
        images  # an actor that is killed when its shard is there, and not yet known, is begun again and finds it done
    )


class ShardWriter:
    """What an actor runs: a `Worker` on row groups of a manifest."""

    def __init__(self, manifest: str, out: str, settings: Settings, device: str | None = None):
        self.manifest, self.out = manifest, Path(out)
        self.worker = Worker(settings, device)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Make the shards of the row groups in `group`."""
        for group in batch["group"]:
            self._write_shard(int(group))
        return batch

    def _write_shard(self, group: int) -> None:
        wanted = parquet().ParquetFile(self.manifest).read_row_group(group).to_pylist()
        shard = self.out / SHARDS / shard_name([row["id"] for row in wanted])
        before = parquet().read_table(shard).to_pylist() if shard.exists() else []
        rows = {row["id"]: row for row in before if row["failure"] is None}
        missing = {row["id"]: row for row in wanted if row["id"] not in rows}
        for item, outcome in self.worker.outcomes(map(_item, missing.values())):
            rows[item.key] = row_of(missing[item.key], item, outcome)
        write_shard(shard, [rows[row["id"]] for row in wanted])


def _item(row: dict[str, Any]) -> Item:
    task = json.loads(row["task"])
    return Item(
        key=row["id"], image=row["image"], size=task["size"], prompts=task["prompts"], prompt_ids=row["label_ids"]
    )


def _missing(shard: Path, rows: int) -> int:
    """Return how many images of a shard of so many rows are still to be done: all, or those that could not be used."""
    if not shard.exists():
        return rows
    failures = parquet().read_table(shard, columns=["failure"])["failure"]
    return len(failures) - failures.null_count
