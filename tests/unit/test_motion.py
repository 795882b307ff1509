"""Masks that motion carries along: the picture is moved by a known way, and so must they be."""

import cv2
import numpy as np
import pytest

from mobilesam.geometry import ImageEmbedding
from mobilesam.geometry.frames import ResizeLongestSide
from mobilesam.motion import Motion


def picture(hw, shift):
    """Return a part of one large random pattern, which lies `shift` (x, y) pixels further right and down."""
    noise = np.random.default_rng(0).integers(0, 255, (90, 110, 3), np.uint8)
    pattern = cv2.resize(noise, (1100, 900), interpolation=cv2.INTER_CUBIC)
    x, y = 200 - shift[0], 200 - shift[1]
    return np.ascontiguousarray(pattern[y : y + hw[0], x : x + hw[1]])


def embedded(image):
    return ImageEmbedding(None, image.shape[:2], ResizeLongestSide().input_hw(image.shape[:2]), image)


def disc(hw, centre):
    """Return logits of a disc around a place of the image, 40 pixels wide."""
    y, x = (np.mgrid[:256, :256] + 0.5) * max(hw) / 256
    return (20 - np.hypot(x - centre[0], y - centre[1])).astype(np.float32)


@pytest.mark.parametrize("hw", [(480, 640), (640, 400)])
@pytest.mark.parametrize("shift", [(0, 0), (30, -12), (-25, 40)])
def test_logits_go_where_the_picture_goes(hw, shift):
    centre = np.array([hw[1] / 2, hw[0] / 2])
    motion = Motion(embedded(picture(hw, (0, 0))), embedded(picture(hw, shift)))
    moved, expected = motion.carry(disc(hw, centre)) > 0, disc(hw, centre + shift) > 0
    assert (moved & expected).sum() / (moved | expected).sum() > 0.85


def test_what_comes_into_the_image_was_nowhere():
    hw = (480, 640)
    motion = Motion(embedded(picture(hw, (0, 0))), embedded(picture(hw, (60, 0))))
    everywhere = np.full((256, 256), 5, np.float32)
    moved = motion.carry(everywhere)
    assert (moved[40:150, :20] < 0).mean() > 0.8
    assert (moved[40:150, 40:] == 5).all()
