"""What FiftyOne's own SAM model does wrong with the same weights, each shown to be absent here.

A check is one function. It must pass on our model and must fail on the built-in one: the day it passes there, the
test says so, and the claim goes.
"""

import math
import pickle
import shutil
import subprocess
import sys

import fiftyone as fo
import pytest
from PIL import Image
from scenes import LEFT, detections, draw_scene, ellipse_box, ellipse_mask, full_mask, iou, keypoints

GOOD = ellipse_box(*LEFT)


@pytest.fixture(scope="module")
def builtin(checkpoint):
    """`fiftyone.utils.sam.SegmentAnythingModel` around upstream MobileSAM."""
    mobile_sam = pytest.importorskip("mobile_sam", reason="mobilesam-mirror, the code for the peer, is not installed")
    had = sys.modules.get("segment_anything")
    sys.modules["segment_anything"] = mobile_sam
    from fiftyone.utils.sam import SegmentAnythingModel, SegmentAnythingModelConfig

    config = {
        "entrypoint_fcn": "mobile_sam.build_sam.build_sam_vit_t",
        "model_path": str(checkpoint),
    }
    yield SegmentAnythingModel(SegmentAnythingModelConfig(config))
    del sys.modules["segment_anything"]
    if had is not None:
        sys.modules["segment_anything"] = had


def run(model, dataset, field="detections"):
    """Apply a model in one batch and return the lists of detections, None where there is no label."""
    dataset.apply_model(model, label_field="masks", prompt_field=field, batch_size=len(dataset), num_workers=0)
    written = [sample["masks"] if sample.has_field("masks") else None for sample in dataset]
    return [None if label is None else label.detections for label in written]


def check_good(detection, ellipse=LEFT):
    assert iou(full_mask(detection), ellipse_mask(*ellipse)) > 0.95


def an_image_without_boxes_costs_its_batch(model, make_dataset, tmp_path):
    first, second = run(model, make_dataset({"detections": detections(GOOD)}, {"detections": fo.Detections()}))
    check_good(first[0])
    assert second == []


