import numpy as np
import pytest
import torch

from mobilesam import Prompt, PromptError, make_prompts

WRONG = [
    (dict(), "got none"),
    (dict(box=[1, 2, 3]), r"shape \(4,\), got \(3,\)"),
    (dict(box=[[1, 2, 3, 4], [1, 2, 3, 4]]), "predict_batch"),
    (dict(box=[10, 10, 5, 20]), "x2 > x1"),
    (dict(box=[10, 10, 10, 20]), "x2 > x1"),
    (dict(box=[np.nan, 0, 5, 5]), "finite"),
    (dict(box=[0, 0, np.inf, 5]), "finite"),
    (dict(box="car"), "4 numbers"),
    (dict(point_coords=[5, 5]), r"\(N, 2\)"),
    (dict(point_coords=np.empty((0, 2))), r"\(N, 2\)"),
    (dict(point_coords=[[5, 5], [6]]), "numbers"),
    (dict(point_coords=[[5, 5]], point_labels=[1, 0]), r"\(1,\), got \(2,\)"),
    (dict(point_coords=[[5, 5]], point_labels=[7]), "foreground"),
    (dict(point_labels=[1], box=[0, 0, 5, 5]), "come with point_coords"),
    (dict(mask_input=np.zeros((64, 64), np.float32)), "256"),
    (dict(mask_input=np.zeros((64, 64), np.uint8)), r"astype\(bool\)"),
]


@pytest.mark.parametrize(("kwargs", "text"), WRONG)
def test_a_wrong_prompt_says_what_was_expected(kwargs, text):
    with pytest.raises(PromptError, match=text):
        Prompt(**kwargs)


def test_prompt_error_is_a_value_error():
    with pytest.raises(ValueError, match="finite"):
        Prompt(box=[np.nan, 0, 1, 1])


@pytest.mark.parametrize(
    "box", [[1, 2, 3.5, 4], (1, 2, 3.5, 4), np.array([[1, 2, 3.5, 4]]), torch.tensor([1, 2, 3.5, 4])]
)
def test_boxes_of_any_sequence_keep_their_subpixels(kind):
    assert Prompt(box=kind([1, 2, 3.5, 4])).box.tolist() == [1, 2, 3.5, 4]


def test_labels_default_to_foreground():
    assert Prompt(point_coords=[[1, 2], [3, 4]]).point_labels.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        (dict(box=[700, 0, 710, 10]), "overlap"),
        (dict(point_coords=[[5, 481]]), "lie in the image"),
        (dict(mask_input=np.ones((640, 480), bool)), "size of the image"),
    ],
)
def test_check_inside_refuses_what_is_outside(kwargs, text):
    with pytest.raises(PromptError, match=text):
        Prompt(**kwargs).check_inside((480, 640))


def test_check_inside_accepts_the_border_and_padding_points():
    Prompt(box=[-5, -5, 700, 500], point_coords=[[640, 480], [-9, -9]], point_labels=[1, -1]).check_inside((480, 640))


def test_make_prompts_takes_ragged_points():
    prompts = make_prompts(point_coords=[[[1, 1]], [[2, 2], [3, 3]]], point_labels=[[1], [1, 0]])
    assert [len(prompt.point_coords) for prompt in prompts] == [1, 2]


def test_make_prompts_names_the_object_that_is_wrong():
    with pytest.raises(PromptError, match="Object 1: box must have x2 > x1"):
        make_prompts(boxes=[[0, 0, 5, 5], [5, 5, 0, 0]])


def test_make_prompts_refuses_different_lengths():
    with pytest.raises(PromptError, match="same number of objects"):
        make_prompts(boxes=[[0, 0, 5, 5]], point_coords=[[[1, 1]], [[2, 2]]])


@pytest.mark.parametrize("boxes", [None, [], np.empty((0, 4))])
def test_no_prompts_are_an_empty_list(boxes):
    assert make_prompts(boxes=boxes) == []
