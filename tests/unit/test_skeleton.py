"""Which masks can hardly be those of the skeleton that asked for them."""

import numpy as np
import pytest

from fiftyone_mobilesam.engine.item import Answer
from fiftyone_mobilesam.engine.records import crop_of, record_of
from mobilesam import MaskCrop, Prompt
from mobilesam.geometry.skeleton import points_outside, why_implausible

HW = (100, 100)
SPREAD = np.array([[21, 21], [39, 21], [21, 39], [39, 39], [30, 30.0]])  # a box of 18 x 18 pixels


def square(x0, y0, x1, y1):
    return MaskCrop((x0, y0, x1, y1), np.ones((y1 - y0, x1 - x0), dtype=bool), 0.9, 0.9, mask_quality=0.8)


def test_points_on_the_pixels_of_a_mask_are_inside_and_those_beside_it_are_not():
    crop = square(20, 20, 40, 40)
    crop.mask[1, 1] = False  # the pixel of (21, 21)
    assert points_outside(crop, SPREAD) == pytest.approx(1 / 5)
    assert points_outside(crop, np.array([[40.0, 40.0], [40.5, 30.0]])) == 0.5  # an edge is its last pixel's
    assert points_outside(MaskCrop((0, 0, 0, 0), np.zeros((0, 0), bool), 0.9, 0.9), SPREAD) == 1


@pytest.mark.parametrize(
    ("region", "points", "why"),
    [
        ((20, 20, 40, 40), SPREAD, None),
        ((60, 60, 80, 80), SPREAD, "5 of 5 points lie outside the mask"),
        ((60, 60, 80, 80), SPREAD[:2], None),  # no skeleton
        ((20, 20, 40, 31), SPREAD, None),  # 2 of 5 outside
        ((20, 20, 40, 30), SPREAD[[0, 2, 3]], "2 of 3 points lie outside the mask"),
        ((0, 0, 40, 40), SPREAD, "the mask has 4.9 times the area of the box around its 5 points"),
        ((0, 0, 40, 40), SPREAD[:4], None),  # four may be a face alone
        ((0, 0, 40, 40), np.full((5, 2), 30.0), None),  # all in one place span nothing
    ],
)
def test_a_mask_is_implausible_if_most_points_are_outside_or_its_area_is_far_off(region, points, why):
    assert why_implausible(square(*region), points) == why


def test_a_mask_of_far_less_area_is_implausible_too():
    crop = square(20, 20, 40, 40)
    thin = np.zeros((20, 20), dtype=bool)
    thin[[1, 1, 19, 19, 10], [1, 19, 1, 19, 10]] = True  # nothing but the five points
    less = MaskCrop(crop.region, thin, 0.9, 0.9)
    assert why_implausible(less, SPREAD) == "the mask has 0.015 times the area of the box around its 5 points"


def test_only_foreground_points_count_and_a_click_is_no_skeleton():
    labels = [1, 1, 1, 0, 0]
    asked = Answer(Prompt(point_coords=SPREAD, point_labels=labels), crop=square(20, 20, 40, 30))
    assert asked.skeleton == {"points_outside": pytest.approx(1 / 3), "implausible": None}
    assert Answer(Prompt(point_coords=SPREAD[:2]), crop=square(20, 20, 40, 30)).skeleton == {}
    assert Answer(Prompt(box=[20, 20, 40, 30]), crop=square(20, 20, 40, 30)).skeleton == {}
    none = Answer(Prompt(point_coords=SPREAD), failure="no pixel")
    assert none.skeleton == {"points_outside": None, "implausible": None}


def test_a_record_says_it_and_the_mask_is_the_same():
    answer = Answer(Prompt(point_coords=SPREAD), crop=square(60, 60, 80, 80))
    record = record_of(answer, HW)
    assert record["points_outside"] == 1
    assert record["implausible"] == "5 of 5 points lie outside the mask"
    assert np.array_equal(crop_of(record).mask, answer.crop.mask)
    assert "implausible" not in record_of(Answer(Prompt(box=[60, 60, 80, 80]), crop=answer.crop), HW)
