"""In which order masks are best looked at: by the loss that is to be expected of each, told by what is known of all."""

import numpy as np

LEAST_DECISIONS = 25  # before the order learns from them,
LEAST_OF_A_KIND = 5  # so many of them accepted and so many rejected; and of a class that is told apart
FAULT = 0.02  # masks of one class whose expected IoUs are this near stand together


def expected_iou(columns: list[list[float | None]]) -> np.ndarray:
    """Return the expected IoU of N masks by predicted IoU, stability score and quality; infinity where unknown."""
    *signals, quality = np.array(columns, dtype=np.float64)
    there = ~np.isnan(signals)
    product = np.where(there.any(axis=0), np.where(there, np.clip(signals, None, 1), 1).prod(axis=0), np.inf)
    known = ~np.isnan(quality)
    both = known & np.isfinite(product)
    if not both.any():
        return np.where(known, quality, product)
    told = np.interp(product, np.sort(product[both]), np.sort(quality[both]))
    return np.where(known, quality, np.where(np.isfinite(product), told, np.inf))


def acceptable(expected: np.ndarray, classes: np.ndarray, accepted: np.ndarray) -> np.ndarray | None:
    """Return the probability that a person accepts each of N masks, learnt from the decisions until now.

    A logistic regression on the expected IoU and the classes that have decisions enough, each pulled to none.

    Args:
        expected: (N,) expected IoUs, infinity where unknown.
        classes: (N,) whole numbers.
        accepted: (N,) 1 accepted, 0 rejected, NaN undecided.

    Returns:
        (N,), infinity where the expected IoU is; None where there are too few decisions of either kind.
    """
    decided, known = ~np.isnan(accepted), np.isfinite(expected)
    some = decided & known
    right = int(accepted[some].sum())
    if some.sum() < LEAST_DECISIONS or min(right, some.sum() - right) < LEAST_OF_A_KIND:
        return None
    from sklearn.linear_model import LogisticRegression  # comes with FiftyOne; late, as it takes a second

    counted = np.bincount(classes[some], minlength=classes.max() + 1)
    named = np.flatnonzero(counted >= LEAST_OF_A_KIND)
    # Steps of 0.1 of IoU, so that the pull is about as strong on them as on a class.
    features = np.column_stack([10 * np.where(known, expected, 0), classes[:, None] == named])
    fitted = LogisticRegression(max_iter=1000).fit(features[some], accepted[some])
    return np.where(known, fitted.predict_proba(features)[:, 1], np.inf)


def error_removed(losses: np.ndarray) -> np.ndarray:
    """Return which share of the total expected loss the first 0, 1, ... N decisions look at, (N + 1,) from 0 to 1.

    `losses` (N,) are in the order of the decisions. In random order it would be a straight line.
    """
    summed = np.concatenate([[0.0], np.cumsum(losses)])
    return summed / summed[-1] if summed[-1] > 0 else np.linspace(0, 1, len(summed))
