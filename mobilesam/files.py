"""Files that appear whole or not at all, and where those lie that can be made again."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield a path to write to, in the folder of `path`; what was written there takes the place of `path` at the end.

    The name is nobody else's and ends in `.unfinished`, so several processes may write the same file: the last one
    stays. After an error, an interruption too, `path` is as it was. Only a killed process leaves its unfinished file.
    With `sync` it is on the disk before it appears, so that a power cut cannot leave an empty file.
    """
    path = Path(path)
    unfinished = path.with_name(f"{uuid.uuid4().hex}.unfinished")
    try:
        yield unfinished
        if sync:
            with open(unfinished, "rb+") as file:  # for writing, as Windows syncs no other
                os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def cache_folder() -> Path:
    """Return the folder for what can be made, or fetched, again: `mobilesam` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "mobilesam")
