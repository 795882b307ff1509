"""Tracks: one box in one frame, masks in all, and an end where the object is gone."""

import json
import shutil

import cv2
import fiftyone as fo
import numpy as np
import pytest
from PIL import Image
from scenes import LEFT, detections, draw_scene, ellipse_box, ellipse_mask, full_mask, iou

import fiftyone_mobilesam as fom
from fiftyone_mobilesam import cli
from mobilesam import MaskCrop
from mobilesam.propagation import innermost_point

FRAMES = 6


def propagate(samples, prompt_field, label_field, **keywords):
    return fom.label(samples, prompt_field, label_field, job="tracks", **{"propagate": True, **keywords})


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


def test_two_objects_through_a_video(video):
    report = propagate(video, "frames.boxes", "frames.masks")
    assert (report.tracks, report.done, report.masks, report.ended, report.failures) == (2, 6, 12, [], [])
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


def test_samples_in_order_and_an_object_that_goes(tmp_path, make_dataset):
    paths = [tmp_path / f"view{number}.png" for number in range(4)]
    for number, path in enumerate(paths):
        Image.fromarray(draw_scene(moving(number)[: 1 if number >= 2 else 2])).save(path)
    boxes = [ellipse_box(*ellipse) for ellipse in moving(0)]
    samples = [{"filepath": str(path), "place": number} for number, path in enumerate(paths)]
    samples[0]["boxes"] = detections(*boxes)
    dataset = make_dataset(*samples[::-1])
    report = propagate(dataset.sort_by("place"), "boxes", "masks")
    counts = dict(zip(dataset.values("place"), map(len, dataset.values("masks.detections")), strict=True))
    assert counts == {0: 2, 1: 2, 2: 1, 3: 1}
    [(where, index, reason)] = report.ended
    assert dataset[where]["place"] == 2
    assert index == 1
    assert reason


def test_a_later_prompt_corrects_its_track(video):
    sample = video.first()
    for label, index in zip(sample.frames[1].boxes.detections, (7, 8), strict=True):
        label.index = index
    sample.frames[4] = fo.Frame(boxes=detections(ellipse_box(*moving(3)[0]), index=7))
    sample.save()
    report = propagate(video, "frames.boxes", "frames.masks")
    assert report.tracks == 2
    for number in range(1, FRAMES + 1):
        labels = video.first().frames[number].masks.detections
        assert sorted(label.index for label in labels) == [7, 8]
    instances = {label.instance_id for f in video.first().frames.values() for label in f.masks.detections}
    assert len(instances) == 2


def test_objects_of_two_classes_may_have_the_same_index(video):
    sample = video.first()
    for number in (1, 3):
        sample.frames[number]["boxes"] = detections(*(ellipse_box(*e) for e in moving(number - 1)), index=1)
    sample.save()
    assert propagate(video, "frames.boxes", "frames.masks").tracks == 2
    frames = [frame.masks.detections for frame in video.first().frames.values()]
    instances = [{label.label: label.instance_id for label in labels} for labels in frames]
    assert len(set(instances[0].values())) == 2
    assert all(found == instances[0] for found in instances)


def test_a_prompt_without_a_mask_leaves_its_track_alone_and_a_lost_one_is_taken_up_again(tmp_path, make_dataset):
    rows = []
    for place, shown in enumerate((True, True, False, True)):
        Image.fromarray(draw_scene([LEFT] if shown else [])).save(tmp_path / f"view{place}.png")
        rows.append({"filepath": str(tmp_path / f"view{place}.png")})
    rows[0]["boxes"] = rows[3]["boxes"] = detections(ellipse_box(*LEFT), index=4)
    rows[1]["boxes"] = detections([0.5, 0.5, 0, 0.1], index=4)
    dataset = make_dataset(*rows)
    for sample, row in zip(dataset, rows, strict=True):
        sample["boxes"] = row.get("boxes") and row["boxes"].copy()
        for label in [] if sample.boxes is None else sample.boxes.detections:
            label.label = "a"
        sample.save()
    report = propagate(dataset, "boxes", "masks")
    assert (report.tracks, len(report.ended), report.failed_prompts) == (1, 1, 1)
    found = [[label for label in sample.masks.detections if label.mask is not None] for sample in dataset]
    assert [len(labels) for labels in found] == [1, 1, 0, 1]
    assert len({label.instance_id for labels in found for label in labels}) == 1


