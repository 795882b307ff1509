"""In which order masks are looked at, and what that is worth."""

import numpy as np
import pytest

from fiftyone_mobilesam.review.order import acceptable, error_removed

UNDECIDED = np.nan


def test_the_share_of_the_error_that_decisions_look_at():
    assert error_removed(np.array([0.6, 0.3, 0.1])).tolist() == pytest.approx([0, 0.6, 0.9, 1.0])
    assert error_removed(np.zeros(4)).tolist() == [0, 0.25, 0.5, 0.75, 1.0]
    assert error_removed(np.empty(0)).tolist() == [0.0]


def test_decisions_tell_which_class_is_wrong_though_it_is_expected_to_be_right():
    rng = np.random.default_rng(0)
    expected, classes = rng.uniform(0.4, 0.95, 400), np.arange(400) % 2
    truth = np.where(classes == 1, 0.0, 1.0)  # everything of class 1 is wrong, as the estimate cannot know
    accepted = np.where(np.arange(400) < 40, truth, UNDECIDED)
    told = acceptable(expected, classes, accepted)
    assert told[classes == 1].max() < told[classes == 0].min()


def test_where_decisions_agree_with_the_estimate_its_order_stays():
    expected, classes = np.linspace(0.3, 0.95, 200), np.zeros(200, int)
    accepted = np.where(np.arange(200) % 4 == 0, (expected > 0.6) * 1.0, UNDECIDED)
    told = acceptable(expected, classes, accepted)
    assert np.all(np.diff(told) > 0)


def test_too_few_decisions_of_a_kind_tell_nothing():
    expected, classes = np.linspace(0, 1, 50), np.zeros(50, int)
    few, one_kind = np.full(50, UNDECIDED), np.ones(50)
    few[:24] = np.arange(24) % 2
    assert acceptable(expected, classes, few) is None
    assert acceptable(expected, classes, one_kind) is None
    assert np.isinf(acceptable(np.r_[np.inf, expected[1:]], classes, np.arange(50) % 2 * 1.0)[0])
