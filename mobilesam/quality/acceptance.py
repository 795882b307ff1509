"""How many masks can be accepted unseen under a promise, from some that a person checked.

Masks are ordered by their quality. Larger and larger sets of the best are tested, each with an exact test, and the
first that fails ends it: so the choice of the set does not weaken the promise (fixed-sequence testing; Angelopoulos et
al., Learn then Test, 2021). A small set fails by chance, a large one because it is bad, so there are two places to
start, which share the risk; what the first did not lose until the second adds to that one's (the fallback procedure;
Wiens, 2003). Masks of one image tend to be wrong together. Where whole images were checked, counts are
divided by the design effect of that, as in surveys (Korn and Graubard, 1998).
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mobilesam.errors import NotEnoughTruthError
from mobilesam.packages import require

STEPS = 50  # sizes of sets that are tested
# Tests start at the sets with such a share of all checks, each with such a share of the risk, and `ENOUGH` times the
# checks that are enough if none is wrong. Of 200 checked photographs of 400, (0.7, 10%, 95%) accepts 20% of the others;
# from the first start alone 7%.
STARTS = ((0.0, 0.2), (0.2, 0.8))
ENOUGH = 1.5


@dataclass(frozen=True)
class Acceptance:
    """Which masks can be accepted, and what is promised of them.

    Attributes:
        min_quality: least quality of the accepted ones.
        accepted: how many unchecked masks are at or above it, and so are accepted.
        unchecked: how many were not checked at all.
        checked: how many were, and how many of these are at or above `min_quality` (`checked_above`).
        wrong_above: how many of the latter are wrong.
        design_effect: by what counts were divided since masks of one image are wrong together; 1 for masks that were
            drawn one by one.
        more_checks: about so many more checks, drawn at random, would accept `more_accepted` more; 0 if no set is near.
    """

    min_iou: float
    max_wrong: float
    confidence: float
    min_quality: float
    accepted: int
    unchecked: int
    checked: int
    checked_above: int
    wrong_above: int
    design_effect: float
    more_checks: int = 0
    more_accepted: int = 0

    def __str__(self) -> str:
        lines = [
            f"{self.accepted:,} of {self.unchecked:,} unchecked masks accepted: at most {self.max_wrong:.0%} of them "
            f"have an IoU below {self.min_iou}, {self.confidence:.0%} sure.",
            f"Why: {self.checked:,} were checked; of the {self.checked_above:,} with mask_quality "
            f"{self.min_quality:.3f} or more, {self.wrong_above:,} were wrong.",
        ]
        if self.more_checks:
            lines.append(f"About {self.more_checks:,} more checks would accept {self.more_accepted:,} more.")
        lines.append("This holds for data like the checked masks: new cameras, classes or prompts need new checks.")
        return "\n".join(lines)


def accept(
    quality: np.ndarray,
    true_iou: np.ndarray,
    images: Sequence[str],
    *,
    min_iou: float = 0.8,
    max_wrong: float = 0.05,
    confidence: float = 0.95,
    drawn: bool = False,
) -> Acceptance:
    """Find the largest set of unchecked masks that can be accepted.

    Args:
        quality: (N,) of each mask, higher is better.
        true_iou: (N,) with a person's mask; NaN where nobody checked.
        images: (N,) what names the image of each.
        min_iou: a mask with a lower IoU is wrong.
        max_wrong: the promise: at most this share of the accepted masks is wrong,
        confidence: with this probability.
        drawn: whether the checked masks were drawn one by one at random. Otherwise images were, with their masks.

    Raises:
        NotEnoughTruthError: too few masks were checked, or too many of the best are wrong.
        ValueError: a share that is none.
    """
    for name, value in (("min_iou", min_iou), ("max_wrong", max_wrong), ("confidence", confidence)):
        if not 0 < value < 1:
            raise ValueError(f"{name} must be between 0 and 1, got {value!r}.")
    order = np.argsort(-quality, kind="stable")
    quality, wrong = quality[order], np.where(np.isnan(true_iou), np.nan, true_iou < min_iou)[order]
    _, images = np.unique(np.asarray(images)[order], return_inverse=True)
    checked = ~np.isnan(wrong)
    correlation = 0.0 if drawn else correlation_in_images(wrong[checked], images[checked])
    test = _Test(wrong, checked, images, correlation, max_wrong, 1 - confidence)
    sizes = _sizes(quality)
    starts = test.starts(sizes)
    passed = test.last_passed(sizes, starts)
    if not passed:
        _refuse(int(checked.sum()), test, len(quality), [sizes[start] for start in starts], max_wrong, confidence)
    n, k, unchecked = test.counts(passed)
    more = test.more_checks([size for size in sizes if size > passed], unchecked)
    return Acceptance(
        min_iou, max_wrong, confidence, float(quality[passed - 1]), unchecked, int((~checked).sum()),
        int(checked.sum()), n, k, test.design_effect(passed), *more,
    )  # fmt: skip


class _Test:
    """The exact test of whether the unchecked ones of the best `size` masks keep the promise."""

    def __init__(
        self,
        wrong: np.ndarray,
        checked: np.ndarray,
        images: np.ndarray,
        correlation: float,
        max_wrong: float,
        risk: float,
    ):
        self.wrong, self.checked, self.images = wrong, checked, images
        self.correlation, self.max_wrong, self.risk = correlation, max_wrong, risk

    def counts(self, size: int) -> tuple[int, int, int]:
        """Return how many of a set are checked, how many of these are wrong, and how many are not checked."""
        checked = self.checked[:size]
        return int(checked.sum()), int(self.wrong[:size][checked].sum()), int((~checked).sum())

    def design_effect(self, size: int) -> float:
        """Return by how much less the checked masks of a set tell than if they were of an image each."""
        _, each = np.unique(self.images[:size][self.checked[:size]], return_counts=True)
        together = (each**2).sum() / each.sum() if len(each) else 1.0  # masks in the image of a mask
        return float(1 + (together - 1) * self.correlation)

    def p_value(self, checked: float, wrong: float, unchecked: float) -> float:
        """Return the probability to find so few wrong ones if the promise were just broken: hypergeometric."""
        n, k, rest = math.floor(checked), math.ceil(wrong), math.floor(unchecked)
        broken = k + math.floor(self.max_wrong * rest + 1e-9) + 1
        hypergeometric = require("scipy.stats", extra="fiftyone").hypergeom
        return float(hypergeometric.cdf(k, n + rest, min(broken, n + rest), n)) if rest and n > k else 1.0

    def starts(self, sizes: Sequence[int]) -> dict[int, float]:
        """Return at which of the sets tests start, and with which risk, by how many are checked, not by what was found.

        None where too few are.
        """
        told = np.array([self.counts(size)[0] / self.design_effect(size) for size in sizes])
        needed, starts = math.log(self.risk) / math.log(1 - self.max_wrong), defaultdict(float)
        for share, part in STARTS:
            enough = told >= max(ENOUGH * needed, share * told[-1])
            if enough.any():
                starts[int(np.argmax(enough))] += part * self.risk
        return starts or ({int(np.argmax(told >= needed)): self.risk} if (told >= needed).any() else {})

    def last_passed(self, sizes: Sequence[int], starts: dict[int, float]) -> int:
        """Test set after set from each start until one fails; return the size of the last that passed, 0 for none."""
        passed, risk = 0, 0.0
        for place, size in enumerate(sizes):
            risk += starts.get(place, 0.0)
            if risk and self.p_value(*(count / self.design_effect(size) for count in self.counts(size))) <= risk:
                passed = size
            else:
                risk = 0.0
        return passed

    def more_checks(self, sizes: Sequence[int], accepted: int) -> tuple[int, int]:
        """Return how many more checks would accept how many more, if as many of them are wrong as until now."""
        for size in reversed(sizes):
            n, k, rest = self.counts(size)
            rate, effect = (k + 0.5) / (n + 1), self.design_effect(size)
            for extra in (25, 50, 100, 200, 400, 800):
                share = extra * size // len(self.wrong)  # of the extra ones that fall into this set
                if (
                    share < rest
                    and self.p_value((n + share) / effect, (k + rate * share) / effect, (rest - share) / effect)
                    <= self.risk
                ):
                    return (extra, rest - share - accepted) if rest - share > accepted else (0, 0)
        return 0, 0


def correlation_in_images(wrong: np.ndarray, images: np.ndarray) -> float:
    """Return how alike masks of one image are in being wrong: the intraclass correlation, 0 to 1."""
    _, images, each = np.unique(images, return_inverse=True, return_counts=True)
    groups, total = len(each), len(wrong)
    if groups < 2 or total == groups:
        return 0.0
    means = np.bincount(images, wrong) / each
    between = (each * (means - wrong.mean()) ** 2).sum() / (groups - 1)
    within = ((wrong - means[images]) ** 2).sum() / (total - groups)
    typical = (total - (each**2).sum() / total) / (groups - 1)
    spread = between + (typical - 1) * within
    return float(np.clip((between - within) / spread, 0, 1)) if spread > 0 else 0.0


def _sizes(quality: np.ndarray) -> list[int]:
    """Return the sizes of sets to test, smallest first; equals are never parted. They depend on no answer."""
    ends = np.flatnonzero(np.diff(quality, append=-np.inf)) + 1
    wanted = np.linspace(0, len(quality), STEPS + 1)[1:]
    return sorted({int(ends[min(np.searchsorted(ends, size), len(ends) - 1)]) for size in wanted}) if len(ends) else []


def _refuse(checked: int, test: _Test, total: int, sizes: list[int], max_wrong: float, confidence: float) -> None:
    needed = math.ceil(math.log(1 - confidence) / math.log(1 - max_wrong))
    if not sizes:
        raise NotEnoughTruthError(
            f"The promise must rest on {needed} checked masks at least, drawn at random, got {checked} of {total:,}. "
            f'Draw more with fom.sample_to_check(dataset, "masks", {max(2 * needed - checked, 25)}) and check them.'
        )
    n, k, _ = test.counts(sizes[0])
    raise NotEnoughTruthError(
        f"Of the {n} checked masks with the highest quality at most {max_wrong:.0%} may be wrong with confidence "
        f"{confidence:.0%}, got {k} wrong. Nothing can be accepted: correct those, choose a lower min_iou or a higher "
        "max_wrong, or calibrate with fom.calibrate."
    )
