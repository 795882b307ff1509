"""N prompts in, N linked records out, on the real database."""

import json
from functools import partial
from pathlib import Path

import cv2
import fiftyone as fo
import numpy as np
import pytest
from pycocotools.coco import COCO
from scenes import LEFT, RIGHT, detections, ellipse_box, ellipse_mask, full_mask, iou, keypoints

import fiftyone_mobilesam as fom
from mobilesam import FieldError, SamPredictor

BOXES = ellipse_box(*LEFT), ellipse_box(*RIGHT)


def test_boxes_give_the_masks_of_their_objects(model, make_dataset):
    dataset = make_dataset({"detections": detections(*BOXES)})
    dataset.apply_model(model, label_field="masks", prompt_field="detections")
    masks = dataset.first().masks.detections
    assert [d.label for d in masks] == ["a", "b"]
    assert iou(full_mask(masks[0]), ellipse_mask(*LEFT)) > 0.97
    assert iou(full_mask(masks[1]), ellipse_mask(*RIGHT)) > 0.97
    assert all(d.predicted_iou > 0.9 and d.stability_score > 0.9 and d["failure"] is None for d in masks)


def test_keypoints_give_the_masks_of_their_objects(model, make_dataset):
    points = keypoints([(90, 120)], [(240, 100), (230, 90)])
    dataset = make_dataset({"keypoints": points}, {"keypoints": points})
    dataset.apply_model(model, label_field="masks", prompt_field="keypoints", batch_size=4, num_workers=2)
    for sample in dataset:
        masks = sample.masks.detections
        assert iou(full_mask(masks[0]), ellipse_mask(*LEFT)) > 0.95
        assert iou(full_mask(masks[1]), ellipse_mask(*RIGHT)) > 0.95


def test_everything_of_the_prompt_is_kept_and_linked(model, make_dataset):
    prompts = detections(*BOXES, confidence=0.42, tags=["x", "y"], index=7, iscrowd=1, supercategory="shape")
    prompts.detections[0].instance = fo.Instance()
    dataset = make_dataset({"detections": prompts})
    before = dataset.first().detections.to_dict()
    dataset.apply_model(model, label_field="masks", prompt_field="detections")
    sample = dataset.first()
    assert sample.detections.to_dict() == before  # the prompts are as they were
    for prompt, mask in zip(sample.detections.detections, sample.masks.detections, strict=True):
        assert mask["prompt_id"] == prompt.id != mask.id
        assert (mask.label, mask.confidence, mask.tags, mask.index) == (prompt.label, 0.42, ["x", "y"], 7)
        assert (mask["iscrowd"], mask["supercategory"]) == (1, "shape")
        assert mask.instance_id == prompt.instance_id
    assert sample.masks.detections[0].instance_id is not None


def test_attributes_are_declared_in_the_schema(model, make_dataset):
    dataset = make_dataset({"detections": detections(*BOXES, iscrowd=0)})
    dataset.apply_model(model, label_field="masks", prompt_field="detections")
    schema = dataset.get_field_schema(flat=True)
    for name, kind in {
        "predicted_iou": fo.FloatField,
        "stability_score": fo.FloatField,
        "prompt_id": fo.StringField,
    }.items():
        assert isinstance(schema[f"masks.detections.{name}"], kind)
    assert "masks.detections.iscrowd" in schema


def test_confidence_can_be_the_predicted_iou(model, make_dataset):
    dataset = make_dataset({"detections": detections(BOXES[0], confidence=0.1)})
    dataset.apply_model(model, label_field="masks", prompt_field="detections", confidence="predicted_iou")
    mask = dataset.first().masks.detections[0]
    assert mask.confidence == pytest.approx(min(1, mask.predicted_iou))


