"""Detect, then segment: FiftyOne's zoo, masks of its boxes, an evaluation."""

import json

import fiftyone as fo
import pytest
from operator_calls import form, messages, run
from scenes import LEFT, RIGHT, ellipse_mask


@pytest.fixture
def dataset(operator_dataset):
    return operator_dataset


@pytest.fixture
def scene_detector(tmp_path):
    """The name of a detector that FiftyOne's zoo has for this test."""
    entry = {
        "base_name": "scene-detector-torch",
        "base_filename": None,
        "description": "ellipses",
        "size_bytes": 1,
        "default_deployment_config_dict": {"type": "scene_detector.SceneDetector", "config": {}},
        "requirements": {"packages": ["numpy"], "cpu": {"support": True}, "gpu": {"support": True}},
        "tags": ["detection", "torch"],
    }
    manifest = tmp_path / "zoo.json"
    manifest.write_text(json.dumps({"models": [entry]}))
    before, fo.config.model_zoo_manifest_paths = fo.config.model_zoo_manifest_paths, [str(manifest)]
    yield "scene-detector-torch"
    fo.config.model_zoo_manifest_paths = before


def test_detect_then_segment_then_evaluate(plugin, make_dataset, scene_detector):
    truth = fo.Detections(
        detections=[fo.Detection.from_mask(ellipse_mask(*ellipse), label="ellipse") for ellipse in (LEFT, RIGHT)]
    )
    dataset = make_dataset({"truth": truth})
    params = {"detector": scene_detector, "gt_field": "truth"}
    assert "problem" not in form(plugin, "detect_then_segment", dataset, **params)
    result = run(plugin, "detect_then_segment", dataset, params=params)
    json.dumps(result)
    assert (result["boxes"], result["masks"], result["label_field"]) == (2, 2, "predictions_masks")
    assert result["evaluation"]["masks"] is True
    assert result["evaluation"]["mAP"] > 0.8
    assert dataset.has_evaluation("predictions_masks_eval")
    problem = form(plugin, "detect_then_segment", dataset, **params)["problem"]["error_message"]
    assert "must be a new field" in problem
    fresh = {"boxes_field": "b", "label_field": "m", **params}
    sent = messages(plugin, "detect_then_segment", dataset, **fresh)
    assert "mAP" in json.dumps(sent[-1])
    assert "Detecting" in json.dumps(sent)


@pytest.mark.parametrize("detector", ["", "no-such-detector", "/etc/passwd", "runs/best.pt"])
def test_only_detectors_of_the_zoo(plugin, dataset, detector):
    problem = form(plugin, "detect_then_segment", dataset, detector=detector)["problem"]
    assert "etector" in problem["error_message"]


def test_ultralytics_names_of_detectors():
    from fiftyone_mobilesam.app.recipe import zoo_name

    assert zoo_name("yolo11n.pt") == "yolo11n-coco-torch"
    assert zoo_name("faster-rcnn-resnet50-fpn-coco-torch") == "faster-rcnn-resnet50-fpn-coco-torch"
