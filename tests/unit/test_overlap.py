"""Masks of one image that share no pixel."""

import numpy as np
import pytest

from mobilesam import MaskCrop
from mobilesam.geometry.overlap import claim_of, exclusive


def crop(region, logits, quality=0.8):
    logits = np.array(logits, dtype=np.float32)
    return MaskCrop(region, logits > 0, 0.9, 0.9, mask_quality=quality, logits=logits)


def test_a_mask_spreads_its_quality_over_its_pixels_by_their_logits():
    claim = claim_of(crop((0, 0, 3, 1), [[1, 3, -2]], quality=0.6))
    assert claim[0, :2].tolist() == pytest.approx([0.15, 0.45])
    assert claim[0, 2] < 0  # a hole that was filled, say
    unknown = claim_of(crop((0, 0, 2, 1), [[1, 1]], quality=None))
    assert unknown.sum() == pytest.approx(0.9)  # the predicted IoU


def test_a_shared_pixel_goes_to_one_mask_and_what_the_other_lost_is_counted():
    left = crop((0, 0, 3, 1), [[5, 5, 1]])
    right = crop((2, 0, 5, 1), [[2, 7, 7]])
    a, b = exclusive([left, right], (2, 5))
    assert a.region == (0, 0, 2, 1)
    assert a.mask.all()
    assert a.pixels_moved == 1
    assert a.logits is None
    assert b.region == (2, 0, 5, 1)
    assert b.mask.all()
    assert b.pixels_moved == 0
    assert not (a.full((2, 5)) & b.full((2, 5))).any()


def test_a_small_mask_inside_a_large_one_keeps_its_pixels_though_its_logits_are_lower():
    around, inside = crop((0, 0, 5, 5), np.full((5, 5), 9)), crop((1, 1, 2, 2), [[1]])
    for crops in ([around, inside], [inside, around]):
        areas = sorted(found.area for found in exclusive(crops, (5, 5)))
        assert areas == [1, 24]


def test_the_better_of_two_masks_that_are_alike_gets_what_both_claim():
    good, bad = (crop((0, 0, 2, 1), [[1, 1]], quality) for quality in (0.9, 0.3))
    assert [found.area for found in exclusive([bad, good], (1, 2))] == [0, 2]


def test_a_quality_stays_with_half_of_its_mask_and_no_less():
    strong = crop((2, 0, 4, 1), [[9, 9]], 0.9)
    half, less = crop((0, 0, 4, 1), [[1] * 4], 0.5), crop((1, 0, 4, 1), [[1] * 3], 0.5)
    assert [found.mask_quality for found in exclusive([strong, half], (1, 4))] == [0.9, 0.5]
    assert [found.mask_quality for found in exclusive([strong, less], (1, 4))] == [0.9, None]


def test_exclusive_gives_equal_pixels_to_the_first_and_leaves_an_empty_mask_empty():
    one, two = (crop((0, 0, 2, 1), [[1, 1]]) for _ in range(2))
    empty = MaskCrop((0, 0, 0, 0), np.zeros((0, 0), bool), 0.1, 0.0, logits=np.zeros((0, 0), np.float32))
    a, b, c = exclusive([one, two, empty], (1, 2))
    assert a.area == 2
    assert a.pixels_moved == 0
    assert b.area == 0
    assert b.region == (0, 0, 0, 0)
    assert b.pixels_moved == 2
    assert c.area == 0
    assert c.pixels_moved == 0
