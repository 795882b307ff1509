"""What happened in a run: done, empty, failed, with ids and reasons."""

from dataclasses import dataclass, field

SHOWN = 5
NO_MASK = "The model found no pixel of an object for this prompt. Move or enlarge the box, or add a point."


class RunStopped(Exception):  # noqa: N818
    """The user stopped the run; what was done before is kept."""


@dataclass(frozen=True)
class Failure:
    """One sample or one prompt that got no mask.

    Attributes:
        sample_id: id of the sample or frame.
        prompt_id: id of the label, or None if the whole sample failed.
        filepath: of the image.
        reason: what was expected, what came, what to do.
    """

    sample_id: str
    prompt_id: str | None
    filepath: str
    reason: str

    def __str__(self) -> str:
        what = f"sample {self.sample_id}" if self.prompt_id is None else f"prompt {self.prompt_id}"
        return f"{what} ({self.filepath}): {self.reason}"


@dataclass
class RunReport:
    """The books of one run. Every sample is in exactly one of `done`, `empty` and `failed_samples`.

    Attributes:
        done: ids of samples whose prompts were answered, each with a mask or a written reason.
        empty: ids of samples without prompts, or in which nothing was found, which got empty labels.
        failed: samples that could not be processed, and prompts without a mask.
        masks: number of masks made.
    """

    done: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    masks: int = 0

    @property
    def failed_samples(self) -> list[Failure]:
        """Samples that got nothing: the image could not be read, or the model failed on it."""
        return [failure for failure in self.failed if failure.prompt_id is None]

    @property
    def failed_prompts(self) -> list[Failure]:
        """Prompts that kept their record and box and got no mask."""
        return [failure for failure in self.failed if failure.prompt_id is not None]

    def __str__(self) -> str:
        lines = [
            f"MobileSAM: {self.masks} masks in {len(self.done)} samples, {len(self.empty)} samples without prompts, "
            f"{len(self.failed_prompts)} prompts without a mask, {len(self.failed_samples)} samples failed."
        ]
        lines += [f"  {failure}" for failure in self.failed[:SHOWN]]
        if len(self.failed) > SHOWN:
            more = len(self.failed) - SHOWN
            lines.append(f"  ... and {more} more in `failed` of this report, of apply_model in model.last_run")
        return "\n".join(lines)
