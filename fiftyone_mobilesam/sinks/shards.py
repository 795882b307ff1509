"""Shards: the records of a row group of a manifest each, in Parquet; and the note of what all of them are made from."""

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from fiftyone_mobilesam.engine.identity import digest, identity, name_of_weights
from fiftyone_mobilesam.engine.item import Item, Outcome
from fiftyone_mobilesam.engine.records import record_of_failure
from fiftyone_mobilesam.options import MaskOptions
from fiftyone_mobilesam.sources.manifest import Row
from mobilesam.files import replacing
from mobilesam.packages import require
from mobilesam.weights import resolve, sha256_of

SHARDS = "shards"
NOTE = "options.json"
NOT_DONE = "The shards have nothing for this {} as it is now. Write the manifest and run the job again."


def parquet() -> Any:
    """Return `pyarrow.parquet`."""
    return require("pyarrow.parquet", extra="ray")


def note_of(weights: str | Path, precision: str, options: MaskOptions, *, cached: bool) -> dict[str, Any]:
    """Return what shards are made from, as JSON can hold it."""
    return {"weights": name_of_weights(weights), "precision": precision, "cached": cached, **options.changed()}


def check_note(out: Path, note: dict[str, Any], weights: str | Path) -> None:
    """Note what the shards of a folder are made from, if none were made from something else."""
    out.mkdir(parents=True, exist_ok=True)
    if not (out / NOTE).exists():
        with replacing(out / NOTE) as unfinished:
            unfinished.write_text(json.dumps(note, sort_keys=True) + "\n", encoding="utf-8")
    elif (found := read_note(out, weights)) != note:
        raise ValueError(f"out must be made with one set of options, got {note} where {found} is. Use another folder.")


def read_note(out: str | Path, weights: str | Path = "mobile_sam.pt") -> dict[str, Any]:
    """Return what the shards of a folder are made from. Before version 0.2, weights were named by their file's hash."""
    try:
        found = json.loads((Path(out) / NOTE).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"out must be a folder with the shards of a run, got {str(out)!r}.") from error
    if "cached" in found:
        return found
    if found["weights"] == sha256_of(resolve(weights)):
        found["weights"] = name_of_weights(weights)
    options = MaskOptions(found.get("clip", True), found.get("multimask_output")).changed()
    cached, precision = found.get("cache_dir") is not None, found.get("precision", "fp32")
    return {"weights": found["weights"], "precision": precision, "cached": cached, **options}


def identity_of(note: dict[str, Any], options: MaskOptions) -> str:
    """Return the name of what labels are made from, as a job on a dataset has it."""
    precision = "fp32" if note["precision"] == "fp32" else "bf16"
    return identity(note["weights"], precision, options, cached=note["cached"])


def shard_name(ids: list[str]) -> str:
    """Return the name of the shard of rows: it is made of what they ask for."""
    return f"{digest(ids)}.parquet"


def write_shard(shard: Path, rows: list[Row]) -> None:
    """Write a shard, which appears at once or not at all."""
    arrow = require("pyarrow", extra="ray")
    texts = [(name, arrow.string()) for name in ("id", "sample_id", "failure")]
    sizes = [(name, arrow.int64()) for name in ("height", "width")]
    lists = [(name, arrow.list_(arrow.string())) for name in ("label_ids", "records")]
    shard.parent.mkdir(parents=True, exist_ok=True)
    with replacing(shard) as unfinished:
        parquet().write_table(arrow.Table.from_pylist(rows, schema=arrow.schema([*texts, *sizes, *lists])), unfinished)


def row_of(row: Row, item: Item, outcome: Outcome) -> Row:
    """Return the row of a shard: `id`, `sample_id`, `label_ids` of the manifest's row, `height`, `width` of the image.

    `records` are JSON, one a label; `failure` is the reason why the image could not be used, or None.
    """
    height, width = outcome.original_hw or (None, None)
    failure = outcome.failures[0].reason if outcome.content is None else None
    texts = outcome.content or [json.dumps(record_of_failure(failure))] * len(item.prompts)
    kept = {key: row[key] for key in ("id", "sample_id", "label_ids")}
    return {**kept, "height": height, "width": width, "records": texts, "failure": failure}


def read_shards(out: str | Path) -> Iterator[Row]:
    """Yield the rows of the shards of a run, a file at a time, in any order. A row can be there twice."""
    for shard in _shards(out):
        yield from parquet().read_table(shard).to_pylist()


class Shards:
    """The rows of the shards of a run by their ids; memory holds two shards at a time."""

    def __init__(self, out: str | Path):
        self._places: dict[str, tuple[Path, int]] = {}
        for shard in _shards(out):
            table = parquet().read_table(shard, columns=["id", "failure"]).to_pylist()
            for number, row in enumerate(table):
                if row["failure"] is None or row["id"] not in self._places:
                    self._places[row["id"]] = shard, number
        self._read = lru_cache(2)(lambda shard: parquet().read_table(shard).to_pylist())

    def get(self, row_id: str) -> Row | None:
        """Return a row, or None."""
        if row_id not in self._places:
            return None
        shard, number = self._places[row_id]
        return self._read(shard)[number]


def _shards(out: str | Path) -> list[Path]:
    shards = sorted((Path(out) / SHARDS).glob("*.parquet"))
    if not shards:
        raise FileNotFoundError(f"out must be a folder with the shards of a run, got {str(out)!r} with none.")
    return shards
