"""Masks of keypoints say how they go with their skeleton, whatever made them."""

import fiftyone as fo
import pytest
from coco_calls import annotation, coco_folder, image, results, run, write
from job_calls import label
from operator_calls import contents
from scenes import LEFT, RIGHT, detections, ellipse_box, keypoints

from fiftyone_mobilesam.review.review import Review

ON_LEFT = [(90, 120), (50, 120), (130, 120), (90, 60), (90, 180)]
ON_RIGHT = [(240, 100), (203, 100), (277, 100), (240, 47), (240, 153)]
TOLD = "5 of 5 points lie outside the mask"


@pytest.fixture
def mixed_up(make_dataset):
    """Two boxes and two skeletons, of which the second is on the other's object; a box and a click."""
    boxes = detections(ellipse_box(*LEFT), ellipse_box(*LEFT))
    skeletons = keypoints(ON_LEFT, ON_RIGHT)
    clicks = {"boxes": detections(ellipse_box(*LEFT)), "points": keypoints([(90, 120)])}
    return make_dataset({"boxes": boxes, "points": skeletons}, clicks)


def told(dataset, field="masks"):
    masks = [mask for sample in dataset for mask in sample[field].detections]
    return [(mask.get_attribute_value("points_outside"), mask.get_attribute_value("implausible")) for mask in masks[:2]]


def test_apply_model_and_a_job_write_the_same_and_count_it(model, mixed_up):
    fields = {"box_prompt_field": "boxes", "point_prompt_field": "points"}
    mixed_up.apply_model(model, label_field="masks", **fields)
    assert told(mixed_up) == [(0, None), (1, TOLD)]
    assert not mixed_up.last().masks.detections[0].has_attribute("points_outside")
    assert model.last_run.implausible == 1
    assert "1 mask implausible for the skeleton" in str(model.last_run)
    report = label(mixed_up, None, "labelled", **fields)
    assert told(mixed_up, "labelled") == told(mixed_up)
    assert report.implausible == 1
    assert mixed_up.count("labelled.detections.implausible") == 1  # declared in the schema
    before = contents(mixed_up)
    assert label(mixed_up, None, "labelled", **fields).done == 0
    assert contents(mixed_up) == before


def test_the_points_change_no_mask_by_being_compared(model, mixed_up):
    mixed_up.apply_model(model, label_field="masks", prompt_field="points")
    [first, second] = mixed_up.first().masks.detections
    assert first.points_outside == 0
    assert first.implausible is None
    assert second.points_outside == 0  # now the mask is that of the points
    assert first.mask.sum() != second.mask.sum()


def test_a_mask_that_was_a_skeleton_s_hands_nothing_on_to_the_next(model, mixed_up):
    mixed_up.apply_model(model, label_field="masks", box_prompt_field="boxes", point_prompt_field="points")
    mixed_up.apply_model(model, label_field="again", prompt_field="masks")
    assert told(mixed_up, "masks")[1] == (1, TOLD)
    assert not any(mask.has_attribute("implausible") for mask in mixed_up.first().again.detections)
    label(mixed_up, "masks", "masks", in_place=True)  # the prompts are boxes now
    mixed_up.reload()
    assert told(mixed_up, "masks") == [(None, None), (None, None)]


def test_the_review_shows_implausible_masks_first(model, mixed_up):
    mixed_up.apply_model(model, label_field="masks", box_prompt_field="boxes", point_prompt_field="points")
    masks = mixed_up.first().masks.detections
    mixed_up.set_label_values("masks.detections.mask_quality", {masks[0].id: 0.1, masks[1].id: 0.9})
    [first, second, _] = Review(mixed_up, "masks").worst_first()
    assert (first.label_id, second.label_id) == (masks[1].id, masks[0].id)


def test_a_coco_job_writes_it_into_the_annotations(tmp_path):
    folder = coco_folder(tmp_path)
    visible = [value for x, y in ON_LEFT for value in (x, y, 2)]
    boxes = annotation(2, 1, bbox=[40, 50, 100, 140])
    write(folder / "in.json", [image(1, "a.png")], [annotation(1, 1, keypoints=visible), boxes])
    report = run(folder)
    [of_points, of_box] = results(folder)["annotations"]
    assert of_points["points_outside"] == 0
    assert of_points["implausible"] is None
    assert "points_outside" not in of_box
    assert report.implausible == 0


def test_the_skeleton_of_a_prompt_names_it_whatever_was_written_on_its_mask(model, make_dataset):
    """`implausible` on a prompt is no change of the prompt."""
    dataset = make_dataset({"boxes": detections(ellipse_box(*LEFT), ellipse_box(*RIGHT))})
    assert label(dataset, "boxes", "masks").done == 1
    ids = dataset.values("boxes.detections.id", unwind=True)
    dataset.add_sample_field("boxes.detections.implausible", fo.StringField)
    dataset.set_label_values("boxes.detections.implausible", dict.fromkeys(ids, "of a test"))
    assert label(dataset, "boxes", "masks").done == 0
