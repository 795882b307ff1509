"""Ultralytics, same weights: `preprocess="ultralytics"` gives its masks."""

import numpy as np
import pytest
import torch
from PIL import Image
from tolerances import SCORE

from mobilesam import SamPredictor

PROMPTS = {"point": ({"points": [900, 370], "labels": [1]}, 58623), "box": ({"bboxes": [439, 437, 524, 709]}, 9773)}


@pytest.fixture(scope="module")
def peer(checkpoint):
    ultralytics = pytest.importorskip("ultralytics", reason="the peer ultralytics is not installed")
    return ultralytics.SAM(str(checkpoint))


def predict(predictor, points=None, labels=None, bboxes=None):
    return predictor.predict(
        point_coords=None if points is None else [points], point_labels=labels, box=bboxes, multimask_output=False
    )


@pytest.mark.parametrize("kind", PROMPTS)
def test_zidane(sam, peer, photos, zidane, kind):
    prompt, area = PROMPTS[kind]
    [result] = peer.predict(str(photos["zidane"]), **prompt, device="cpu", verbose=False, save=False)
    predictor = SamPredictor(sam, preprocess="ultralytics")
    predictor.set_image(zidane)
    masks, scores, _ = predict(predictor, **prompt)
    theirs = result.masks.data[0].numpy()
    assert theirs.sum() == area
    assert masks[0].sum() == area
    assert (masks[0] ^ theirs).sum() == 0
    assert abs(scores[0] - result.boxes.conf[0].item()) <= SCORE


@pytest.mark.parametrize("hw", [(333, 500), (427, 640), (769, 770)])
def test_other_sizes(sam, peer, zidane, tmp_path, hw):
    """Sizes whose input frame does not end on a low-res cell, where Ultralytics samples differently."""
    image = (
        np.ascontiguousarray(zidane[: hw[0], 300 : 300 + hw[1]])
        if hw[0] <= 720
        else np.array(Image.fromarray(zidane).resize(hw[::-1]))
    )
    box = [0.3 * hw[1], 0.2 * hw[0], 0.9 * hw[1], 0.98 * hw[0]]
    [result] = peer.predict(image[..., ::-1], bboxes=box, device="cpu", verbose=False, save=False)
    predictor = SamPredictor(sam, preprocess="ultralytics")
    predictor.set_image(image)
    masks, scores, _ = predict(predictor, bboxes=box)
    theirs = result.masks.data[0].numpy()
    assert (masks[0] & theirs).sum() / (masks[0] | theirs).sum() >= 0.999
    assert abs(scores[0] - result.boxes.conf[0].item()) <= 10 * SCORE


def test_a_tensor_is_treated_like_an_array(sam, zidane):
    predictor = SamPredictor(sam, preprocess="ultralytics")
    predictor.set_image(zidane)
    expected = predictor.features
    tensor = torch.from_numpy(zidane).permute(2, 0, 1)[None].float()
    predictor.set_torch_image(predictor.transform.apply_image_torch(tensor).round(), zidane.shape[:2])
    assert (predictor.features - expected).abs().mean() < 1e-3  # fixed-point and float bilinear round differently
