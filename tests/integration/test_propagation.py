"""Tracks: one box in one frame, masks in all, and an end where the object is gone."""

import cv2
import fiftyone as fo
import numpy as np
import pytest
from PIL import Image
from scenes import LEFT, detections, draw_scene, ellipse_box, ellipse_mask, full_mask, iou

import fiftyone_mobilesam as fom
from mobilesam import MaskCrop
from mobilesam.propagation import innermost_point, overlap

FRAMES = 6


def moving(number):
    """Return the ellipses of a frame, from 0: one goes right, one goes down."""
    return ((70 + 8 * number, 80), (40, 50)), ((240, 80 + 10 * number), (35, 45))


def frames():
    return [draw_scene(moving(number)) for number in range(FRAMES)]


def box_of(crop_mask, x, y):
    height, width = crop_mask.shape
    return MaskCrop((x, y, x + width, y + height), crop_mask, 1.0, 1.0)


@pytest.fixture
def video(tmp_path, make_dataset) -> fo.Dataset:
    """A video with two moving objects, whose boxes are in the first frame only."""
    path = tmp_path / "moving.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 5, (320, 240))
    for frame in frames():
        writer.write(frame[..., ::-1])
    writer.release()
    dataset = make_dataset()
    sample = fo.Sample(filepath=str(path))
    sample.frames[1] = fo.Frame(boxes=detections(*(ellipse_box(*ellipse) for ellipse in moving(0))))
    dataset.add_sample(sample)
    return dataset


def test_two_objects_through_a_video(video, model):
    report = fom.propagate(video, "frames.boxes", "frames.masks", model=model)
    assert (report.tracks, report.images, report.masks, report.ended, report.failed) == (2, 6, 12, [], [])
    video.reload()
    found = [video.first().frames[number + 1].masks.detections for number in range(FRAMES)]
    for number, labels in enumerate(found):
        assert [(label.label, label.index) for label in labels] == [("a", 0), ("b", 1)]
        for label, ellipse in zip(labels, moving(number), strict=True):
            assert iou(full_mask(label), ellipse_mask(*ellipse)) > 0.9
    assert len({label.instance_id for labels in found for label in labels}) == 2
    assert "frames.masks.detections.predicted_iou" in {
        f"frames.{path}" for path in video.get_frame_field_schema(flat=True)
    }


def test_samples_in_order_and_an_object_that_goes(tmp_path, make_dataset, model):
    paths = [tmp_path / f"view{number}.png" for number in range(4)]
    for number, path in enumerate(paths):
        Image.fromarray(draw_scene(moving(number)[: 1 if number >= 2 else 2])).save(path)
    boxes = [ellipse_box(*ellipse) for ellipse in moving(0)]
    samples = [{"filepath": str(path), "place": number} for number, path in enumerate(paths)]
    samples[0]["boxes"] = detections(*boxes)
    dataset = make_dataset(*samples[::-1])
    report = fom.propagate(dataset.sort_by("place"), "boxes", "masks", model=model)
    counts = dict(zip(dataset.values("place"), map(len, dataset.values("masks.detections")), strict=True))
    assert counts == {0: 2, 1: 2, 2: 1, 3: 1}
    [(where, index, reason)] = report.ended
    assert dataset[where]["place"] == 2
    assert index == 1
    assert reason


def test_a_later_prompt_corrects_its_track(video, model):
    sample = video.first()
    for label, index in zip(sample.frames[1].boxes.detections, (7, 8), strict=True):
        label.index = index
    sample.frames[4] = fo.Frame(boxes=detections(ellipse_box(*moving(3)[0]), index=7))
    sample.save()
    report = fom.propagate(video, "frames.boxes", "frames.masks", model=model)
    assert report.tracks == 2
    for number in range(1, FRAMES + 1):
        labels = video.first().frames[number].masks.detections
        assert sorted(label.index for label in labels) == [7, 8]
    instances = {label.instance_id for f in video.first().frames.values() for label in f.masks.detections}
    assert len(instances) == 2


def test_bad_prompts_and_bad_images_cost_themselves(tmp_path, make_dataset, model):
    (tmp_path / "broken.png").write_bytes(b"no image")
    dataset = make_dataset(
        {"boxes": detections(ellipse_box(*LEFT), [2, 2, 1, 1])}, {"filepath": str(tmp_path / "broken.png")}, {}
    )
    report = fom.propagate(dataset, "boxes", "masks", model=model)
    assert [failure.prompt_id is None for failure in report.failed] == [False, True]
    first, broken, last = dataset
    assert [label["failure"] is None for label in first.masks.detections] == [True, False]
    assert broken.masks is None
    assert iou(full_mask(last.masks.detections[0]), ellipse_mask(*LEFT)) > 0.9


def test_innermost_point_and_overlap():
    mask = np.zeros((7, 9), dtype=bool)
    mask[1:6, 2:7] = True
    assert innermost_point(box_of(mask, 10, 20)).tolist() == [14.5, 23.5]
    full = np.ones((4, 4), dtype=bool)
    assert overlap(box_of(full, 0, 0), box_of(full, 2, 0)) == pytest.approx(8 / 24)
    assert overlap(box_of(full, 0, 0), box_of(full, 9, 9)) == 0
