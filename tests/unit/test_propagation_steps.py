"""One step of a track: which of the model's answers is taken."""

import numpy as np
import pytest

from mobilesam import Prompt, SamPredictor
from mobilesam.geometry.masks import WHOLE_TILE, whole_logits
from mobilesam.motion import Motion, without_pixels
from mobilesam.propagation import continue_tracks, innermost_point, moved_masks, start_tracks

BOX = np.array([439.0, 437.0, 524.0, 709.0])


@pytest.fixture(scope="module")
def predictor(sam):
    return SamPredictor(sam, fast=True)


@pytest.fixture(scope="module")
def image(predictor, zidane):
    return predictor.encode_images([zidane])[0]


def test_where_motion_took_a_mask_says_which_answer_a_label_means(predictor, image):
    [alone] = start_tracks(predictor, [Prompt(box=BOX)], image)
    point = innermost_point(alone.crop)[None]
    [answers] = predictor.predict_batch([Prompt(box=BOX, point_coords=point)], image=image, multimask_output=True)
    like_the_box = [crop for crop in answers if crop.region[3] - crop.region[1] > 0.8 * (BOX[3] - BOX[1])]
    other = min(like_the_box, key=alone.crop.iou)
    [meant] = start_tracks(predictor, [Prompt(box=BOX)], image, [other])
    assert meant.crop.iou(other) > max(alone.crop.iou(other), 0.9)


def test_a_moved_mask_elsewhere_says_nothing(predictor, image):
    [alone] = start_tracks(predictor, [Prompt(box=BOX)], image)
    [elsewhere] = start_tracks(predictor, [Prompt(box=np.array([700.0, 40.0, 1100.0, 720.0]))], image)
    prompts = [Prompt(box=BOX), Prompt(point_coords=np.array([[900.0, 370.0]])), Prompt(box=BOX)]
    found = start_tracks(predictor, prompts, image, [elsewhere.crop, elsewhere.crop, None])
    plain = start_tracks(predictor, prompts, image)
    for a, b in zip(found, plain, strict=True):
        assert np.array_equal(a.crop.mask, b.crop.mask)
    assert np.array_equal(found[0].crop.mask, alone.crop.mask)


def test_an_image_that_does_not_move_keeps_its_masks(predictor, image):
    kept = without_pixels(image)
    assert kept.pixels.size < image.pixels.size / 4
    assert np.array_equal(without_pixels(kept).pixels, kept.pixels)
    tracks = start_tracks(predictor, [Prompt(box=BOX)], image)
    motion = Motion(kept, kept)
    [moved] = moved_masks(predictor, tracks, motion, image)
    assert moved.iou(tracks[0].crop) > 0.99
    [after] = continue_tracks(predictor, tracks, motion, kept)
    assert after.lost is None
    assert after.crop.iou(tracks[0].crop) > 0.9


def test_logits_outside_of_a_tile_are_background(predictor, image):
    regions = [tuple(BOX.astype(int).tolist())]
    [[part]] = predictor.predict_batch([Prompt(box=BOX)], image=image, regions=regions, return_low_res_logits=True)
    [[whole]] = predictor.predict_batch([Prompt(box=BOX)], image=image, return_low_res_logits=True)
    x0, y0, x1, y1 = (BOX / 5).astype(int)  # 1280 pixels are 256 logits
    inside = np.s_[y0:y1, x0:x1]
    assert part.low_res_logits.shape == (256, 256)
    assert np.abs(part.low_res_logits - whole.low_res_logits)[inside].max() < 1e-3
    assert (part.low_res_logits[:, :60] < 0).all()
    assert whole_logits(whole.low_res_logits, WHOLE_TILE) is whole.low_res_logits
