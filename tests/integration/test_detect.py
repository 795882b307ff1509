"""Detect, then segment: FiftyOne's zoo, masks of its boxes, an evaluation."""

import json

import fiftyone as fo
import numpy as np
import pytest
import requests
from operator_calls import form, messages, run
from scenes import LEFT, RIGHT, ellipse_mask

from mobilesam.errors import CheckpointError, MissingPackageError


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
    again = {**params, "boxes_field": "predictions"}
    problem = form(plugin, "detect_then_segment", dataset, **again)["problem"]["error_message"]
    assert "must be a new field" in problem
    fresh = {"boxes_field": "b", "label_field": "m", **params}
    sent = messages(plugin, "detect_then_segment", dataset, **fresh)
    assert "mAP" in json.dumps(sent[-1])
    assert "Detecting" in json.dumps(sent)


@pytest.mark.parametrize("detector", ["", "no-such-detector", "/etc/passwd", "runs/best.pt"])
def test_only_detectors_of_the_zoo(plugin, dataset, detector):
    problem = form(plugin, "detect_then_segment", dataset, detector=detector)["problem"]
    assert "etector" in problem["error_message"]


def test_ultralytics_names_of_detectors(dataset):
    from fiftyone_mobilesam.app.detectors import find_detector

    assert find_detector(dataset, "yolo11n.pt").name == "yolo11n-coco-torch"
    name = "faster-rcnn-resnet50-fpn-coco-torch"
    assert find_detector(dataset, name).name == name


def test_the_form_opens_with_what_runs_here(plugin, dataset, tmp_path, monkeypatch):
    (tmp_path / "ours.pt").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    inputs = form(plugin, "detect_then_segment", dataset)
    assert "problem" not in inputs
    choices = {choice["value"]: choice["description"] for choice in inputs["detector"]["view"]["choices"]}
    assert list(choices)[:2] == ["boxes", str(tmp_path / "ours.pt")]
    assert inputs["detector"]["default"] == "boxes"
    assert "Nothing is detected" in inputs["note"]["view"]["label"]
    assert not [name for name in choices if "ocr" in name or "obb" in name]
    assert choices["yolo11n-coco-torch"] == "Download: 6 MB"
    assert "6 MB" in form(plugin, "detect_then_segment", dataset, detector="yolo11n.pt")["note"]["view"]["label"]


def test_boxes_that_are_there_are_segmented(plugin, dataset):
    result = run(plugin, "detect_then_segment", dataset, params={"detector": "boxes"})
    assert (result["boxes"], result["masks"], result["boxes_field"]) == (6, 5, "boxes")
    assert result["label_field"] == "boxes_masks"


def test_a_file_of_weights_that_is_here_detects(plugin, dataset, tmp_path):
    ultralytics = pytest.importorskip("ultralytics", reason="ultralytics, whose weights are loaded, is not installed")
    path = tmp_path / "ours.pt"
    ultralytics.YOLO("yolo11n.yaml").save(path)  # random weights: boxes of anything
    params = {"detector": str(path), "confidence_thresh": 0}
    assert "problem" not in form(plugin, "detect_then_segment", dataset, **params)
    from fiftyone_mobilesam.app.detectors import find_detector, load

    assert load(find_detector(dataset, str(path)), ()).predict(np.zeros((64, 64, 3), "uint8")) is not None
    path.write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match=r"must hold a detector of Ultralytics, got .*ours\.pt"):
        load(find_detector(dataset, str(path)), ())


def test_offline_it_says_what_to_do(plugin, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(fo.config, "model_zoo_dir", str(tmp_path))

    def offline(*_, **__):
        raise requests.exceptions.ConnectionError("HTTPSConnectionPool(host='github.com', port=443): Max retries")

    monkeypatch.setattr(requests.sessions.Session, "request", offline)
    sent = messages(plugin, "detect_then_segment", dataset, detector="yolo11n.pt")
    text = json.dumps(sent[-1])
    assert "HTTPSConnectionPool" not in text
    assert "must be downloaded first (6 MB)" in text
    assert "choose boxes that a field has" in text


def test_a_missing_package_is_named_with_the_command_that_installs_it(plugin, dataset, monkeypatch):
    from fiftyone_mobilesam.app import detectors

    def version(name):
        if name == "ultralytics":
            raise detectors.metadata.PackageNotFoundError(name)
        return "99"

    monkeypatch.setattr(detectors.metadata, "version", version)
    problem = form(plugin, "detect_then_segment", dataset, detector="yolo11n.pt")["problem"]["error_message"]
    assert problem.endswith('Run: pip install "ultralytics>=8.3.0"')
    with pytest.raises(MissingPackageError, match="pip install"):
        detectors.load(detectors.find_detector(dataset, "yolo11n.pt"), ())
