"""FiftyOne's built-in SAM code runs on our model: `mobilesam` in the place of `segment_anything`."""

import sys

import fiftyone.utils.sam as fous
import pytest
from scenes import LEFT, RIGHT, detections, ellipse_box, ellipse_mask, full_mask, iou, keypoints

import mobilesam


@pytest.fixture
def builtin(checkpoint, monkeypatch):
    """FiftyOne's model around `mobilesam`."""
    monkeypatch.setitem(sys.modules, "segment_anything", mobilesam)
    monkeypatch.setattr(fous, "sam", mobilesam)
    config = {
        "entrypoint_fcn": "mobilesam.build_sam_vit_t",
        "model_path": str(checkpoint),
        "auto_kwargs": {"points_per_side": 4},
    }
    return fous.SegmentAnythingModel(fous.SegmentAnythingModelConfig(config))


@pytest.mark.parametrize(
    "prompts", [detections(ellipse_box(*LEFT), ellipse_box(*RIGHT)), keypoints([(90, 120), (85, 110)], [(240, 100)])]
)
def test_prompts(builtin, make_dataset, prompts):
    dataset = make_dataset({"prompts": prompts}, {"prompts": prompts})
    dataset.apply_model(builtin, label_field="masks", prompt_field="prompts", batch_size=2)
    for sample in dataset:
        for detection, ellipse in zip(sample.masks.detections, (LEFT, RIGHT), strict=True):
            assert iou(full_mask(detection), ellipse_mask(*ellipse)) > 0.95


def test_everything(builtin, make_dataset):
    dataset = make_dataset({})
    dataset.apply_model(builtin, label_field="everything")
    found = dataset.first().everything.detections
    for detection in found:
        detection.label = "thing"  # full_mask paints by label
    for ellipse in (LEFT, RIGHT):
        assert max(iou(full_mask(detection), ellipse_mask(*ellipse)) for detection in found) > 0.95
