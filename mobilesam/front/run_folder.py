"""The files that a call of `predict` writes, and their folder."""

from functools import cached_property
from pathlib import Path

from mobilesam.front.options import PredictOptions
from mobilesam.front.results import Results
from mobilesam.front.video_file import VideoFile
from mobilesam.images import frames_per_second


class RunFolder:
    """Writes and shows results as the options ask. The folder is made with the first file, and is nobody else's."""

    def __init__(self, options: PredictOptions):
        self.options = options
        self._names: set[str] = set()  # of the images and videos so far
        self._frame: tuple[str, int] | None = None  # of the video that is going on
        self._name, self._video = "", None

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
            self._begin(result)
            self._write(result, self._name if result.frame is None else f"{self._name}_{result.frame[1]}")
        if self.options.show:
            result.show(**self.options.plot)

    def close(self) -> None:
        """Finish the video that is going on."""
        if self._video is not None:
            self._video.close()
        self._video = None

    def _begin(self, result: Results) -> None:
        """Find the name of a result's files: a video keeps one for its frames."""
        now, before, self._frame = result.frame, self._frame, result.frame
        if now is not None and before is not None and now[0] == before[0] and now[1] > before[1]:
            return
        self.close()
        self._name = self._free(result.stem if now is None else Path(now[0]).stem)
        if now is not None and self.options.save:
            fps = max(1.0, frames_per_second(now[0]) / self.options.vid_stride)  # no shorter for the frames left out
            self._video = VideoFile(self.path / self._name, fps)

    def _write(self, result: Results, stem: str) -> None:
        if self.options.save_txt:
            labels = self.path / "labels" / f"{stem}.txt"
            labels.parent.mkdir(exist_ok=True)
            labels.unlink(missing_ok=True)  # of an earlier run
            result.save_txt(labels, save_conf=self.options.save_conf)
        if self.options.save_crop:
            result.save_crop(self.path / "crops", f"{stem}.jpg")
        if self._video is not None:
            self._video.write(result.plot(**self.options.plot))
        elif self.options.save:
            result.save(self.path / f"{stem}.jpg", **self.options.plot)
        if self._video is not None and self.options.save_frames:
            folder = self.path / f"{self._name}_frames"
            folder.mkdir(exist_ok=True)
            result.save(folder / f"{stem}.jpg", **self.options.plot)

    def _free(self, stem: str) -> str:
        """Return a name that no other image or video of the run has: `photo`, `photo-2`."""
        name, number = stem, 1
        while name in self._names:
            number += 1
            name = f"{stem}-{number}"
        self._names.add(name)
        return name
