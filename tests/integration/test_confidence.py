"""A mask whose prompt has no confidence has its own number, and that number is told from a detector's."""

import fiftyone as fo
import pytest
from job_calls import BOXES, counts, label, raw
from scenes import LEFT, RIGHT, detections, keypoints, true_ellipse

import fiftyone_mobilesam as fom
from fiftyone_mobilesam.confidence import is_own, own_confidence
from fiftyone_mobilesam.review.retry import retry
from fiftyone_mobilesam.review.review import Review
from fiftyone_mobilesam.undo import undo_run


def own_of(mask):
    return own_confidence(mask["predicted_iou"], mask["mask_quality"])


def masks_of(dataset, field="masks"):
    return [mask for sample in dataset for mask in sample[field].detections]


@pytest.mark.parametrize(("numbers", "expected"), [((0.8, 0.7), 0.7), ((1.03, None), 1), ((-0.1, None), 0)])
def test_the_number_is_between_0_and_1(numbers, expected):
    assert own_confidence(*numbers) == expected


def test_a_detectors_number_is_not_taken_for_the_masks():
    assert is_own({"confidence": 0.7, "predicted_iou": 0.8, "mask_quality": 0.7})
    assert is_own({"confidence": 0.7, "predicted_iou": 0.8, "mask_quality": 0.6, "mask_quality_as_made": 0.7})
    assert is_own({"confidence": 1.0, "predicted_iou": 1.02})
    for confidence in (None, 0.5, [0.7, 0.8]):
        assert not is_own({"confidence": confidence, "predicted_iou": 0.8, "mask_quality": 0.7})
    assert not is_own({"confidence": 0.7})


def test_fiftyone_ranks_masks_of_true_boxes(model, make_dataset):
    truth = fo.Detections(detections=[true_ellipse(LEFT), true_ellipse(RIGHT)])
    for true in truth.detections:
        true.confidence = None
    dataset = make_dataset({"truth": truth})
    dataset.apply_model(model, label_field="masks", prompt_field="truth", confidence_thresh=0.5)
    assert len(masks_of(dataset)) == 2
    for mask in masks_of(dataset):
        assert mask.confidence == own_of(mask) == mask.mask_quality
    call = {"gt_field": "truth", "use_masks": True, "progress": False}
    assert dataset.evaluate_detections("masks", compute_mAP=True, **call).mAP() > 0.8
    assert dataset.evaluate_detections("masks", method="open-images", **call).mAP() > 0.8
    assert fom.evaluate(dataset, "masks", "truth").ap["AP"] > 0.8


def test_a_prompts_confidence_stays_and_its_masks_does_not(model, make_dataset):
    dataset = make_dataset({"detections": detections(*BOXES, confidence=0.25), "points": keypoints([LEFT[0]])})
    dataset.apply_model(model, label_field="masks", prompt_field="detections")
    assert [mask.confidence for mask in masks_of(dataset)] == [0.25, 0.25]
    dataset.apply_model(model, label_field="of_points", prompt_field="points")
    [first] = masks_of(dataset, "of_points")
    assert first.confidence == own_of(first)
    dataset.apply_model(model, label_field="again", prompt_field="of_points")
    [second] = masks_of(dataset, "again")
    assert second.confidence == own_of(second) != first.confidence


def test_a_failure_has_none(model, make_dataset):
    dataset = make_dataset({"detections": detections(BOXES[0], [2, 2, 1, 1])})
    dataset.apply_model(model, label_field="masks", prompt_field="detections")
    assert [mask.confidence is None for mask in masks_of(dataset)] == [False, True]


def test_a_job_in_place_goes_on_and_is_undone(make_dataset):
    dataset = make_dataset({"detections": detections(*BOXES)}, {"detections": detections(BOXES[0], confidence=0.5)})
    assert counts(label(dataset, label_field="detections", in_place=True)) == (2, 0, 0)
    masks = masks_of(dataset, "detections")
    assert [mask.confidence for mask in masks] == [own_of(masks[0]), own_of(masks[1]), 0.5]
    assert counts(label(dataset, label_field="detections", in_place=True)) == (0, 2, 0)
    others = {"in_place": True, "min_region_area": 50, "clip": False, "box": "mask"}
    assert counts(label(dataset, label_field="detections", **others)) == (2, 0, 0)
    dataset.reload()
    again = masks_of(dataset, "detections")
    assert [mask.confidence for mask in again] == [own_of(again[0]), own_of(again[1]), 0.5]
    undo_run(dataset)
    dataset.reload()
    assert dataset.values("detections.detections.confidence") == [[None, None], [0.5]]
    assert dataset.count("detections.detections.mask") == 0


@pytest.mark.parametrize("in_place", [False, True])
def test_labels_of_an_earlier_version_have_none_and_stay(make_dataset, in_place):
    dataset = make_dataset({"detections": detections(*BOXES)})
    field = "detections" if in_place else "masks"
    label(dataset, label_field=field, in_place=in_place)
    dataset.set_values(f"{field}.detections.confidence", [[None, None]])
    before = raw(dataset, field)
    assert counts(label(dataset, label_field=field, in_place=in_place)) == (0, 1, 0)
    assert raw(dataset, field) == before


def test_prompts_with_their_masks_number_keep_the_names_that_they_had(make_dataset):
    """Masks of everything had their predicted IoU before; what was made from them stays."""
    from fiftyone_mobilesam.keep import names_of

    prompt = {"_cls": "Detection", "bounding_box": [0.1, 0.1, 0.2, 0.2], "confidence": 0.9, "predicted_iou": 0.9}
    plain = {name: value for name, value in prompt.items() if name != "predicted_iou"}
    for masks in (False, True):
        assert names_of(plain, masks=masks)[0] in names_of(prompt, masks=masks)
        less = {name: value for name, value in plain.items() if name != "confidence"}
        assert names_of(prompt, masks=masks)[0] == names_of(less, masks=masks)[0]


def test_a_retry_has_the_number_of_its_own_mask(model, make_dataset):
    dataset = make_dataset({"detections": detections(BOXES[0]), "sure": detections(BOXES[0], confidence=0.5)})
    for prompts, field in (("detections", "masks"), ("sure", "sure_masks")):
        dataset.apply_model(model, label_field=field, prompt_field=prompts)
        review = Review(dataset, field)
        seen = review.load(review.worst_first()[0])
        change = retry(review, seen, "candidate", model)
        dataset.reload()
        [new] = masks_of(dataset, field)
        assert new["predicted_iou"] != seen.document["predicted_iou"]
        assert new.confidence == (own_of(new) if field == "masks" else 0.5)
        review.undo(change)
        dataset.reload()
        assert masks_of(dataset, field)[0].confidence == seen.document["confidence"]


def test_tracks(video):
    label(video, "frames.detections", "frames.tracks", propagate=True)
    made = [mask for frame in video.first().frames.values() if frame.tracks for mask in frame.tracks.detections]
    assert len(made) > 3
    assert all(mask.confidence == own_of(mask) for mask in made)
    assert counts(label(video, "frames.detections", "frames.tracks", propagate=True))[0] == 0
