"""`Results.update`, which puts other boxes and masks in place of those that were predicted."""

import numpy as np
import pytest
import torch

from mobilesam import UnsupportedError
from mobilesam.front.results import Boxes, Masks, Results

HW = (6, 8)


@pytest.fixture
def result():
    """Two objects in an image of 8 x 6 pixels."""
    boxes = torch.tensor([[0, 0, 3, 3, 0.9, 0], [4, 0, 7, 5, 0.8, 1]])
    masks = torch.zeros(2, *HW, dtype=torch.bool)
    masks[0, :4, :4] = masks[1, :, 4:] = True
    logits = np.zeros((2, 256, 256), np.float32)
    known = {"low_res_logits": logits, "mask_quality": [0.9, 0.8]}
    return Results(np.zeros((*HW, 3), np.uint8), "a.png", {0: "0", 1: "1"}, Boxes(boxes, HW), Masks(masks, HW), **known)


def test_update_puts_boxes_in_place_and_cuts_them_off(result):
    result.update(boxes=torch.tensor([[-1, 1, 20, 30, 0.5, 0], [1, 2, 3, 4, 0.4, 7]]))
    assert result.boxes.xyxy.tolist() == [[0, 1, 8, 6], [1, 2, 3, 4]]
    assert result.names == {0: "0", 1: "1", 7: "7"}
    assert result.plot().shape == (*HW, 3)
    assert len(result[1].low_res_logits) == 1  # the masks are what they were


@pytest.mark.parametrize("kind", [torch.tensor, np.array], ids=["tensor", "array"])
def test_update_of_both_may_change_their_number(result, kind):
    mask = np.zeros(HW, np.uint8)
    mask[2:4, 1:3] = 1
    result.update(kind([1.0, 2, 2, 3, 0.7, 0]), kind(mask))
    assert len(result) == len(result.masks) == 1
    assert result.coco()[0]["area"] == 4
    assert result.low_res_logits is None
    assert np.isnan(result[0].mask_quality).all()


def test_update_says_what_it_cannot_take(result):
    for wrong, match in (
        ({"boxes": np.zeros((2, 4))}, r"boxes must have shape \(N, 6\)"),
        ({"masks": np.zeros((2, 8, 6))}, r"masks must have shape \(N, 6, 8\), got \(2, 8, 6\)"),
        ({"boxes": np.zeros((1, 6))}, "as many, got 1 and 2"),
        ({"masks": np.zeros((3, *HW))}, "as many, got 2 and 3"),
    ):
        with pytest.raises(ValueError, match=match):
            result.update(**wrong)
    with pytest.raises(UnsupportedError, match="probs"):
        result.update(probs=torch.zeros(3))
    result.update(keypoints=None)
    assert len(result) == 2
