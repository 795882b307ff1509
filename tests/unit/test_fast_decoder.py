"""The fast decoder beside the plain one: the same masks."""

import numpy as np
import pytest
import torch
from tolerances import LOW_RES_LOGITS, SCORE, same_mask

from mobilesam import SamPredictor, make_prompts
from mobilesam.geometry import snap_outward
from mobilesam.geometry.masks import tile_for
from mobilesam.geometry.transforms import TRANSFORMS

BOXES = [[439, 437, 524, 709], [700, 40, 1100, 720], [100, 200, 400, 700], [0, 0, 1280, 720], [5, 5, 50, 90]]
POINTS = [[[900, 370]], [[480, 500], [700, 100]], [[300, 400]]]
LABELS = [[1], [1, 0], [1]]
HW = (720, 1280)


@pytest.fixture(scope="module")
def predictors(sam, zidane):
    fast, plain = SamPredictor(sam, fast=True), SamPredictor(sam)
    fast.set_image(zidane)
    plain.set_image_embedding(fast._image)
    return fast, plain


def prompts():
    return make_prompts(boxes=BOXES) + make_prompts(point_coords=POINTS, point_labels=LABELS)


@pytest.mark.parametrize("multimask_output", [False, True, None])
def test_logits_and_scores(predictors, multimask_output):
    kwargs = {"multimask_output": multimask_output, "return_low_res_logits": True}
    fast, plain = (p.predict_batch(prompts(), **kwargs) for p in predictors)
    for ours, expected in zip(fast, plain, strict=True):
        assert len(ours) == len(expected)
        for a, b in zip(ours, expected, strict=True):
            assert np.abs(a.low_res_logits - b.low_res_logits).max() <= LOW_RES_LOGITS
            assert abs(a.iou_prediction - b.iou_prediction) <= SCORE
            assert same_mask(a.full(HW), b.full(HW))


def test_regions_are_decoded_alone_and_stay_the_same(predictors):
    regions = [snap_outward(box, original_hw=HW) for box in BOXES]
    fast, plain = (p.predict_batch(make_prompts(boxes=BOXES), regions=regions) for p in predictors)
    for [a], [b], (x0, y0, x1, y1) in zip(fast, plain, regions, strict=True):
        assert same_mask(a.full(HW), b.full(HW))
        assert a.stability_score == pytest.approx(b.stability_score, abs=1e-3)
        assert a.full(HW)[y0:y1, x0:x1].sum() == a.area


def test_mask_prompts_take_the_plain_way(predictors):
    logits = predictors[1].predict_batch(make_prompts(boxes=BOXES[:1]), return_low_res_logits=True)[0][0].low_res_logits
    mixed = make_prompts(boxes=BOXES[:1], mask_inputs=[logits]) + make_prompts(boxes=BOXES[1:])
    fast, plain = (p.predict_batch(mixed) for p in predictors)
    for [a], [b] in zip(fast, plain, strict=True):
        assert same_mask(a.full(HW), b.full(HW))


def test_new_weights_are_used_at_once(sam, zidane):
    from mobilesam import build_sam_vit_t

    other = build_sam_vit_t("mobile_sam.pt")
    predictor = SamPredictor(other, fast=True)
    predictor.set_image(zidane)
    before = predictor.predict_batch(make_prompts(boxes=BOXES[:1]))
    with torch.no_grad():
        other.mask_decoder.mask_tokens.weight[0] = 0
    after = predictor.predict_batch(make_prompts(boxes=BOXES[:1]))
    assert before[0][0].area != after[0][0].area


@pytest.mark.parametrize("preprocess", TRANSFORMS)
@pytest.mark.parametrize("hw", [(480, 640), (1000, 333), (3000, 4000), (7, 1200)])
def test_tiles_hold_every_logit_that_a_region_needs(preprocess, hw):
    rows, columns = TRANSFORMS[preprocess]().upscale_matrices(hw)
    rng = np.random.default_rng(0)
    for _ in range(50):
        y0, x0 = rng.integers(0, hw[0]), rng.integers(0, hw[1])
        y1, x1 = rng.integers(y0 + 1, hw[0] + 1), rng.integers(x0 + 1, hw[1] + 1)
        r0, c0, r1, c1 = tile_for((rows, columns), (int(x0), int(y0), int(x1), int(y1)))
        assert 0 <= r0 < r1 <= 64
        assert 0 <= c0 < c1 <= 64
        assert rows[y0:y1, 4 * r0 : 4 * r1].sum() == pytest.approx(float(rows[y0:y1].sum()))
        assert columns[x0:x1, 4 * c0 : 4 * c1].sum() == pytest.approx(float(columns[x0:x1].sum()))
