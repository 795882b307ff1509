"""`mask_quality` fitted again on masks of one's own: the bundled estimate, corrected by what is known to be true."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mobilesam.errors import NotEnoughTruthError
from mobilesam.packages import require
from mobilesam.quality.metrics import calibration

LEAST = 50  # masks
LEAST_OF_CLASS = 20  # for an offset of its own, and the weight of having none
STRENGTH = 10.0  # of the pull to the bundled estimate, in masks
FOLDS = 5


@dataclass
class Recalibration:
    """A correction of the estimate, and what it is worth on masks that it was not fitted on.

    Attributes:
        masks: how many it was fitted on.
        before, after: mean absolute error, Spearman correlation and expected calibration error of the estimate as it
            was and as it is now, by cross-validation over images.
        kept: whether it is better and so is used; otherwise nothing changes.
        classes: how much the estimate moves for each class with masks enough.
    """

    masks: int = 0
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    kept: bool = True
    classes: dict[str, float] = field(default_factory=dict)
    weights: np.ndarray = field(default_factory=lambda: np.zeros(4))
    bins: list[dict] = field(default_factory=list)

    def apply(self, estimate: np.ndarray, signals: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Correct estimates (N,), with signals (N, 2) and classes (N,), NaN signals being unknown."""
        offsets = np.array([self.classes.get(str(name), 0.0) for name in classes])
        return np.clip(estimate + _features(estimate, signals) @ self.weights + offsets, 0, 1)

    def __str__(self) -> str:
        rows = [
            f"{name}: {self.before[name]:.3f} -> {self.after[name]:.3f}"
            for name in ("mean absolute error", "spearman", "expected calibration error")
        ]
        end = (
            "The new estimate is written." if self.kept else "It is no better on unseen images, so nothing was changed."
        )
        return f"Fitted on {self.masks:,} masks that a person checked. On images left out: {', '.join(rows)}. {end}"

    def plot(self, path: str | Path) -> None:
        """Draw mean true IoU against the estimate, in bins of it, on images left out.

        Raises:
            MissingPackageError: matplotlib is not installed.
        """
        figure = require("matplotlib.figure").Figure(figsize=(5, 5), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color="gray", linestyle=":")
        sizes = [4 + 60 * b["count"] / self.masks for b in self.bins]
        axes.scatter([b["predicted"] for b in self.bins], [b["true"] for b in self.bins], s=sizes)
        axes.set(xlabel="mask_quality", ylabel="true IoU", xlim=(0, 1), ylim=(0, 1))
        figure.savefig(path, dpi=110)


def recalibrate(
    estimate: np.ndarray, signals: np.ndarray, true: np.ndarray, classes: np.ndarray, images: np.ndarray
) -> Recalibration:
    """Fit a correction: a ridge regression on estimate and signals, and an offset for each class with masks enough.

    Args:
        estimate: (N,) `mask_quality` as it was made.
        signals: (N, 2) predicted IoU and stability score, NaN where unknown.
        true: (N,) IoU with a person's mask.
        classes, images: (N,) names.

    Raises:
        NotEnoughTruthError: fewer than 50 masks.
    """
    if len(true) < LEAST:
        raise NotEnoughTruthError(
            f"Calibration must have at least {LEAST} masks that a person checked, got {len(true)}. "
            "Draw more with fom.sample_to_check and check them."
        )
    names, group = np.unique(images, return_inverse=True)
    fold = np.random.default_rng(0).permutation(len(names))[group] % FOLDS
    told = np.array(estimate, dtype=float)
    for number in range(FOLDS):
        out = fold == number
        if out.any() and not out.all():
            fitted = _fit(estimate[~out], signals[~out], true[~out], classes[~out])
            told[out] = fitted.apply(estimate[out], signals[out], classes[out])
    found = _fit(estimate, signals, true, classes)
    found.masks, found.before, found.after = len(true), _figures(estimate, true), _figures(told, true)
    found.kept = found.after["mean absolute error"] < found.before["mean absolute error"]
    found.bins = calibration(told, true)["bins"]
    return found


def _fit(estimate: np.ndarray, signals: np.ndarray, true: np.ndarray, classes: np.ndarray) -> Recalibration:
    features, error = _features(estimate, signals), true - estimate
    pull = STRENGTH * np.diag([0.0, 1, 1, 1]) * max(features[:, 1:].var(), 1e-6)
    weights = np.linalg.solve(features.T @ features + pull + 1e-9 * np.eye(4), features.T @ error)
    left = error - features @ weights
    offsets = {}
    for name in np.unique(classes):
        some = left[classes == name]
        if len(some) >= LEAST_OF_CLASS:
            offsets[str(name)] = float(some.sum() / (len(some) + LEAST_OF_CLASS))
    return Recalibration(classes=offsets, weights=weights)


def _features(estimate: np.ndarray, signals: np.ndarray) -> np.ndarray:
    """Return 1, the estimate and the signals, the latter 0 at their usual values or where they are unknown."""
    usual = np.nan_to_num(np.clip(signals, 0, 1) - 0.9)
    return np.column_stack([np.ones(len(estimate)), estimate - 0.7, usual])


def _figures(told: np.ndarray, true: np.ndarray) -> dict[str, float]:
    found = calibration(told, true)
    return {
        "mean absolute error": float(np.abs(told - true).mean()),
        "spearman": float("nan") if found["spearman"] is None else found["spearman"],
        "expected calibration error": found["expected_calibration_error"],
    }
