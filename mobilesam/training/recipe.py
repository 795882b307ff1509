"""How is learnt: the settings of a training. Without torch, so that a form can say how long it takes."""

from dataclasses import dataclass

PROMPTS = ("given", "box", "point", "both")


@dataclass(frozen=True)
class Recipe:
    """How is learnt. The values were chosen on four kinds of images, see docs/training.md.

    Attributes:
        prompts: "given" for what each object was prompted with, "box", "point", or "both" in turns.
        passes: over all objects. Default: by their number.
        batch: objects a step.
        rate: of AdamW, reached after a tenth of the steps, and then falling to 0.
        pull: share of the way back to the old weights at each step.
        mean: how much of the mean of the weights is from before a step.
        replay: photographs a step, so that what the model knew stays known.
        mirror: learn from mirror images as well, which are encoded once more: less is learnt by heart.
        seed: of the order, the prompts and the split.
    """

    prompts: str = "given"
    passes: int | None = None
    batch: int = 8
    rate: float = 1e-4
    pull: float = 0.0
    mean: float = 0.98
    replay: int = 1
    mirror: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.prompts not in PROMPTS:
            raise ValueError(f"prompts must be one of {', '.join(PROMPTS)}, got {self.prompts!r}.")
        if self.passes is not None and self.passes < 1:
            raise ValueError(f"passes must be 1 at least, got {self.passes}.")

    def passes_over(self, masks: int) -> int:
        """Return how often to go over so many masks: often over few, five times at least over many."""
        return self.passes or min(max(800 // max(1, masks), 5), 12)
