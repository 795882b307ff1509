"""`in_place=True` fills the masks of detections that exist, and touches nothing else."""

import numpy as np
from fiftyone import ViewField as F
from scenes import LEFT, RIGHT, detections, ellipse_box, ellipse_mask, full_mask, iou

BOXES = ellipse_box(*LEFT), ellipse_box(*RIGHT)


def apply_in_place(model, samples, **kwargs):
    samples.apply_model(model, label_field="detections", prompt_field="detections", in_place=True, **kwargs)


def test_masks_are_filled_and_ids_kept(model, make_dataset):
    dataset = make_dataset({"detections": detections(*BOXES, confidence=0.5, iscrowd=0)})
    ids = dataset.values("detections.detections.id")
    apply_in_place(model, dataset)
    assert dataset.values("detections.detections.id") == ids
    for label, ellipse in zip(dataset.first().detections.detections, (LEFT, RIGHT), strict=True):
        assert iou(full_mask(label), ellipse_mask(*ellipse)) > 0.97
        assert (label.confidence, label["iscrowd"]) == (0.5, 0)
    assert "detections.detections.predicted_iou" in dataset.get_field_schema(flat=True)


def test_boxes_move_less_than_a_pixel(model, make_dataset):
    box = [40.4 / 320, 50.6 / 240, 100.3 / 320, 139.9 / 240]
    dataset = make_dataset({"detections": detections(box)})
    apply_in_place(model, dataset)
    moved = dataset.first().detections.detections[0].bounding_box
    assert np.abs((np.array(moved) - box) * [320, 240, 320, 240]).max() < 2  # the size moves at two edges


def test_a_filtered_view_keeps_the_hidden_labels(model, make_dataset):
    dataset = make_dataset({"detections": detections(*BOXES)})
    apply_in_place(model, dataset.filter_labels("detections", F("label") == "b"))
    first, second = dataset.first().detections.detections
    assert (first.label, first.mask) == ("a", None)
    assert iou(full_mask(second), ellipse_mask(*RIGHT)) > 0.97


def test_selected_labels(model, make_dataset):
    dataset = make_dataset({"detections": detections(*BOXES)}, {"detections": detections(*BOXES)})
    chosen = dataset.last().detections.detections[0].id
    apply_in_place(model, dataset.select_labels(ids=[chosen]))
    filled = [label.id for sample in dataset for label in sample.detections.detections if label.mask is not None]
    assert filled == [chosen]


def test_a_patches_view_writes_to_the_dataset(model, make_dataset):
    dataset = make_dataset({"detections": detections(*BOXES)})
    apply_in_place(model, dataset.to_patches("detections"))
    for label, ellipse in zip(dataset.first().detections.detections, (LEFT, RIGHT), strict=True):
        assert iou(full_mask(label), ellipse_mask(*ellipse)) > 0.97


def test_a_failure_keeps_the_mask_that_was_there(model, make_dataset):
    prompts = detections([0.5, 0.5, 0.0, 0.0])
    prompts.detections[0].mask = np.ones((4, 4), dtype=bool)
    dataset = make_dataset({"detections": prompts})
    apply_in_place(model, dataset)
    label = dataset.first().detections.detections[0]
    assert label.mask.all()
    assert "x2 > x1" in label["failure"]
    assert label.bounding_box == [0.5, 0.5, 0.0, 0.0]