@pytest.mark.parametrize("kind", ["Detection", "Keypoint", "Polyline", "Polylines"])
def test_other_label_types_are_prompts_too(model, make_dataset, kind):
    x, y, w, h = BOXES[0]
    outline = [[(x, y + h / 2), (x + w / 2, y), (x + w, y + h / 2), (x + w / 2, y + h)]]
    label = {
        "Detection": lambda: detections(BOXES[0]).detections[0],
        "Keypoint": lambda: keypoints([(90, 120)]).keypoints[0],
        "Polyline": lambda: fo.Polyline(label="a", points=outline, closed=True),
        "Polylines": lambda: fo.Polylines(polylines=[fo.Polyline(label="a", points=outline, closed=True)]),
    }[kind]()
    dataset = make_dataset({"prompts": label})
    dataset.apply_model(model, label_field="masks", prompt_field="prompts")
    [mask] = dataset.first().masks.detections
    assert mask.label == "a"
    assert iou(full_mask(mask), ellipse_mask(*LEFT)) > 0.95


def test_a_negative_point_changes_the_mask(model, make_dataset):
    both = [(90, 120), (240, 100)]
    dataset = make_dataset(
        {"keypoints": keypoints(both, sam_labels=[1, 0])}, {"keypoints": keypoints(both, sam_labels=[1, 1])}
    )
    dataset.apply_model(model, label_field="masks", prompt_field="keypoints")
    negative, positive = (full_mask(sample.masks.detections[0]) for sample in dataset)
    assert iou(negative, ellipse_mask(*LEFT)) > 0.95
    assert iou(positive, ellipse_mask(*LEFT)) < 0.8


@pytest.mark.parametrize(
    "attributes",
    [
        {"confidence": [0.9, 0.1]},
        {"visible": [2, 0]},
        {"points": [(90 / 320, 120 / 240), (float("nan"), float("nan"))]},
    ],
    ids=["low confidence", "invisible", "NaN"],
)
def test_points_without_meaning_are_left_out(model, make_dataset, attributes):
    alone = keypoints([(90, 120)])
    label = keypoints([(90, 120), (240, 100)])
    for name, value in attributes.items():
        label.keypoints[0][name] = value
    dataset = make_dataset({"keypoints": alone}, {"keypoints": label})
    dataset.apply_model(model, label_field="masks", prompt_field="keypoints")
    first, second = (sample.masks.detections[0] for sample in dataset)
    assert np.array_equal(full_mask(first), full_mask(second))


def test_box_and_point_fields_together(model, make_dataset):
    """The point on the left ellipse belongs to the box of both by `index`; the other point has no box."""
    boxes = detections([0.1, 0.15, 0.85, 0.75])
    boxes.detections[0].index = 3
    points = keypoints([(240, 100)], [(90, 120)])
    points.keypoints[1].index = 3
    dataset = make_dataset({"boxes": boxes, "points": points})
    dataset.apply_model(model, label_field="masks", box_prompt_field="boxes", point_prompt_field="points")
    masks = dataset.first().masks.detections
    assert [m["prompt_id"] for m in masks] == [boxes.detections[0].id, points.keypoints[0].id]
    assert full_mask(masks[0])[120, 90]
    assert iou(full_mask(masks[1]), ellipse_mask(*RIGHT)) > 0.95


def test_box_and_point_lists_of_one_length_pair_by_position(model, make_dataset):
    dataset = make_dataset({"boxes": detections(*BOXES), "points": keypoints([(90, 120)], [(240, 100)])})
    dataset.apply_model(model, label_field="masks", box_prompt_field="boxes", point_prompt_field="points")
    masks = dataset.first().masks.detections
    assert len(masks) == 2
    assert iou(full_mask(masks[1]), ellipse_mask(*RIGHT)) > 0.95


def test_everything_is_segmented_without_a_prompt_field(model, make_dataset, tmp_path):
    blank = tmp_path / "blank.png"
    cv2.imwrite(str(blank), np.zeros((40, 60, 3), np.uint8))
    dataset = make_dataset({"detections": detections(*BOXES)}, {"filepath": str(blank)}, {"filepath": "/missing.png"})
    options = {"points_per_side": 8, "pred_iou_thresh": 0.95}
    for _ in range(2):  # a second run may overwrite the first
        dataset.apply_model(model, label_field="everything", everything=options, batch_size=2)
    first, second, missing = dataset
    found = first.everything.detections
    for ellipse in (LEFT, RIGHT):
        best = max(found, key=lambda d: iou(full_mask(d), ellipse_mask(*ellipse)))
        assert iou(full_mask(best), ellipse_mask(*ellipse)) > 0.95
        assert best.confidence == min(1, best.predicted_iou) > 0.95
        assert best.stability_score > 0.95
    assert missing.everything is None
    assert second.everything is not None
    assert model.last_run.masks == len(found) + len(second.everything.detections)
    assert model.last_run.failed == 1
    schema = dataset.get_field_schema(flat=True)
    assert isinstance(schema["everything.detections.stability_score"], fo.FloatField)


