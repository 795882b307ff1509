"""What a training that was killed goes on from: a folder beside the checkpoint that it will write."""

import json
import logging
import shutil
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mobilesam.files import replacing
from mobilesam.training.fit import Fit
from mobilesam.training.recipe import Recipe

logger = logging.getLogger(__name__)


class Best(NamedTuple):
    """The weights with the best mean IoU on the part left out, after so many passes; None before the first."""

    iou: float
    weights: dict[str, Tensor] | None
    passes: int


class Unfinished:
    """The folder `<out>.unfinished`: embeddings, and for each part the state after its latest pass.

    It is used only for the same data, recipe and weights. A full disk costs a warning, and the chance to go on.
    """

    def __init__(self, out: Path):
        self.folder = out.with_name(out.name + ".unfinished")
        self._warned = False
        self._made = [folder for folder in self.folder.absolute().parents if not folder.exists()]

    def open(self, data: str, recipe: Recipe, weights: str) -> None:
        """Forget the states of another training."""
        made_from = json.dumps({"data": data, "recipe": vars(recipe), "weights": weights, "torch": torch.__version__})
        note = self.folder / "made_from.json"
        try:
            if note.is_file() and note.read_text() == made_from:
                return
            for path in self.folder.glob("part*.pt"):
                path.unlink()
            self.folder.mkdir(parents=True, exist_ok=True)
            note.write_text(made_from)
        except OSError as error:
            self._warn(error)

    def save(self, part: int, fit: Fit, best: Best) -> None:
        """Keep the state of a part."""
        try:
            with replacing(self.folder / f"part{part}.pt", sync=False) as unfinished, open(unfinished, "wb") as file:
                torch.save({"fit": fit.state(), "best": tuple(best)}, file)
        except (OSError, RuntimeError) as error:  # torch says RuntimeError of a full disk
            self._warn(error)

    def load(self, part: int, fit: Fit) -> Best | None:
        """Put a part where it was, and return its `best`; None if it has not begun or the file is damaged."""
        path = self.folder / f"part{part}.pt"
        if not path.is_file():
            return None
        try:
            state = torch.load(path, map_location=fit.predictor.device, weights_only=True)
            fit.load_state(state["fit"])
        except Exception as error:  # torch raises a dozen kinds for a file that a power cut left
            self._warn(error)
            return None
        return Best(*state["best"])

    def remove_embeddings(self) -> None:
        """Take away what is quickly made again."""
        shutil.rmtree(self.folder / "embeddings", ignore_errors=True)

    def remove(self) -> None:
        """Take the folder away, and those around it that were made for it and are empty."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # there is something in it
            for folder in self._made:
                folder.rmdir()

    def _warn(self, error: BaseException) -> None:
        if not self._warned:
            logger.warning("%s cannot be used (%s). After a kill, training begins anew.", self.folder, error)
        self._warned = True
