"""The books of a job: what a person reads while it runs, and its report."""

import time
from dataclasses import dataclass, field, fields
from typing import Any

from fiftyone_mobilesam.report import SHOWN, Failure


@dataclass
class JobReport:
    """What a call of a job did, and what is left.

    Attributes:
        job: its name.
        dataset: name of the dataset.
        label_field: where the masks are.
        total: samples, or frames, that the job is about.
        state: "running"; "finished", with or without failures; "stopped" by an error or "interrupted".
        reason: why it stopped.
        done: samples that got their labels in this call.
        up_to_date: samples that had them.
        failed: samples that got none, with reasons. They are tried again at the next call.
        failed_prompts: prompts of all samples that have a record with a reason in place of a mask.
        masks: masks made in this call.
        tracks: tracks that began in this call.
        ended: tracks that ended before their sequence: `(id of the sample or frame, index, reason)`.
        seconds: that this call took.
    """

    job: str
    dataset: str
    label_field: str
    total: int = 0
    state: str = "running"
    reason: str | None = None
    done: int = 0
    up_to_date: int = 0
    failed: list[Failure] = field(default_factory=list)
    failed_prompts: int = 0
    masks: int = 0
    tracks: int = 0
    ended: list[tuple[str, int, str]] = field(default_factory=list)
    seconds: float = 0.0
    started: float = field(default_factory=time.monotonic, repr=False)

    @property
    def ok(self) -> bool:
        """Whether every prompt has its mask."""
        return self.state == "finished" and not self.failed and not self.failed_prompts

    @property
    def images_per_second(self) -> float:
        """Samples worked on a second."""
        return (self.done + len(self.failed)) / self.seconds if self.seconds else 0.0

    @property
    def masks_per_second(self) -> float:
        """Masks made a second."""
        return self.masks / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time left if no sample that was not looked at yet is up to date; None before the first."""
        left = self.total - self.done - self.up_to_date - len(self.failed)
        return left / self.images_per_second if self.images_per_second else None

    def tick(self) -> None:
        """Bring `seconds` up to now."""
        self.seconds = time.monotonic() - self.started

    def as_dict(self) -> dict[str, Any]:
        """Return everything, the rates too, as JSON can hold it."""
        names = [item.name for item in fields(self) if item.name not in ("started", "failed")]
        rates = ("images_per_second", "masks_per_second", "seconds_left")
        return {
            **{name: getattr(self, name) for name in names},
            **{name: None if (rate := getattr(self, name)) is None else round(rate, 3) for name in rates},
            "seconds": round(self.seconds, 3),
            "failed": [vars(failure) for failure in self.failed],
        }

    def line(self) -> str:
        """Return the state in one line."""
        left = "" if self.seconds_left is None else f", {duration(self.seconds_left)} left"
        return (
            f"{self.job}: {self.done} done, {self.up_to_date} up to date, {len(self.failed)} failed of {self.total}; "
            f"{self.images_per_second:.2f} images/s, {self.masks_per_second:.2f} masks/s{left}"
        )

    def __str__(self) -> str:
        lines = [
            f"{self.job}: {self.state} after {duration(self.seconds)}. {self.masks} masks in {self.done} samples, "
            f"{self.up_to_date} samples were up to date, {len(self.failed)} of {self.total} failed, "
            f"{self.failed_prompts} prompts without a mask."
        ]
        lines += [self.reason] if self.reason else []
        gone = self.total - self.done - self.up_to_date - len(self.failed)
        if self.state == "finished" and gone:
            lines.append(f"{gone} samples were deleted meanwhile.")
        if self.tracks:
            lines.append(f"{self.tracks} tracks, of which {len(self.ended)} ended early.")
        lines += [f"  track {index} ended at {where}: {reason}" for where, index, reason in self.ended[:SHOWN]]
        lines += [f"  {failure}" for failure in self.failed[:SHOWN]]
        if len(self.failed) > SHOWN:
            lines.append(f"  ... and {len(self.failed) - SHOWN} more")
        return "\n".join(lines)


def duration(seconds: float) -> str:
    """Return a time as a person says it: 45 s, 12 min, 3 h 20 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
