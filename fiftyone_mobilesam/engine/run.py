"""The one loop: items of a source are read ahead, labelled, and given to a sink, here or in other processes."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Protocol

from fiftyone_mobilesam.engine.item import Item, LoadedImage, Outcome, SequenceItem, Unit, failed
from fiftyone_mobilesam.engine.labeller import Labeller, load_predictor
from fiftyone_mobilesam.engine.reader import Reader
from fiftyone_mobilesam.options import MaskOptions
from mobilesam.errors import JobError, reason_of

READ_AHEAD = 2  # images that wait, decoded, for the network
SECONDS_BETWEEN_SAVES = 10.0


class Form(Protocol):
    """How an outcome is kept; it travels to the workers, so it holds plain data."""

    def outcome(self, item: Item, image: LoadedImage, labeller: Labeller) -> Outcome:
        """Label an item, and write the answers as the sink keeps them."""

    def outcomes(
        self, images: Iterable[tuple[Item, LoadedImage]], labeller: Labeller
    ) -> Iterator[tuple[Item, Outcome]]:
        """Do it for the images of a `SequenceItem`, each once; only the forms of sources that have some can."""


class Sink(Protocol):
    """Where outcomes go."""

    def put(self, item: Item, outcome: Outcome) -> None:
        """Take an outcome, and book it in the report when it is safe."""

    def flush(self) -> None:
        """Write what was kept back."""


@dataclass(frozen=True)
class Settings:
    """What every process of a run must know."""

    form: Form
    options: MaskOptions = field(default_factory=MaskOptions)
    weights: str = "mobile_sam.pt"  # file, or name of the bundled one
    precision: str = "fp32"  # or "bf16", resolved
    cache_dir: str | Path | None = None  # folder for image embeddings
    max_pixels: int | None = None  # images of more are refused; None for Pillow's own limit
    verify: bool = True  # test the model on a known image first


class Worker:
    """What one process does: read ahead, label, keep the form. The model is loaded here."""

    def __init__(self, settings: Settings, device: str | None = None):
        predictor, precision = load_predictor(
            settings.weights, device, settings.precision, settings.cache_dir, verify=settings.verify
        )
        if precision != settings.precision:
            raise JobError(
                f"precision must be one that {predictor.device} computes rightly, got {settings.precision!r}, which it "
                'does not know or in which the self-test fails. Use precision="fp32".'
            )
        self.labeller = Labeller(predictor, settings.options)
        self.form, self.reader, self.thread = settings.form, Reader(settings.max_pixels), ThreadPoolExecutor(1)

    def start(self, unit: Unit) -> tuple[Unit, Future | None]:
        """Begin to read an item's image; those of a sequence are read when it is its turn."""
        return unit, None if isinstance(unit, SequenceItem) else self.thread.submit(self.reader.read, unit)

    def finish(self, unit: Unit, image: Future | None) -> Iterator[tuple[Item, Outcome]]:
        """Yield each image of a unit with its outcome. Never raises for what is wrong with an image."""
        left = {item.key: item for item in unit.images}
        try:
            for item, outcome in self._outcomes(unit, image):
                if left.pop(item.key, None):
                    yield item, outcome
        except Exception as error:
            yield from ((item, failed(item, reason_of(error))) for item in left.values())

    def _outcomes(self, unit: Unit, image: Future | None) -> Iterator[tuple[Item, Outcome]]:
        if image is not None:
            yield unit, self.form.outcome(unit, image.result(), self.labeller)
        else:
            read = ((item, loaded.result()) for item, loaded in self._ahead(unit.all_images))
            yield from self.form.outcomes(read, self.labeller)

    def outcomes(self, units: Iterable[Unit]) -> Iterator[tuple[Item, Outcome]]:
        """Yield each image with its outcome, in the order of the units."""
        for unit, image in self._ahead(units):
            yield from self.finish(unit, image)

    def _ahead(self, units: Iterable[Unit]) -> Iterator[tuple[Unit, Future | None]]:
        waiting: deque[tuple[Unit, Future | None]] = deque()
        for unit in units:
            waiting.append(self.start(unit))
            if len(waiting) > READ_AHEAD:
                yield waiting.popleft()
        yield from waiting


def run(
    units: Iterator[Unit], sink: Sink, settings: Settings, devices: Sequence[str | None], save: Callable[[], None]
) -> None:
    """Label units until there are none left, in one process a device; a single one is this process.

    Now and then `save` writes the books.
    """
    if len(devices) == 1:
        outcomes = _here(units, settings, devices[0])
    else:
        from fiftyone_mobilesam.engine.pool import pooled

        outcomes = pooled(units, settings, devices)
    saved = time.monotonic()
    with closing(outcomes):
        try:
            for item, outcome in outcomes:
                sink.put(item, outcome)
                if time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                    saved = time.monotonic()
                    save()
        finally:  # also after an error or Ctrl-C: what is made is worth keeping
            sink.flush()


def _here(units: Iterator[Unit], settings: Settings, device: str | None) -> Generator[tuple[Item, Outcome]]:
    """Label units in this process. The model is loaded at the first one: mostly there is none left to do."""
    for first in units:
        yield from Worker(settings, device).outcomes(chain([first], units))


def processes(device: str | Sequence[str] | None, workers: int) -> list[str | None]:
    """Return the device of each process: `workers` on each device."""
    devices = [device] if device is None or isinstance(device, str) else list(device)
    return devices * workers
