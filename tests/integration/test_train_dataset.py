"""What `fom.train` learns from: accepted masks with their prompts, or all; what it leaves out, and why."""

import json
import threading

import fiftyone as fo
import numpy as np
import pytest
from operator_calls import form, messages
from scenes import LEFT, RIGHT, detections, ellipse_box, ellipse_mask, true_ellipse

import fiftyone_mobilesam as fom
from fiftyone_mobilesam.app.train import learn
from fiftyone_mobilesam.training.dataset import annotated_images
from mobilesam import FieldError
from mobilesam.errors import NotEnoughTruthError


@pytest.fixture
def dataset(make_dataset):
    """Five scenes, prompts off by some pixels, and masks that are of these prompts."""
    rows = []
    for _ in range(5):
        prompts = detections(ellipse_box(*LEFT), [0.6, 0.1, 0.3, 0.7])
        masks = [true_ellipse(one) for one in (LEFT, RIGHT)]
        for mask, prompt in zip(masks, prompts.detections, strict=True):
            mask["prompt_id"] = prompt.id
        rows.append({"detections": prompts, "masks": fo.Detections(detections=masks)})
    return make_dataset(*rows)


def found(samples, prompt_field="detections"):
    failed = []
    return list(annotated_images(samples, prompt_field, "masks", failed)), failed


def test_each_mask_goes_with_the_prompt_it_was_made_from(dataset):
    images, failed = found(dataset)
    assert not failed
    assert [len(one.objects) for one in images] == [2] * 5
    (_, left), (prompt, right) = images[0].objects
    height, width = images[0].image.shape[:2]
    np.testing.assert_allclose(prompt.box, [0.6 * width, 0.1 * height, 0.9 * width, 0.8 * height], atol=1e-6)
    assert (left == ellipse_mask(*LEFT)).all()
    assert (right == ellipse_mask(*RIGHT)).all()


def test_masks_that_were_drawn_go_with_their_own_box(dataset):
    images, _ = found(dataset, "masks")
    prompt, mask = images[0].objects[1]
    ys, xs = np.nonzero(mask)
    np.testing.assert_allclose(prompt.box, [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], atol=0.01)


def test_once_masks_are_reviewed_only_accepted_ones_count(dataset):
    sample = dataset.first()
    for label, decision in zip(sample.masks.detections, ("accepted", "rejected"), strict=True):
        label["review"] = decision
    sample.save()
    dataset.add_sample_field("masks.detections.review", fo.StringField)
    images, _ = found(dataset)
    assert [len(one.objects) for one in images] == [1]


def test_what_cannot_be_used_costs_itself_alone(dataset):
    first, second = dataset.limit(2)
    first.masks.detections[0].mask = np.zeros((5, 5), dtype=bool)
    first.detections.detections[1].bounding_box = [float("nan"), 0, 0.1, 0.1]
    first.masks.detections.append(fo.Detection(label="a", bounding_box=[0.1, 0.1, 0.1, 0.1]))
    first.save()
    second.filepath = "/nowhere.png"
    second.save()
    images, failed = found(dataset)
    assert sum(len(one.objects) for one in images) == 6
    assert len(failed) == 4
    assert "no pixel" in failed[0][1]
    assert "no mask" in failed[2][1]
    assert "/nowhere.png" in failed[3][0]


def test_the_app_says_what_it_would_learn_from(dataset, plugin):
    inputs = form(plugin, "train", dataset)
    assert inputs["mask_field"]["default"] == "masks"
    assert "10 masks, all of the field" in inputs["what"]["view"]["label"]
    sample = dataset.first()
    sample.masks.detections[0]["review"] = "accepted"
    sample.save()
    dataset.add_sample_field("masks.detections.review", fo.StringField)
    inputs = form(plugin, "train", dataset)
    assert "got 1 of 1" in inputs["problem"]["view"]["description"]
    assert inputs["problem"]["invalid"]


def test_the_app_shows_how_it_goes_and_the_card(dataset, plugin, tmp_path):
    params = {"mask_field": "masks", "prompt_field": "detections", "out": str(tmp_path / "ours.safetensors")}
    sent = messages(plugin, "train", dataset, **params, passes=1)
    texts = json.dumps(sent)
    assert "Part 3 of 3" in texts
    assert "images left out" in texts
    assert (tmp_path / "ours.safetensors").exists() == ("fom.load_model" in texts)


def test_a_stop_in_the_app_before_anything_was_learnt(dataset, tmp_path):
    stop = threading.Event()
    stop.set()
    fields = {"mask_field": "masks", "prompt_field": "detections", "out": str(tmp_path / "ours.pt")}
    result = learn(dataset, **fields, on_progress=lambda progress: None, stop=stop)
    assert result["text"].startswith("Stopped before anything was learnt")
    assert not result["helped"]


def test_a_whole_call_and_what_it_refuses(dataset, tmp_path):
    training = fom.train(dataset, "detections", "masks", tmp_path / "ours.pt", passes=1, may_forget=1, progress=False)
    assert training.card["data"]["masks"] == 10
    assert training.helped == (tmp_path / "ours.pt").exists()
    assert not (tmp_path / "ours.pt.unfinished").exists()
    with pytest.raises(FieldError, match="mask_field"):
        fom.train(dataset, "detections", "nothing", tmp_path / "new.pt")
    with pytest.raises(FieldError, match="prompt_field"):
        fom.train(dataset, "nothing", "masks", tmp_path / "new.pt")
    with pytest.raises(NotEnoughTruthError, match="got 2 of 1"):
        fom.train(dataset[:1], "detections", "masks", tmp_path / "new.pt", progress=False)