def test_a_second_run_replaces_the_first(model, make_dataset):
    dataset = make_dataset({"one": detections(*BOXES), "two": detections(BOXES[1])})
    dataset.apply_model(model, label_field="masks", prompt_field="one")
    dataset.apply_model(model, label_field="masks", prompt_field="two")
    assert len(dataset.first().masks.detections) == 1


def test_options_of_the_model_are_defaults_of_the_call(sam, make_dataset):
    from fiftyone_mobilesam.options import Options
    from fiftyone_mobilesam.zoo import MobileSAMModel

    model = MobileSAMModel(SamPredictor(sam, fast=True), Options(prompt_field="detections", confidence="predicted_iou"))
    dataset = make_dataset({"detections": detections(BOXES[0]), "other": detections(*BOXES)})
    dataset.apply_model(model, label_field="masks")
    assert dataset.first().masks.detections[0].confidence is not None
    dataset.apply_model(model, label_field="masks2", prompt_field="other", confidence="prompt")
    assert all(d.confidence == d.mask_quality for d in dataset.first().masks2.detections)
    dataset.apply_model(model, label_field="masks3")  # and the call's options are gone with the call
    assert len(dataset.first().masks3.detections) == 1


CONFIGURATION_MISTAKES = [
    ({"prompt_field": "nope"}, FieldError, "detections"),
    ({"label_field": "detections", "prompt_field": None}, FieldError, "overwritten"),
    ({"everything": {"points": 3}}, TypeError, "points"),
    ({"everything": {"output_mode": "png"}}, ValueError, "coco_rle"),
    ({"in_place": True, "label_field": "detections"}, FieldError, "same name"),
    ({"prompt_field": "metadata"}, FieldError, "of ImageMetadata"),
    ({"prompt_field": "detections", "label_field": "detections"}, FieldError, "in_place=True"),
    ({"prompt_field": "detections", "label_field": "filepath"}, FieldError, "another type"),
    ({"prompt_field": "detections", "in_place": True}, FieldError, "same name"),
    ({"point_prompt_field": "detections"}, FieldError, "Keypoints"),
    ({"prompt_field": "detections", "point_prompt_field": "detections"}, ValueError, "stand alone"),
    ({"prompt_field": "detections", "bx": "mask"}, TypeError, "spelling"),
    ({"prompt_field": "detections", "box": "tight"}, ValueError, "'mask'"),
    ({"prompt_field": "detections", "clip": -1}, ValueError, "fraction"),
    ({"prompt_field": "detections", "clip": False, "box": "prompt"}, ValueError, "clip=True"),
]


@pytest.mark.parametrize(("kwargs", "error", "text"), CONFIGURATION_MISTAKES)
def test_a_configuration_mistake_fails_before_the_first_image(model, make_dataset, monkeypatch, kwargs, error, text):
    dataset = make_dataset({"detections": detections(BOXES[0])})
    monkeypatch.setattr(model, "predict_all", lambda *a, **k: pytest.fail("an image was processed"))
    with pytest.raises(error, match=text):
        dataset.apply_model(model, **{"label_field": "masks", **kwargs})
    assert "masks" not in dataset.get_field_schema()


def test_the_model_can_be_called_without_a_run(model, make_dataset, scene_file):
    dataset = make_dataset({"detections": detections(*BOXES)})
    model.needs_fields = {"prompt_field": "detections"}
    image = cv2.imread(str(scene_file))[..., ::-1]
    label = model.predict(np.ascontiguousarray(image), sample=dataset.first())
    assert len(label.detections) == 2
    model.needs_fields = {}


