"""`mask_quality` for trained weights: from the heads of the weights they began with, corrected on images left out."""

import numpy as np

from mobilesam.heads.files import lender_of, weights_of_tokens
from mobilesam.heads.inherited import Inheritance, Lent
from mobilesam.modeling import Sam
from mobilesam.quality.metrics import calibration
from mobilesam.training.check import Checked

LEAST_TOLD = 20  # masks of images left out
LEAST_SPEARMAN = 0.3
STRENGTH = 10.0  # of the pull to what the heads say, in masks


def lend_heads(sam: Sam, new: Sam, *, offset: float = 0.0, slope: float = 1.0) -> Sam:
    """Let trained weights have the quality heads of those they began with, if these have any; gives `new` back."""
    lender = lender_of(sam)
    note = {"weights": weights_of_tokens(new), "offset": offset, "slope": slope}
    new.inherits = None if lender is None else {"fitted_for": lender, **note}
    return new


def inheritance(new: Sam, told: Checked) -> Inheritance | Lent | None:
    """Return what the card says of `mask_quality`; no line if what the heads tell of these masks is not worth keeping.

    Then it says only whose heads they are, for weights that are trained from these; None if there are no heads.

    Args:
        new: the weights that are kept; it has the heads of those it began with.
        told: masks of images left out, with what the heads say as they are.
    """
    known = ~np.isnan(told.quality)
    quality, true = told.quality[known], told.iou[known]
    if new.inherits is None:
        return None
    lent = Lent(fitted_for=new.inherits["fitted_for"], weights=new.inherits["weights"])
    if len(true) < LEAST_TOLD:
        return lent
    offset, slope = line(quality, true)
    found = calibration(np.clip(offset + slope * quality, 0, 1), true)
    if found["spearman"] is None or found["spearman"] < LEAST_SPEARMAN:
        return lent
    figures = {name: found[name] for name in ("spearman", "expected_calibration_error")}
    return {**lent, "offset": offset, "slope": slope, "masks": len(true), **figures}


def line(quality: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Fit a line, pulled to the one that changes nothing as if that had been seen in `STRENGTH` masks."""
    x, y = quality - quality.mean(), true - true.mean()
    pull = STRENGTH * max(x.var(), 1e-4)
    slope = max(0.0, float((x @ y + pull) / (x @ x + pull)))
    shift = (true.mean() - quality.mean()) * len(true) / (len(true) + STRENGTH)
    return float(quality.mean() + shift - slope * quality.mean()), slope
