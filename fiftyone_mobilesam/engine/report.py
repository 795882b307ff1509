"""The books of a run, whatever it labels: what was done, what failed and why, and how it ended."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from fiftyone_mobilesam.polygon_loss import PolygonLoss
from mobilesam.errors import reason_of

if TYPE_CHECKING:
    from fiftyone_mobilesam.engine.item import Outcome

logger = logging.getLogger("fiftyone.mobilesam")  # a child of FiftyOne's logger: it obeys the level chosen for that
RUNNING, FINISHED, STOPPED, INTERRUPTED, UNDONE = "running", "finished", "stopped", "interrupted", "undone"
SHOWN = 5
PROMPT_FAILURES_KEPT = 1000  # the labels have all of them


class RunStopped(BaseException):
    """A person ends a run, or with `on_error="raise"` the error in its argument; what was done before is kept.

    FiftyOne catches every `Exception` of a batch, so it is none.
    """


@dataclass(frozen=True)
class Failure:
    """One image or one prompt that got no mask.

    Attributes:
        sample_id: of the sample or frame; of a COCO file the image's id.
        prompt_id: of the prompt's label or annotation, or None if the whole image failed.
        filepath: of the image.
        reason: what was expected, what came, what to do.
    """

    sample_id: Any
    prompt_id: Any
    filepath: str
    reason: str

    def __str__(self) -> str:
        what = f"image {self.sample_id}" if self.prompt_id is None else f"prompt {self.prompt_id}"
        return f"{what} ({self.filepath}): {self.reason}"


@dataclass
class Report:
    """What a run did. Each image is in exactly one of `done`, `up_to_date` and `failed`, unless it was deleted.

    Attributes:
        name: of the run.
        into: the label field, file or folder that it fills.
        state: "running"; "finished", with or without failures; "stopped" by an error; "interrupted" by a person. A
            job that was killed stays "running".
        reason: why it stopped.
        total: number of images, frames counted one by one.
        done: images whose prompts were answered, each with a mask or a written reason.
        empty: of those, images without prompts, or in which nothing was found.
        up_to_date: images that had been done before.
        failed: images that could not be used. They are tried again at the next call.
        masks: masks made.
        implausible: those of them that can hardly be of the skeleton that was their prompt; the labels say why.
        failed_prompts: prompts that have a record with a reason in place of a mask.
        failures: of images all, of prompts the first 1,000.
        tracks: tracks that began.
        ended: where tracks were lost, or ended before their sequence: `(id of the sample or frame, index, reason)`.
        remarks: what is odd about the input and cost nothing, counted.
        polygons: what polygons lost, or None.
        seconds: that this call took.
        call: keywords, to resume.
    """

    name: str = "MobileSAM"
    into: str = ""
    state: str = RUNNING
    reason: str | None = None
    total: int = 0
    done: int = 0
    empty: int = 0
    up_to_date: int = 0
    failed: int = 0
    masks: int = 0
    implausible: int = 0
    failed_prompts: int = 0
    failures: list[Failure] = field(default_factory=list)
    tracks: int = 0
    ended: list[tuple[str, int, str]] = field(default_factory=list)
    remarks: dict[str, int] = field(default_factory=dict)
    polygons: PolygonLoss | None = None
    seconds: float = 0.0
    call: dict[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic, repr=False)

    @property
    def ok(self) -> bool:
        """Whether every prompt has its mask."""
        return self.state == FINISHED and not self.failed and not self.failed_prompts

    @property
    def prompts(self) -> int:
        """Prompts that have a mask or a reason."""
        return self.masks + self.failed_prompts

    @property
    def images_per_second(self) -> float:
        """Images worked on a second."""
        return (self.done + self.failed) / self.seconds if self.seconds else 0.0

    @property
    def masks_per_second(self) -> float:
        """Masks made a second."""
        return self.masks / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time left if no image that was not looked at yet is up to date; None before the first."""
        left = self.total - self.done - self.up_to_date - self.failed
        return max(0, left) / self.images_per_second if self.images_per_second else None

    def book(self, outcome: "Outcome", *, log: bool = True) -> None:
        """Count what became of an image, and tell of failures as they come."""
        if outcome.content is None:
            self.failed += 1
        elif outcome.unchanged:
            self.up_to_date += 1
            self.failed_prompts += len(outcome.failures)
        else:
            self.done += 1
            self.empty += outcome.empty
            self.masks += outcome.masks
            self.implausible += outcome.implausible
            self.failed_prompts += len(outcome.failures)
        self.tracks += outcome.tracks
        self.ended += outcome.ended
        self.add(outcome.failures, log=log)

    def add(self, failures: list[Failure], *, log: bool = True) -> None:
        """Write failures down; the counts are not changed."""
        for failure in failures:
            logger.log(logging.WARNING if log else logging.DEBUG, "failed: %s", failure)
            if failure.prompt_id is None or self.failed_prompts <= PROMPT_FAILURES_KEPT:
                self.failures.append(failure)

    def end(self, error: BaseException | None = None) -> None:
        """Write down how the run ended: by itself, by an error, or by a person, whose wish is no `Exception`."""
        stopped = isinstance(error, Exception)
        self.state = FINISHED if error is None else STOPPED if stopped else INTERRUPTED
        self.reason = reason_of(error) if stopped else None

    def tick(self) -> "Report":
        """Bring `seconds` up to now."""
        self.seconds = time.monotonic() - self.started
        return self

    def as_dict(self) -> dict[str, Any]:
        """Return everything, the rates too, as JSON can hold it."""
        rates = {name: getattr(self, name) for name in ("images_per_second", "masks_per_second", "seconds_left")}
        return {
            **{name: value for name, value in asdict(self).items() if name != "started"},
            **{name: None if rate is None else round(rate, 3) for name, rate in rates.items()},
            "prompts": self.prompts,
            "seconds": round(self.seconds, 3),
        }

    def counts(self) -> dict[str, Any]:
        """Return what is quickly read: all but the lists and the call."""
        return {k: v for k, v in self.as_dict().items() if k not in ("failures", "call")} | {"ended": len(self.ended)}

    def line(self) -> str:
        """Return how far the run is, in one line."""
        left = "" if self.seconds_left is None else f", {duration(self.seconds_left)} left"
        failed = f", {self.failed + self.failed_prompts:,} failed" if self.failed or self.failed_prompts else ""
        return (
            f"{self.done + self.up_to_date + self.failed:,} of {count(self.total, 'image')}, "
            f"{count(self.masks, 'mask')}{failed}; {self.images_per_second:.1f} images/s{left}"
        )

    def __str__(self) -> str:
        ended = "" if self.state == FINISHED else f" ({self.state}{': ' + self.reason if self.reason else ''})"
        images = self.done or (self.up_to_date if self.masks else 0)  # a COCO job counts the masks of the whole file
        parts = [f"{count(self.masks, 'mask')} in {count(images, 'image')}"]
        parts += [f"{count(self.empty, 'image')} without prompts"] if self.empty else []
        parts += [f"{count(self.up_to_date, 'image')} up to date"] if self.up_to_date else []
        parts.append(f"{count(self.failed_prompts, 'prompt')} without a mask")
        parts.append(f"{count(self.failed, 'image')} failed")
        lines = [f"{self.name}{ended}: {', '.join(parts)}, in {duration(self.seconds)}. {self.into}".rstrip()]
        gone = self.total - self.done - self.up_to_date - self.failed
        if self.state == FINISHED and gone > 0:
            lines.append(f"  {count(gone, 'image')} went away meanwhile.")
        lines += [f"  {count(number, *REMARKS[name])}." for name, number in self.remarks.items() if number]
        if self.implausible:
            lines.append(f"  {count(self.implausible, 'mask')} implausible for the skeleton that was the prompt.")
        lines += [f"  {self.polygons}"] if self.polygons is not None else []
        if self.tracks:
            lines.append(f"  {count(self.tracks, 'track')}, {len(self.ended)} lost on the way.")
        lines += [f"  track {index} was lost at {where}: {reason}" for where, index, reason in self.ended[:SHOWN]]
        lines += [f"  {failure}" for failure in self.failures[:SHOWN]]
        more = self.failed + self.failed_prompts - len(self.failures[:SHOWN])
        if self.failures and more > 0:
            lines.append(f"  ... and {more} more; `failures` of this report has them, of apply_model model.last_run")
        return "\n".join(lines)


REMARKS = {
    "unknown_categories": ("annotation names a category", "annotations name a category", " that the file lacks"),
    "duplicate_ids": ("annotation has", "annotations have", " the id of an earlier one"),
    "duplicate_image_ids": ("image has", "images have", " the id of an earlier one, which has the annotations"),
}


@contextmanager
def keeping_books(report: Report, save: Callable[[], None]) -> Iterator[None]:
    """Write down that a run begins, and how it ends, whatever ends it."""
    save()
    try:
        yield
        report.end()
    except BaseException as error:
        report.end(error)
        raise
    finally:
        try:
            save()
        except Exception as error:  # the disk is full, the database is away: perhaps why the run ends
            logger.warning("How the run ended could not be written down: %s", error)
        (logger.info if report.ok else logger.warning)("%s", str(report).splitlines()[0])


def count(number: int, noun: str, plural: str | None = None, rest: str = "") -> str:
    """Return a number with its noun, in the singular or plural."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}{rest}"


def duration(seconds: float) -> str:
    """Return a time as a person says it: 45 s, 12 min, 3 h 20 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