def test_load_model_works_offline_and_takes_defaults():
    loaded = fom.load_model(device="cpu", prompt_field="detections")
    assert loaded.config.prompt_field == "detections"
    assert loaded.needs_fields == {"prompt_field": "detections"}


def test_every_instance_of_coco_images_is_accounted_for(model, coco50, soak):
    """And the masks are as good as upstream's: mean IoU 0.72 on all 50 with clipped boxes as prompts.

    50 images with `--soak`, else 12.
    """
    data = json.loads((coco50 / "instances.json").read_text())
    dataset = fo.Dataset.from_dir(
        dataset_type=fo.types.COCODetectionDataset,
        data_path=str(coco50 / "images"),
        labels_path=str(coco50 / "instances.json"),
        label_field="truth",
        label_types="segmentations",
        max_samples=None if soak else 12,
    )
    [field] = [name for name in dataset.get_field_schema() if name.startswith("truth") and "id" not in name]
    try:
        dataset.apply_model(model, label_field="masks", prompt_field=field, batch_size=4, num_workers=1)
        ids = dataset.values(f"{field}.detections.id")
        assert dataset.values("masks.detections.prompt_id") == [x or [] for x in ids]
        names = {Path(path).name for path in dataset.values("filepath")}
        shown = {record["id"] for record in data["images"] if record["file_name"] in names}
        assert sum(len(x or []) for x in ids) == sum(a["image_id"] in shown for a in data["annotations"])
        assert model.last_run.done == len(dataset) == (len(data["images"]) if soak else 12)
        # Against COCO's own masks: FiftyOne's copies of them lie on boxes that are not whole pixels.
        coco, ious = COCO(str(coco50 / "instances.json")), []
        image_ids = {record["file_name"]: record["id"] for record in data["images"]}
        for sample in dataset.iter_samples():
            truths = coco.imgToAnns[image_ids[sample.filename]]
            for truth, mask in zip(truths, sample.masks.detections, strict=True):
                if not truth["iscrowd"]:
                    size = sample.metadata.width, sample.metadata.height
                    ious.append(iou(coco.annToMask(truth).astype(bool), full_mask(mask, size)))
        assert np.mean(ious) >= 0.70
    finally:
        dataset.delete()


@pytest.mark.parametrize("call", ["directly", "in its context"])
def test_merge_without_a_field_to_merge_with_is_an_error_and_replaces_nothing(model, make_dataset, call):
    """FiftyOne does not tell a model where its labels go; if that is not found either, nothing may be lost."""
    dataset = make_dataset({"detections": detections(ellipse_box(*LEFT))})
    model.needs_fields = {"prompt_field": "detections", "merge": True}
    try:
        predict = partial(model.predict_all, [dataset.first().filepath], samples=[dataset.first()])
        with pytest.raises(ValueError, match=r"merge=True must go with dataset\.apply_model"):
            predict() if call == "directly" else model.__enter__()
    finally:
        model.needs_fields = {}


@pytest.mark.parametrize(("error", "state"), [(KeyboardInterrupt(), "interrupted"), (OSError("full"), "stopped")])
def test_the_report_says_how_a_run_ended(model, make_dataset, error, state):
    def end(bar):
        raise error

    dataset = make_dataset({"boxes": detections(*BOXES)})
    with pytest.raises(type(error)):
        dataset.apply_model(model, label_field="masks", prompt_field="boxes", progress=end)
    assert (model.last_run.state, model.last_run.reason) == (state, "OSError: full" if state == "stopped" else None)


def test_a_refused_call_leaves_no_field_behind(model, make_dataset):
    dataset = make_dataset({"boxes": detections(*BOXES)})
    with pytest.raises(FieldError, match="must not be a prompt field"):
        dataset.apply_model(model, label_field="boxes", prompt_field="boxes")
    model.needs_fields = {"prompt_field": "boxes", "merge": True}
    try:
        with pytest.raises(ValueError, match="the field to merge with is not known"):
            model.predict_all([dataset.first().filepath], samples=[dataset.first()])
    finally:
        model.needs_fields = {}
