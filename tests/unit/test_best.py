"""`quality="best"`, `mask_quality` and the heads they come from."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from scenes import draw_scene, ellipse_mask

from mobilesam import SAM, OnnxPredictor, Prompt, SamPredictor
from mobilesam.geometry import tight_region
from mobilesam.heads.files import Heads, heads_for, read_heads, tensors_of

SIZE = (1200, 900)
SMALL, LARGE = ((300, 250), (11, 8)), ((800, 500), (250, 300))
HW = SIZE[::-1]


def box_of(ellipse):
    return np.array(tight_region(ellipse_mask(*ellipse, SIZE)), dtype=float)


def iou(crop, ellipse):
    mask, true = crop.full(HW), ellipse_mask(*ellipse, SIZE)
    return (mask & true).sum() / (mask | true).sum()


@pytest.fixture(scope="module")
def image():
    return draw_scene([SMALL, LARGE], SIZE)


@pytest.fixture(scope="module")
def prompts():
    return [
        Prompt(box=box_of(SMALL)),
        Prompt(box=box_of(LARGE)),
        Prompt(point_coords=[LARGE[0]]),
        Prompt(point_coords=[LARGE[0], (700, 400)]),
        Prompt(box=box_of(LARGE), point_coords=[LARGE[0]]),
        Prompt(box=box_of(LARGE), mask_input=ellipse_mask(*LARGE, SIZE)),
    ]


@pytest.fixture(scope="module")
def predictor(sam, image):
    predictor = SamPredictor(sam, fast=True)
    predictor.set_image(image)
    return predictor


@pytest.fixture(scope="module")
def best(predictor, prompts):
    return predictor.predict_batch(prompts, quality="best")


def test_best_has_one_mask_a_prompt_in_place_and_a_quality_where_it_is_known(best):
    assert [len(crops) for crops in best] == [1] * 6
    for [crop], ellipse in zip(best, (SMALL, LARGE, LARGE, LARGE, LARGE, LARGE), strict=True):
        assert iou(crop, ellipse) > 0.85
    known = [crop.mask_quality is not None for [crop] in best]
    assert known == [True, True, True, True, True, False]
    assert all(0 <= crop.mask_quality <= 1 for [crop] in best[:5])


def test_best_looks_at_a_small_object_again_and_gets_it_finer(predictor, prompts, best):
    [[fast]] = predictor.predict_batch(prompts[:1])
    assert iou(best[0][0], SMALL) > iou(fast, SMALL)


def test_best_without_pixels_is_best_without_a_second_look(sam, image, prompts):
    predictor = SamPredictor(sam, fast=True)
    [embedding] = predictor.encode_images([image])
    bare = type(embedding)(embedding.features, embedding.original_hw, embedding.input_hw)
    [[crop]] = predictor.predict_batch(prompts[1:2], image=bare, quality="best")
    [[same]] = predictor.predict_batch(prompts[1:2], image=embedding, quality="best")
    assert (crop.mask == same.mask).all()


def test_best_is_the_same_on_the_plain_path(sam, image, prompts, best):
    plain = SamPredictor(sam)
    plain.set_image(image)
    for [a], [b] in zip(best, plain.predict_batch(prompts, quality="best"), strict=True):
        both, either = (a.full(HW) & b.full(HW)).sum(), (a.full(HW) | b.full(HW)).sum()
        assert both / either > 0.995
        assert a.mask_quality is None or a.mask_quality == pytest.approx(b.mask_quality, abs=0.02)


def test_a_mask_does_not_depend_on_its_neighbours(predictor, prompts, best):
    [[alone]] = predictor.predict_batch(prompts[1:2], quality="best")
    assert (alone.mask == best[1][0].mask).all()
    assert alone.mask_quality == pytest.approx(best[1][0].mask_quality, abs=1e-5)


def test_quality_tells_a_good_mask_from_a_bad_one(predictor):
    nothing = Prompt(box=[20.0, 700, 120, 880])  # plain background
    [good], [bad] = predictor.predict_batch([Prompt(box=box_of(LARGE)), nothing])
    assert good.mask_quality > 0.7
    assert bad.mask_quality < good.mask_quality - 0.1


def test_fast_candidates_have_a_quality_each(predictor, prompts):
    [crops] = predictor.predict_batch(prompts[2:3], multimask_output=True)
    assert all(crop.mask_quality is not None for crop in crops)


def test_other_weights_have_no_heads_and_best_still_works(sam, image, prompts):
    other = deepcopy(sam)
    with torch.no_grad():
        other.mask_decoder.iou_token.weight.mul_(1.01)
    assert heads_for(other).mask is None
    predictor = SamPredictor(other, fast=True)
    predictor.set_image(image)
    crops = [crop for [crop] in predictor.predict_batch(prompts, quality="best")]
    assert [crop.mask_quality for crop in crops] == [None] * 6
    assert all(crop.mask.any() for crop in crops)


def test_heads_are_what_their_tensors_are(sam):
    heads = heads_for(sam)
    again = read_heads(tensors_of(heads))
    tokens, vectors = torch.randn(2, 5, 256), torch.randn(2, 4, 32)
    for a, b in zip(heads.mask(tokens, vectors), again.mask(tokens, vectors), strict=True):
        assert torch.equal(a, b)
    assert read_heads({}) == Heads(None, {}) or read_heads({}).quality == {}


def test_what_does_not_go_together_is_refused(predictor, prompts, onnx_pair, image):
    with pytest.raises(ValueError, match="quality must be one of 'fast', 'best', got 'good'"):
        predictor.predict_batch(prompts, quality="good")
    with pytest.raises(ValueError, match="Leave one out"):
        predictor.predict_batch(prompts, quality="best", multimask_output=True)
    exported = OnnxPredictor(onnx_pair.encoder.parent)
    exported.set_image(image)
    with pytest.raises(ValueError, match="Use SamPredictor"):
        exported.predict_batch(prompts[:1], quality="best")
    [[crop]] = exported.predict_batch(prompts[:1])
    assert crop.mask_quality is None


def test_predict_takes_quality_and_overlap(sam, image):
    boxes = [[500, 100, 900, 900], [700, 100, 1100, 900]]  # both want the large ellipse
    [kept] = SAM(sam).predict(image[..., ::-1], bboxes=boxes)
    [apart] = SAM(sam).predict(image[..., ::-1], bboxes=boxes, quality="best", overlap="exclusive")
    assert (kept.masks.data[0] & kept.masks.data[1]).any()
    assert not (apart.masks.data[0] & apart.masks.data[1]).any()
    assert apart.mask_quality.shape == (2,)
    with pytest.raises(TypeError, match="quality and overlap must go with prompts"):
        SAM(sam).predict(image, quality="best")
