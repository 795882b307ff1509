import numpy as np

from mobilesam.geometry import clip_box, snap_outward, tight_region

HW = (100, 200)


def test_clip_box_keeps_subpixels_and_stays_inside():
    assert clip_box([-5.5, 3.25, 210, 99.75], original_hw=HW).tolist() == [0, 3.25, 200, 99.75]


def test_clip_box_outside_has_no_area():
    x0, _, x1, _ = clip_box([300, 0, 310, 10], original_hw=HW)
    assert x0 == x1


def test_snap_outward_holds_the_box():
    assert snap_outward([3.2, 4.0, 9.1, 10.0], original_hw=HW) == (3, 4, 10, 10)


def test_snap_outward_forgives_float_rounding():
    assert snap_outward([3 + 1e-9, 4 - 1e-9, 9 + 1e-9, 10 - 1e-9], original_hw=HW) == (3, 4, 9, 10)


def test_tight_region_of_a_mask():
    mask = np.zeros(HW, dtype=bool)
    mask[7, 5] = mask[10, 20] = True
    assert tight_region(mask) == (5, 7, 21, 11)


def test_tight_region_of_an_empty_mask_is_zeros():
    assert tight_region(np.zeros(HW, dtype=bool)) == (0, 0, 0, 0)


def test_snap_outward_keeps_a_pixel_of_the_thinnest_box():
    assert snap_outward([5, 5, 5 + 1e-5, 7], original_hw=HW) == (5, 5, 6, 7)
    assert snap_outward([200 - 1e-5, 99.99999, 230, 130], original_hw=HW) == (199, 99, 200, 100)
    assert snap_outward([-30, -30, 1e-5, 1e-5], original_hw=HW) == (0, 0, 1, 1)
