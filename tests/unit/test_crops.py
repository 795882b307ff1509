"""Crops around small objects."""

import numpy as np

from mobilesam.geometry.crops import MOST, plan_crops


def test_objects_near_each_other_share_a_crop_and_large_ones_have_none():
    boxes = [np.array([100.0, 100, 120, 120]), np.array([150.0, 110, 172, 130]), np.array([0.0, 0, 500, 400]), None]
    [(crop, inside)] = plan_crops(boxes, (480, 640))
    assert inside == [0, 1]
    assert all(crop[0] <= boxes[i][0] and crop[3] >= boxes[i][3] for i in inside)


def test_a_crop_is_square_inside_the_image_and_larger_than_its_object():
    [(crop, _)] = plan_crops([np.array([630.0, 470, 640, 480])], (480, 640))
    x0, y0, x1, y1 = crop
    assert (x1, y1) == (640, 480)
    assert x1 - x0 == y1 - y0 == 80


def test_there_are_few_crops_however_many_objects_there_are():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 3900, (200, 2))
    planned = plan_crops([np.r_[xy, xy + 10] for xy in corners], (4000, 4000))
    assert len(planned) == MOST
    together = [i for _, inside in planned for i in inside]
    assert len(together) == len(set(together))


def test_an_image_that_a_crop_would_not_enlarge_is_left_alone():
    assert plan_crops([np.array([10.0, 10, 20, 20])], (64, 64)) == []