def an_unreadable_image_costs_its_batch(model, make_dataset, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    samples = {"detections": detections(GOOD)}, {"filepath": str(bad), "detections": detections(GOOD)}
    check_good(run(model, make_dataset(*samples))[0][0])


def a_box_over_the_left_edge_gets_no_mask(model, make_dataset, tmp_path):
    path = tmp_path / "edge.png"
    Image.fromarray(draw_scene([((12, 120), (24, 50))])).save(path)
    [[mask]] = run(
        model, make_dataset({"filepath": str(path), "detections": detections([-12 / 320, 0.28, 0.16, 0.44])})
    )
    assert mask.mask.sum() > 1000


def a_box_over_the_right_edge_stays_outside(model, make_dataset, tmp_path):
    path = tmp_path / "edge.png"
    Image.fromarray(draw_scene([((310, 120), (24, 50))])).save(path)
    [[mask]] = run(model, make_dataset({"filepath": str(path), "detections": detections([0.89, 0.28, 0.16, 0.44])}))
    assert mask.bounding_box[0] + mask.bounding_box[2] <= 1


def a_box_outside_vanishes(model, make_dataset, tmp_path):
    [found] = run(model, make_dataset({"detections": detections(GOOD, [1.5, 0.1, 0.2, 0.2])}))
    assert [d.label for d in found] == ["a", "b"]


def a_nan_box_vanishes(model, make_dataset, tmp_path):
    [found] = run(model, make_dataset({"detections": detections(GOOD, [math.nan, 0.1, 0.2, 0.2])}))
    assert [d.label for d in found] == ["a", "b"]


def a_missing_box_costs_its_batch(model, make_dataset, tmp_path):
    prompts = fo.Detections(detections=[fo.Detection(label="a"), *detections(GOOD).detections])
    [found] = run(model, make_dataset({"detections": prompts}))
    check_good(found[1])


def mask_and_box_are_not_aligned(model, make_dataset, tmp_path):
    box = [41.4 / 320, 51.4 / 240, 97.3 / 320, 137.4 / 240]
    [[mask]] = run(model, make_dataset({"detections": detections(box)}))
    assert full_mask(mask).sum() == mask.mask.sum()


def a_keypoint_of_nan_points_gets_a_mask(model, make_dataset, tmp_path):
    prompts = keypoints([(90, 120)], [(math.nan, math.nan)])
    [found] = run(model, make_dataset({"keypoints": prompts}), "keypoints")
    assert [d.mask is not None for d in found] == [True, False]


def an_empty_keypoint_costs_its_batch(model, make_dataset, tmp_path):
    [found] = run(model, make_dataset({"keypoints": keypoints([(90, 120)], [])}), "keypoints")
    check_good(found[0])


def everything_but_the_label_is_dropped(model, make_dataset, tmp_path):
    prompts = detections(GOOD, tags=["x"], index=7, iscrowd=0)
    [[mask]] = run(model, make_dataset({"detections": prompts}))
    assert (mask.tags, mask.index, mask["iscrowd"]) == (["x"], 7, 0)


def the_confidence_of_the_detector_is_overwritten(model, make_dataset, tmp_path):
    [[mask]] = run(model, make_dataset({"detections": detections(GOOD, confidence=0.123)}))
    assert mask.confidence == 0.123


def a_single_detection_is_no_prompt(model, make_dataset, tmp_path):
    [[mask]] = run(model, make_dataset({"detections": detections(GOOD).detections[0]}))
    check_good(mask)


def a_polyline_is_no_prompt(model, make_dataset, tmp_path):
    x, y, w, h = GOOD
    outline = fo.Polyline(label="a", points=[[(x, y), (x + w, y), (x + w, y + h), (x, y + h)]], closed=True)
    [[mask]] = run(model, make_dataset({"detections": fo.Polylines(polylines=[outline])}))
    check_good(mask)


def a_truncated_image_is_taken_for_whole(model, make_dataset, tmp_path):
    path = tmp_path / "cut.jpg"
    Image.fromarray(draw_scene([LEFT])).save(path)
    path.write_bytes(path.read_bytes()[:2500])
    assert run(model, make_dataset({"filepath": str(path), "detections": detections(GOOD)})) == [None]


def a_frame_without_prompts_ends_its_video(model, make_dataset, tmp_path):
    if not shutil.which("ffmpeg"):
        pytest.skip("ffmpeg, with which FiftyOne reads videos, is missing")
    for number in (1, 2, 3):
        Image.fromarray(draw_scene([LEFT])).save(tmp_path / f"{number}.png")
    path = tmp_path / "video.mp4"
    command = ["ffmpeg", "-loglevel", "error", "-framerate", "5", "-i", str(tmp_path / "%d.png")]
    subprocess.run([*command, "-pix_fmt", "yuv420p", str(path)], check=True)
    sample = fo.Sample(filepath=str(path))
    sample.frames[1] = fo.Frame(detections=fo.Detections())
    sample.frames[3] = fo.Frame(detections=detections(GOOD))
    dataset = make_dataset()
    dataset.add_sample(sample)
    dataset.apply_model(model, label_field="frames.masks", prompt_field="frames.detections")
    check_good(dataset.first().frames[3].masks.detections[0])


def workers_get_a_copy_of_the_network(model, make_dataset, tmp_path):
    assert len(pickle.dumps(model.build_get_item())) < 100_000


FAILURES = [
    an_image_without_boxes_costs_its_batch,
    an_unreadable_image_costs_its_batch,
    a_box_over_the_left_edge_gets_no_mask,
    a_box_over_the_right_edge_stays_outside,
    a_box_outside_vanishes,
    a_nan_box_vanishes,
    a_missing_box_costs_its_batch,
    mask_and_box_are_not_aligned,
    a_keypoint_of_nan_points_gets_a_mask,
    an_empty_keypoint_costs_its_batch,
    everything_but_the_label_is_dropped,
    the_confidence_of_the_detector_is_overwritten,
    a_single_detection_is_no_prompt,
    a_polyline_is_no_prompt,
    a_truncated_image_is_taken_for_whole,
    a_frame_without_prompts_ends_its_video,
    workers_get_a_copy_of_the_network,
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda check: check.__name__)
def test_absent_here(failure, model, make_dataset, tmp_path):
    failure(model, make_dataset, tmp_path)


@pytest.mark.parametrize("failure", FAILURES, ids=lambda check: check.__name__)
def test_present_in_the_builtin_model(failure, builtin, make_dataset, tmp_path):
    with pytest.raises((AssertionError, TypeError, IndexError, AttributeError, KeyError, ValueError)):
        failure(builtin, make_dataset, tmp_path)
