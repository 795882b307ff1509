"""What `fom.train` learns from: accepted masks with their prompts, or all; what it leaves out, and why."""

import json
import re
import threading

import fiftyone as fo
import numpy as np
import pytest
from operator_calls import form, messages, run
from scenes import LEFT, RIGHT, detections, ellipse_box, ellipse_mask, true_ellipse
from trained import CARD, write_trained

import fiftyone_mobilesam as fom
from fiftyone_mobilesam.app.train import learn
from fiftyone_mobilesam.engine.identity import name_of_weights
from fiftyone_mobilesam.training.dataset import annotated_images
from mobilesam import SAM, CheckpointError, FieldError
from mobilesam.cli import main
from mobilesam.errors import NotEnoughTruthError
from mobilesam.training.card import start_of
from mobilesam.training.train import Training


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


NAN = float("nan")
# What is wrong with a label, and what is said of it.
BAD = {
    "empty": ({"mask": np.zeros((5, 5), bool)}, "mask must have a pixel in the image, got none"),
    "no size": ({"mask": np.zeros((0, 5), bool)}, "mask must have a pixel in the image, got none"),
    "no mask": ({"mask": None}, "The label must have a mask, got none"),
    "no file": ({"mask": None, "mask_path": "/nowhere.png"}, "mask must be readable, got .*nowhere.*Restore its file"),
    "a picture": ({"mask": np.ones((5, 5, 3), bool)}, r"mask must be \(height, width\), got \(5, 5, 3\)"),
    "whole image": ({"mask": np.ones((240, 320), bool)}, "in its box, 100 x 140, got 320 x 240, the whole image. Cut"),
    "not a number": ({"bounding_box": [NAN, 0, 0.1, 0.1]}, r"bounding_box must be .*, got \[nan, 0.*Draw the label"),
    "without end": ({"bounding_box": [0, 0, float("inf"), 0.1]}, "bounding_box must be .* inf, "),
    "inverted": ({"bounding_box": [0.5, 0.5, -0.2, -0.2]}, "a width and height above 0, got .*-0.2"),
    "pixels": ({"bounding_box": [0, 0, 100, 140]}, r"shares of the image's sides, .* got \[0.0, 0.0, 100.0, 140.0\]"),
    "no box": ({"bounding_box": []}, r"bounding_box must be .* got \[\]"),
    "outside": ({"bounding_box": [2, 2, 0.1, 0.1]}, "mask must have a pixel in the image, got none"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_label_costs_itself_and_is_written_down(dataset, case):
    changed, said = BAD[case]
    sample = dataset.first()
    label = sample.masks.detections[0]
    for name, value in changed.items():
        label[name] = value
    sample.save()
    images, failed = found(dataset)
    assert [len(one.objects) for one in images] == [1, 2, 2, 2, 2]
    [(where, reason)] = failed
    assert where == f"{sample.filepath}, label {label.id}"
    assert re.search(said, reason), reason


def test_bad_prompts_and_images_cost_themselves(dataset):
    first, second = dataset.limit(2)
    first.detections.detections[1].bounding_box = [NAN, 0, 0.1, 0.1]
    first.save()
    second.filepath = "/nowhere.png"
    second.save()
    images, failed = found(dataset)
    assert [len(one.objects) for one in images] == [1, 2, 2, 2]
    assert [reason.split(" must be ")[0] for _, reason in failed] == ["box", "image"]


def test_a_mask_of_the_whole_image_is_learnt_from(dataset):
    sample = dataset.first()
    sample.masks.detections = [fo.Detection(label="a", bounding_box=[0, 0, 1, 1], mask=np.ones((240, 320), bool))]
    sample.save()
    images, failed = found(dataset)
    assert images[0].objects[0][1].all()
    assert not failed


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
    sample = dataset.first()
    sample.masks.detections.append(fo.Detection(label="a", bounding_box=[0.1, 0.1, 0.1, 0.1]))
    sample.save()
    params = {"mask_field": "masks", "prompt_field": "detections", "out": str(tmp_path / "ours.safetensors")}
    sent = messages(plugin, "train", dataset, **params, passes=1)
    texts = json.dumps(sent)
    assert "Part 3 of 3" in texts
    assert "Left out: " in texts
    assert "The label must have a mask, got none" in texts
    assert "images left out" in texts
    assert (tmp_path / "ours.safetensors").exists() == ("fom.load_model" in texts)


def test_the_app_says_that_nothing_was_written(dataset, plugin, tmp_path):
    (tmp_path / "ours.pt").write_text("mine")
    params = {"mask_field": "masks", "prompt_field": "detections", "out": str(tmp_path / "ours.pt")}
    texts = json.dumps(messages(plugin, "train", dataset, **params))
    assert "which is there. Name another, or pass overwrite=True. No weights were written" in texts
    assert (tmp_path / "ours.pt").read_text() == "mine"


def test_a_stop_in_the_app_before_anything_was_learnt(dataset, tmp_path):
    stop = threading.Event()
    stop.set()
    fields = {"mask_field": "masks", "prompt_field": "detections", "out": str(tmp_path / "ours.pt")}
    result = learn(dataset, **fields, on_progress=lambda progress: None, stop=stop)
    assert result["text"].startswith("Stopped before anything was learnt")
    assert not result["helped"]


def test_the_card_says_which_trained_weights_it_started_from(dataset, plugin, sam, tmp_path, monkeypatch):
    started, ours = [], write_trained(sam, tmp_path / "ours.safetensors")

    def learn(sam, annotated, out, *, started_from, **options):
        started.append(start_of(sam, started_from)["started_from"])
        return Training(False, None, CARD, [])

    for door in ("fiftyone_mobilesam.training.dataset.learn", "mobilesam.training.coco.train"):
        monkeypatch.setattr(door, learn)
    fields = {"prompt_field": "detections", "mask_field": "masks", "out": str(tmp_path / "new.pt")}
    fom.train(dataset, **fields, weights=ours)
    run(plugin, "train", dataset, params={**fields, "weights": str(ours)})
    SAM(ours, device="cpu", verify=False).train("coco.json", ".")
    main(["train", "--coco", "coco.json", "--images", ".", "--model", str(ours), "--device", "cpu"])
    assert started == [{"weights": str(ours), "sha256": name_of_weights(ours)}] * 4


def test_a_whole_call_and_what_it_refuses(dataset, tmp_path):
    training = fom.train(dataset, "detections", "masks", tmp_path / "ours.pt", passes=1, may_forget=1, progress=False)
    assert training.card["data"]["masks"] == 10
    assert training.helped == (tmp_path / "ours.pt").exists()
    assert not (tmp_path / "ours.pt.unfinished").exists()
    with pytest.raises(FieldError, match="mask_field"):
        fom.train(dataset, "detections", "nothing", tmp_path / "new.pt")
    with pytest.raises(FieldError, match="prompt_field"):
        fom.train(dataset, "nothing", "masks", tmp_path / "new.pt")
    with pytest.raises(NotEnoughTruthError, match=r"^Training .* got 2 of 1"):
        fom.train(dataset[:1], "detections", "masks", tmp_path / "new.pt", progress=False)
    with pytest.raises(CheckpointError, match=r"missing\.pt', which does not exist"):
        fom.train(dataset, "detections", "masks", tmp_path / "new.pt", weights="missing.pt", progress=False)
    dataset.set_values("masks.detections.review", [["rejected", None]] + [[None, None]] * 4, dynamic=True)
    with pytest.raises(NotEnoughTruthError, match=r"^Some masks of 'masks' were reviewed, .* got 0 of 0\."):
        fom.train(dataset, "detections", "masks", tmp_path / "new.pt", progress=False)
    assert not list(tmp_path.glob("new*"))
