"""The files that a call of `predict` writes, and their folder."""

from functools import cached_property
from pathlib import Path

from mobilesam.front.options import PredictOptions
from mobilesam.front.results import Results


class RunFolder:
    """Writes and shows results as the options ask. The folder is made with the first file, and is nobody else's."""

    def __init__(self, options: PredictOptions):
        self.options = options
        self._stems: set[str] = set()  # of the images so far

    @property
    def wanted(self) -> bool:
        """Whether anything is to be written."""
        return self.options.save or self.options.save_txt or self.options.save_crop

    @cached_property
    def path(self) -> Path:
        """The folder, which is made here."""
        name = self.options.name or "predict"
        first = Path(self.options.project or "runs/segment") / name
        path, number = first, 1
        while True:
            try:
                path.mkdir(parents=True, exist_ok=self.options.exist_ok)
                return path
            except FileExistsError:
                number += 1
                path = first.with_name(f"{first.name}-{number}")

    def write(self, result: Results) -> None:
        """Write and show one result, and tell it the folder."""
        if self.wanted:
            result.save_dir = str(self.path)
            self._write(result, self._stem(result))
        if self.options.show:
            result.show(**self.options.plot)

    def _write(self, result: Results, stem: str) -> None:
        if self.options.save_txt:
            labels = self.path / "labels" / f"{stem}.txt"
            labels.parent.mkdir(exist_ok=True)
            labels.unlink(missing_ok=True)  # of an earlier run
            result.save_txt(labels, save_conf=self.options.save_conf)
        if self.options.save_crop:
            result.save_crop(self.path / "crops", f"{stem}.jpg")
        if self.options.save:
            result.save(self.path / f"{stem}.jpg", **self.options.plot)

    def _stem(self, result: Results) -> str:
        """Return a name that no other image of the run has: `photo`, `photo-2`."""
        stem, number = result.stem, 1
        while stem in self._stems:
            number += 1
            stem = f"{result.stem}-{number}"
        self._stems.add(stem)
        return stem
