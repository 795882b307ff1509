"""Masks of one image that share no pixel."""

import numpy as np

from mobilesam import MaskCrop
from mobilesam.geometry.overlap import exclusive


def crop(region, logits):
    logits = np.array(logits, dtype=np.float32)
    return MaskCrop(region, logits > 0, 0.9, 0.9, logits=logits)


def test_exclusive_gives_a_pixel_to_the_highest_logit_and_counts_what_was_lost():
    left = crop((0, 0, 3, 1), [[5, 5, 1]])
    right = crop((2, 0, 5, 1), [[2, 7, 7]])
    a, b = exclusive([left, right], (2, 5))
    assert a.region == (0, 0, 2, 1)
    assert a.mask.all()
    assert a.pixels_moved == 1
    assert b.region == (2, 0, 5, 1)
    assert b.mask.all()
    assert b.pixels_moved == 0
    assert not (a.full((2, 5)) & b.full((2, 5))).any()


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
