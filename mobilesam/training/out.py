"""The checkpoint that a training writes: whether it can be, before anything is learnt, and whole or not at all."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import mobilesam.weights as weight_files
from mobilesam.errors import CheckpointError
from mobilesam.files import replacing
from mobilesam.modeling import Sam
from mobilesam.training.card import describe
from mobilesam.training.unfinished import Unfinished

ROOM = 48 << 20  # bytes that a checkpoint and its card take, and some


def checked_out(out: str | Path, overwrite: bool) -> Path:
    """Return where to write, once it is sure that it can be; nothing is made there.

    Raises:
        CheckpointError: `out` or its card is there, or it has another suffix.
        OSError: it cannot be written, or 48 MB are not free there.
    """
    out = Path(out).expanduser()
    if out.suffix not in weight_files.SUFFIXES:
        raise CheckpointError(f"out must end in {', '.join(weight_files.SUFFIXES)}, got {str(out)!r}. Name it so.")
    for path in (out, out.with_suffix(".md")):
        if path.is_dir():
            raise CheckpointError(f"out must be a file, got {str(path)!r}, which is a folder. Name another.")
        if path.exists() and not overwrite:
            raise CheckpointError(
                f"out must be a new file, got {str(path)!r}, which is there. Name another, or pass overwrite=True."
            )
    folder = next(folder for folder in out.absolute().parents if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            f"out must be in a folder that can be written to, got {str(out)!r} ({error.strerror}). Name another."
        ) from error
    if (free := shutil.disk_usage(folder).free) < ROOM:
        raise OSError(f"out must be where {ROOM >> 20} MB are free, got {free >> 20} MB in {folder}. Make room.")
    return out


def write(new: Sam, out: Path, card: dict[str, Any], unfinished: Unfinished) -> None:
    """Write the checkpoint and its card; on a full disk, in the place of what the training itself keeps there."""
    unfinished.folder.mkdir(parents=True, exist_ok=True)
    made = unfinished.folder / out.name  # there a kill leaves nothing that the next call does not take away
    try:
        weight_files.save_checkpoint(new.state_dict(), made, card)
    except OSError:
        unfinished.remove_embeddings()
        weight_files.save_checkpoint(new.state_dict(), made, card)
    os.replace(made, out)
    with replacing(out.with_suffix(".md")) as path:
        path.write_text(describe(card, out) + "\n", encoding="utf-8")