def test_an_image_that_comes_back_changes_what_follows_it(tmp_path, make_dataset):
    """Killed right after it is written, the job does not take what was made without it for done."""
    paths = [tmp_path / f"view{place}.png" for place in range(4)]
    for place, path in enumerate(paths):
        Image.fromarray(draw_scene(moving(place)[:1])).save(path)
    dataset = make_dataset(*({"filepath": str(path)} for path in paths))
    sample = dataset.first()
    sample["boxes"] = detections(ellipse_box(*moving(0)[0]))
    sample.save()
    good = paths[1].read_bytes()
    paths[1].write_bytes(b"no image")
    assert propagate(dataset, "boxes", "masks").done == 3
    again = propagate(dataset, "boxes", "masks")
    assert (again.done, again.up_to_date, again.failed) == (0, 3, 1)
    paths[1].write_bytes(good)
    with_gap = {doc["_id"]: doc["masks"] for doc in dataset._sample_collection.find() if "masks" in doc}
    assert propagate(dataset, "boxes", "masks").done == 3
    whole = {doc["_id"]: doc["masks"] for doc in dataset._sample_collection.find()}
    for sample_id, masks in list(with_gap.items())[1:]:  # as a kill after the second image leaves it
        dataset._sample_collection.update_one({"_id": sample_id}, {"$set": {"masks": masks}})
    assert propagate(dataset, "boxes", "masks").done == 2
    assert {doc["_id"]: doc["masks"] for doc in dataset._sample_collection.find()} == whole


def test_masks_corrected_by_hand_stay_where_nothing_before_them_changes(video):
    propagate(video, "frames.boxes", "frames.masks")
    sample = video.first()
    sample.frames[2].masks.detections[0].tags = ["corrected"]
    sample.frames[5]["boxes"] = detections(ellipse_box(*moving(4)[1]))
    sample.save()
    assert propagate(video, "frames.boxes", "frames.masks").done == 2
    assert video.first().frames[2].masks.detections[0].tags == ["corrected"]


def test_bad_prompts_and_bad_images_cost_themselves(tmp_path, make_dataset):
    (tmp_path / "broken.png").write_bytes(b"no image")
    dataset = make_dataset(
        {"boxes": detections(ellipse_box(*LEFT), [2, 2, 1, 1])}, {"filepath": str(tmp_path / "broken.png")}, {}
    )
    report = propagate(dataset, "boxes", "masks")
    assert (report.failed, report.failed_prompts) == (1, 1)
    first, broken, last = dataset
    assert [label["failure"] is None for label in first.masks.detections] == [True, False]
    assert broken.masks is None
    assert iou(full_mask(last.masks.detections[0]), ellipse_mask(*LEFT)) > 0.9


def test_again_does_nothing_and_a_change_redoes_its_sequence(video, tmp_path):
    other = video.first().copy()
    other.filepath = str(tmp_path / "other.mp4")
    shutil.copy(video.first().filepath, other.filepath)
    video.add_sample(other)
    assert propagate(video, "frames.boxes", "frames.masks").done == 2 * FRAMES
    before = list(video._frame_collection.find().sort("_id"))
    report = propagate(video, "frames.boxes", "frames.masks")
    assert (report.done, report.up_to_date) == (0, 2 * FRAMES)
    sample = video.last()
    sample.frames[5]["boxes"] = detections(ellipse_box(*moving(4)[1]))
    sample.save()
    report = propagate(video, "frames.boxes", "frames.masks")
    assert (report.done, report.up_to_date, report.tracks) == (2, 2 * FRAMES - 2, 3)
    after = list(video._frame_collection.find().sort("_id"))
    for a, b in zip(before, after, strict=True):  # ids, indexes and instances are the same again
        if a["_sample_id"] != sample._id:
            assert a == b
        elif a["frame_number"] < 5:
            assert a["masks"] == b["masks"]
    assert propagate(video, "frames.boxes", "frames.masks", drift={"margin": 0.1}).done == 2 * FRAMES


