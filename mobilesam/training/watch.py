"""What is seen of a training while it goes on, and how it is stopped."""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Image = TypeVar("Image")


class Watch:
    """A bar over the images, then over the steps, or a caller's own; `stop` ends the learning as Ctrl-C does.

    Args:
        shown: whether to show a bar.
        on_progress: is called with a share from 0 to 1 and a text.
        stop: set by another thread.
    """

    def __init__(
        self,
        *,
        shown: bool = True,
        on_progress: Callable[[float, str], None] | None = None,
        stop: threading.Event | None = None,
    ):
        self.shown, self._on_progress, self._stop = shown, on_progress, stop
        self._bar, self._text = tqdm(disable=True), ""

    def encoding(self, images: Iterable[Image]) -> Iterator[Image]:
        """Pass images on to be encoded; a `KeyboardInterrupt` if it is to stop."""
        for number, image in enumerate(tqdm(images, "Encoding", unit="image", disable=not self.shown), start=1):
            self.check()
            if self._on_progress:
                self._on_progress(0.0, f"Encoding image {number} ...")
            yield image

    def begin(self, steps: int) -> None:
        """Begin with the steps."""
        self._bar = tqdm(total=steps, unit="step", disable=not self.shown)
        self._done, self._steps = 0, steps

    def say(self, text: str) -> None:
        """Say how it goes."""
        self._text = text
        self._bar.set_description(text)

    def step(self, count: int = 1) -> None:
        """Count steps; a `KeyboardInterrupt` if it is to stop."""
        self._bar.update(count)
        self._done += count
        if self._on_progress:
            self._on_progress(min(1.0, self._done / max(1, self._steps)), self._text)
        self.check()

    def check(self) -> None:
        """Raise a `KeyboardInterrupt` if it is to stop."""
        if self._stop is not None and self._stop.is_set():
            raise KeyboardInterrupt

    def end(self) -> None:
        """Close the bar."""
        self._bar.close()
