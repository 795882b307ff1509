"""Acceptance under a promise, on the quality and true IoU of 4,130 masks of photographs."""

import csv
from pathlib import Path

import numpy as np
import pytest

from mobilesam import NotEnoughTruthError
from mobilesam.quality.acceptance import accept, correlation_in_images

TABLE = Path(__file__).parents[1] / "data" / "quality.csv"
SPLITS = 1000


@pytest.fixture(scope="module")
def masks():
    with open(TABLE, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = (np.array([float(row[name]) for row in rows]) for name in ("mask_quality", "iou"))
    return *columns, np.array([row["image"] for row in rows])


def broken(masks, checks, *, by_image, min_iou, max_wrong, confidence, splits=SPLITS):
    """Return how often a promise is broken, and the mean share of the unchecked masks that is accepted."""
    quality, iou, images = masks
    rng, lies, shares = np.random.default_rng(0), 0, []
    for _ in range(splits):
        if by_image:
            checked = np.isin(images, rng.choice(np.unique(images), checks, replace=False))
        else:
            checked = np.zeros(len(iou), dtype=bool)
            checked[rng.choice(len(iou), checks, replace=False)] = True
        promise = {"min_iou": min_iou, "max_wrong": max_wrong, "confidence": confidence}
        try:
            found = accept(quality, np.where(checked, iou, np.nan), images, **promise, drawn=not by_image)
        except NotEnoughTruthError:
            shares.append(0.0)
            continue
        chosen = ~checked & (quality >= found.min_quality)
        assert found.accepted == chosen.sum()
        lies += (iou[chosen] < min_iou).mean() > max_wrong
        shares.append(chosen.sum() / (~checked).sum())
    return lies / splits, float(np.mean(shares))


@pytest.mark.parametrize(
    ("checks", "by_image", "min_iou", "max_wrong", "confidence"),
    [
        (400, False, 0.7, 0.10, 0.95),
        (200, True, 0.7, 0.10, 0.95),
        (200, True, 0.8, 0.05, 0.90),
    ],
)
def test_a_promise_is_broken_no_more_often_than_it_says(masks, checks, by_image, min_iou, max_wrong, confidence):
    lies, share = broken(masks, checks, by_image=by_image, min_iou=min_iou, max_wrong=max_wrong, confidence=confidence)
    # Of 1,000 splits; by chance alone a promise kept exactly would be broken up to two standard errors more often.
    risk = 1 - confidence
    assert lies <= risk + 2 * np.sqrt(risk * confidence / SPLITS), share


def test_too_few_checks_are_refused_with_the_number_that_is_needed(masks):
    quality, iou, images = masks
    true = np.full(len(iou), np.nan)
    true[:20] = iou[:20]
    with pytest.raises(NotEnoughTruthError, match="59 checked masks at least, drawn at random, got 20"):
        accept(quality, true, images, drawn=True)


def test_nothing_is_accepted_where_the_best_are_wrong(masks):
    quality, iou, images = masks
    with pytest.raises(NotEnoughTruthError, match="Nothing can be accepted"):
        accept(quality, np.where(np.arange(len(iou)) % 2, 0.1, np.nan), images, drawn=True)


def test_masks_that_are_all_right_are_all_accepted():
    quality, images = np.linspace(0, 1, 1000), np.arange(1000)
    true = np.where(np.arange(1000) % 4 == 0, 0.95, np.nan)
    found = accept(quality, true, images, drawn=True)
    assert found.accepted == 750
    assert found.wrong_above == 0
    assert found.design_effect == 1
    assert "750 of 750 unchecked masks accepted: at most 5% of them have an IoU below 0.8, 95% sure." in str(found)


def test_correlation_in_images_is_1_where_masks_of_an_image_are_equal_and_0_where_they_are_independent():
    images = np.repeat(np.arange(200), 5)
    rng = np.random.default_rng(0)
    assert correlation_in_images(np.repeat(rng.random(200) < 0.3, 5).astype(float), images) == 1
    assert correlation_in_images((rng.random(1000) < 0.3).astype(float), images) < 0.05