@pytest.mark.parametrize("kind", ["dynamic groups", "groups", "chosen slices"])
def test_sequences_of_images_do_not_run_into_each_other(kind, tmp_path, make_dataset):
    """Two scenes of three pictures each; only the first of a scene has a box."""
    scenes = {"x": [0, 1, 2], "y": [3, 4, 5]}
    rows = []
    for scene, numbers in scenes.items():
        group = fo.Group()
        for place, number in enumerate(numbers):
            path = tmp_path / f"{scene}{place}.png"
            Image.fromarray(draw_scene(moving(number))).save(path)
            row = {"filepath": str(path), "scene": scene, "place": place}
            row["boxes"] = detections(ellipse_box(*moving(number)[0])) if place == 0 else None
            rows.append(row if kind == "dynamic groups" else {**row, "group": group.element("abc"[place])})
    if kind == "dynamic groups":
        flat = make_dataset(*rows[::-1])
        view = flat.group_by("scene", order_by="place")
    else:
        dataset = fo.Dataset()
        dataset.add_group_field("group", default="a")
        dataset.add_samples([fo.Sample(**row) for row in rows], progress=False)
        flat = dataset.select_group_slices(["a", "b", "c"])
        view = dataset if kind == "groups" else flat
    report = propagate(view, "boxes", "masks")
    assert (report.total, report.tracks, report.masks, report.ended) == (6, 2, 6, [])
    instances = {}
    for sample in flat:
        [label] = sample.masks.detections
        assert iou(full_mask(label), ellipse_mask(*moving(scenes[sample.scene][sample.place])[0])) > 0.9
        instances.setdefault(sample.scene, set()).add(label.instance_id)
    assert [len(found) for found in instances.values()] == [1, 1]
    assert propagate(view, "boxes", "masks").up_to_date == 6
    assert fom.label(view, "boxes", "plain", job="plain").done == 6


def test_frames_of_two_videos_are_two_sequences(video, tmp_path):
    other = video.first().copy()
    other.filepath = str(tmp_path / "other.mp4")
    shutil.copy(video.first().filepath, other.filepath)
    video.add_sample(other)
    frames = video.to_frames(sample_frames=True, output_dir=str(tmp_path / "frames"))
    report = propagate(frames.match(fo.ViewField("frame_number") <= 3), "boxes", "masks")
    assert (report.total, report.tracks, report.masks) == (6, 4, 12)


def test_an_image_of_another_size_ends_the_tracks(tmp_path, make_dataset):
    Image.fromarray(draw_scene(moving(0))).resize((640, 480)).save(tmp_path / "large.png")
    dataset = make_dataset({"boxes": detections(ellipse_box(*LEFT))}, {"filepath": str(tmp_path / "large.png")}, {})
    report = propagate(dataset, "boxes", "masks")
    [ended] = report.ended
    assert ended == (dataset.skip(1).first().id, 0, "the image is 640 x 480, the one before 320 x 240")
    assert [len(labels) for labels in dataset.values("masks.detections")] == [1, 0, 0]


def test_wrong_calls_and_the_command(video, tmp_path):
    with pytest.raises(ValueError, match="drift must go with"):
        propagate(video, "frames.boxes", "frames.masks", drift={"margin": 0.1}, propagate=False)
    with pytest.raises(TypeError, match="drift must have min_confidence, margin, got min_iou"):
        propagate(video, "frames.boxes", "frames.masks", drift={"min_iou": 0.5})
    with pytest.raises(ValueError, match="Leave group_by out"):
        propagate(video.group_by("filepath"), "frames.boxes", "frames.masks")
    with pytest.raises(ValueError, match="must go with prompt_field"):
        propagate(video, None, "frames.masks")
    with pytest.raises(TypeError, match="clip must be left out"):
        propagate(video, "frames.boxes", "frames.masks", clip=False)
    command = ["label", "--dataset", video.name, "--prompt-field", "frames.boxes", "--label-field", "frames.masks"]
    books = ["--json", str(tmp_path / "report.json")]
    assert cli.main([*command, *books, "--propagate", "--option", "drift={'min_confidence': 1.1}"]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["tracks"], len(report["ended"]), report["done"]) == (2, 2, FRAMES)
    assert cli.main(["resume", "label", *books]) == 0
    assert json.loads((tmp_path / "report.json").read_text())["up_to_date"] == FRAMES


def test_innermost_point():
    mask = np.zeros((7, 9), dtype=bool)
    mask[1:6, 2:7] = True
    assert innermost_point(box_of(mask, 10, 20)).tolist() == [14.5, 23.5]
