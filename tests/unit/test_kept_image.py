"""An embedding that is put back attribute by attribute, as scripts for the original do."""

import itertools

import numpy as np
import pytest
import torch
from scenes import LEFT, RIGHT, draw_scene

from mobilesam import ImageError, NoImageSetError, SamPredictor, make_prompts

SCENE, OTHER = draw_scene([LEFT, RIGHT]), draw_scene([RIGHT])[:200, :300]
BOX = [40, 50, 140, 190]
NAMES = ("features", "original_size", "input_size", "is_image_set")


@pytest.fixture(scope="module")
def predictor(sam):
    return SamPredictor(sam)


@pytest.fixture(scope="module")
def kept(predictor):
    """What a script keeps of two images, and what the predictor answers in them."""

    def keep(image):
        predictor.set_image(image)
        return {name: getattr(predictor, name) for name in NAMES}, answers(predictor)

    return [keep(image) for image in (SCENE, OTHER)]


def answers(predictor):
    boxes = predictor.transform.apply_boxes_torch(torch.tensor([BOX]), predictor.original_size)
    [[crop]] = predictor.predict_batch(make_prompts(boxes=[BOX]))
    masks, scores, logits = predictor.predict(box=np.array(BOX), multimask_output=False)
    torch_masks, _, torch_logits = predictor.predict_torch(None, None, boxes, multimask_output=False)
    embedding = predictor.get_image_embedding()
    return [masks, scores, logits, torch_masks, torch_logits, crop.full(masks.shape[1:]), embedding]


def put_back(predictor, state):
    for name, value in state.items():
        setattr(predictor, name, value)


def same(found, expected):
    return all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("order", list(itertools.permutations(NAMES))[::8])
def test_an_image_is_put_back_in_any_order(predictor, kept, order):
    (state, expected), (other, _) = kept
    predictor.set_image_embedding(predictor.encode_images([OTHER])[0])
    put_back(predictor, {name: state[name] for name in order})  # over another image
    assert same(answers(predictor), expected)
    predictor.reset_image()
    put_back(predictor, {name: state[name] for name in order})
    assert predictor.features is state["features"]
    assert all(getattr(predictor, name) == state[name] for name in NAMES[1:])
    assert same(answers(predictor), expected)
    put_back(predictor, other)
    assert same(answers(predictor), kept[1][1])


def test_stored_arrays_and_lists_are_put_back(predictor, kept):
    state, expected = kept[0]
    for features in (state["features"].numpy(), state["features"][0], state["features"].double()):
        predictor.reset_predictor()
        lists = {name: list(state[name]) for name in ("original_size", "input_size")}
        put_back(predictor, {"features": features, **lists, "is_image_set": True})
        assert predictor.original_size == (240, 320)
        assert same(answers(predictor), expected)


def test_the_slices_of_a_stack_share_their_size(predictor, kept):
    state, expected = kept[0]
    predictor.set_image(SCENE[::-1])
    predictor.features = state["features"]
    assert same(answers(predictor), expected)


def test_an_image_is_switched_off_and_on(predictor, kept):
    state, expected = kept[0]
    put_back(predictor, state)
    predictor.is_image_set = False
    assert not predictor.is_image_set
    with pytest.raises(NoImageSetError, match="is_image_set = True"):
        predictor.predict(box=BOX)
    predictor.is_image_set = True
    assert same(answers(predictor), expected)
    predictor.set_image(OTHER)
    assert predictor.is_image_set
    assert same(answers(predictor), kept[1][1])


@pytest.mark.parametrize("missing", NAMES)
def test_half_an_image_is_an_error_that_names_the_rest(predictor, kept, missing):
    predictor.reset_image()
    put_back(predictor, {name: value for name, value in kept[0][0].items() if name != missing})
    for ask in (predictor.get_image_embedding, lambda: predictor.predict_batch(make_prompts(boxes=[BOX]))):
        with pytest.raises(NoImageSetError, match=f"without {missing}"):
            ask()
    setattr(predictor, missing, kept[0][0][missing])
    assert same(answers(predictor), kept[0][1])


def test_nothing_put_back_is_no_image(predictor):
    predictor.reset_image()
    put_back(predictor, dict.fromkeys(NAMES))
    assert predictor.features is None
    with pytest.raises(NoImageSetError, match="got none"):
        predictor.get_image_embedding()


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("features", np.zeros((2, 256, 64, 64), np.float32), r"\(1, 256, 64, 64\), got \(2, 256, 64, 64\)"),
        ("original_size", (240, 320, 3), r"\(H, W\), got \(240, 320, 3\)"),
        ("input_size", 1024, r"\(H, W\), got 1024"),
    ],
)
def test_what_cannot_be_of_an_image_is_refused(predictor, name, value, text):
    with pytest.raises(ImageError, match=text):
        setattr(predictor, name, value)


def test_sizes_of_two_images_are_an_error(predictor, kept):
    put_back(predictor, {**kept[0][0], "original_size": (320, 240)})
    with pytest.raises(ImageError, match=r"input_size must be \(1024, 768\) for original_size \(320, 240\)"):
        predictor.predict(box=BOX)
    predictor.reset_image()
