"""Groups, patches, frames, clips, videos: they work, or say in one line what to select."""

import shutil
import time

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image
from scenes import LEFT, RIGHT, detections, draw_scene, ellipse_box, ellipse_mask, full_mask, iou

from mobilesam import FieldError

BOXES = ellipse_box(*LEFT), ellipse_box(*RIGHT)
needs_ffmpeg = pytest.mark.skipif(
    not shutil.which("ffmpeg"), reason="ffmpeg, with which FiftyOne reads videos, is missing"
)


def test_a_patches_view_says_what_to_select(model, make_dataset):
    dataset = make_dataset({"detections": detections(*BOXES)})
    with pytest.raises(FieldError, match="select_labels"):
        dataset.to_patches("detections").apply_model(model, label_field="masks", prompt_field="detections")


def test_group_slices(model, make_dataset, scene_file):
    group = fo.Group()
    dataset = make_dataset(
        {"filepath": str(scene_file), "detections": detections(*BOXES), "group": group.element("left")},
        {"filepath": str(scene_file), "detections": detections(BOXES[0]), "group": group.element("right")},
    )
    with pytest.raises(Exception, match="select_group_slices"):
        dataset.apply_model(model, label_field="masks", prompt_field="detections")
    dataset.select_group_slices("left").apply_model(model, label_field="masks", prompt_field="detections")
    assert len(dataset.first().masks.detections) == 2
    dataset.select_group_slices(["left", "right"]).apply_model(model, label_field="all", prompt_field="detections")
    assert [len(s["all"].detections) for s in dataset.select_group_slices(["left", "right"])] == [2, 1]


def test_a_label_filter_prompts_with_what_it_shows(model, make_dataset):
    dataset = make_dataset({"detections": detections(*BOXES)})
    view = dataset.filter_labels("detections", fo.ViewField("label") == "b")
    view.apply_model(model, label_field="masks", prompt_field="detections")
    [mask] = dataset.first().masks.detections
    assert iou(full_mask(mask), ellipse_mask(*RIGHT)) > 0.97


def frame_masks(dataset, field="masks"):
    return [frame[field] and len(frame[field].detections) for frame in dataset.first().frames.values()]


@needs_ffmpeg
@pytest.mark.parametrize("batch_size", [None, 4])
def test_video_frames(model, video, batch_size):
    """FiftyOne's own model drops the rest of a video at the first frame without prompts."""
    video.apply_model(model, label_field="frames.masks", prompt_field="frames.detections", batch_size=batch_size)
    assert frame_masks(video) == [0, 1, 1, 0, 1, 1]
    mask = video.first().frames[5].masks.detections[0]
    assert iou(full_mask(mask), ellipse_mask(*LEFT)) > 0.9
    assert "masks.detections.predicted_iou" in video.get_frame_field_schema(flat=True)


@needs_ffmpeg
def test_everything_in_video_frames(model, video):
    options = {"points_per_side": 2, "stability_score_thresh": 0.9}
    for _ in range(2):
        video.apply_model(model, label_field="frames.everything", everything=options)
    assert all(frame_masks(video, "everything"))
    with pytest.raises(FieldError, match="overwritten"):
        video.apply_model(model, label_field="frames.detections", everything=options)


@needs_ffmpeg
def test_a_video_field_without_frames_says_so(model, video):
    with pytest.raises(FieldError, match=r"frames\.detections"):
        video.apply_model(model, label_field="masks", prompt_field="detections")


@needs_ffmpeg
def test_clips(model, video):
    clips = video.to_clips([[(2, 3)]])
    clips.apply_model(model, label_field="frames.masks", prompt_field="frames.detections")
    assert [n or 0 for n in frame_masks(video)] == [0, 1, 1, 0, 0, 0]


@needs_ffmpeg
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_frames_view(model, video, num_workers):
    view = video.to_frames(sample_frames=True)
    view.apply_model(model, label_field="masks", prompt_field="detections", num_workers=num_workers)
    assert frame_masks(video) == [0, 1, 1, 0, 1, 1]
    assert "masks" in view.get_field_schema()


@needs_ffmpeg
def test_a_frames_view_loses_nothing_when_samples_follow_quickly(model, video, monkeypatch):
    """FiftyOne copies labels to the videos in a thread and forgets those that come while it writes."""
    write = fo.core.odm.bulk_write

    def slow_write(*args, **kwargs):
        result = write(*args, **kwargs)
        time.sleep(0.3)
        return result

    monkeypatch.setattr(fo.core.odm, "bulk_write", slow_write)
    monkeypatch.setattr(fo.config, "default_batcher", "static")
    monkeypatch.setattr(fo.config, "batcher_static_size", 1)
    no_prompts = fo.ViewField("frame_number").is_in([1, 4])  # no model between them to wait for
    view = video.to_frames(sample_frames=True).match(no_prompts)
    view.apply_model(model, label_field="masks", prompt_field="detections", num_workers=0)
    assert frame_masks(video) == [0, None, None, 0, None, None]


EXIF_ORIENTATION = 274


def test_exif_rotated_images_are_upright(model, make_dataset, tmp_path):
    """The App, and the boxes, are in the frame of the turned image; the file's pixels lie on their side."""
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6  # turn right by 90 degrees to see it upright
    upright = draw_scene([LEFT, RIGHT])
    lying = Image.fromarray(np.ascontiguousarray(np.rot90(upright)))
    lying.save(tmp_path / "exif.png", exif=exif)
    dataset = make_dataset({"filepath": str(tmp_path / "exif.png"), "detections": detections(*BOXES)})
    dataset.apply_model(model, label_field="masks", prompt_field="detections", num_workers=0)
    for mask, ellipse in zip(dataset.first().masks.detections, (LEFT, RIGHT), strict=True):
        assert iou(full_mask(mask), ellipse_mask(*ellipse)) > 0.97


def modes():
    scene = Image.fromarray(draw_scene([LEFT, RIGHT]))
    gray = np.asarray(scene.convert("L"))
    return {
        "gray.png": scene.convert("L"),
        "rgba.png": scene.convert("RGBA"),
        "palette.png": scene.convert("P", palette=Image.Palette.ADAPTIVE),
        "cmyk.jpg": scene.convert("CMYK"),
        "twelve-bit.png": Image.fromarray(gray.astype(np.uint16) * 16),
        "sixteen-bit.tif": Image.fromarray(gray.astype(np.uint16) * 257),
    }


def test_image_modes_and_depths(model, make_dataset, tmp_path):
    pictures = modes()
    for name, picture in pictures.items():
        picture.save(tmp_path / name)
    dataset = make_dataset(
        *[{"filepath": str(tmp_path / name), "detections": detections(BOXES[0])} for name in pictures]
    )
    dataset.apply_model(model, label_field="masks", prompt_field="detections", batch_size=3, num_workers=0)
    found = {s.filename: iou(full_mask(s.masks.detections[0]), ellipse_mask(*LEFT)) for s in dataset}
    assert {name: value > 0.95 for name, value in found.items()} == dict.fromkeys(pictures, True), found
