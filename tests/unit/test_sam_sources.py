"""Prompts by image, detector results as prompts, an image that is set once, videos."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from scenes import LEFT, RIGHT, draw_scene, ellipse_mask

from mobilesam import SAM, ImageError, PromptError
from mobilesam.front.nested_prompts import parse_prompts, split_by_image
from mobilesam.images import VideoFrames

LEFT_BOX, RIGHT_BOX = [40, 50, 140, 190], [195, 40, 285, 160]
SCENE = draw_scene([LEFT, RIGHT])[..., ::-1]  # BGR, as Ultralytics has it


@pytest.fixture(scope="module")
def model(sam):
    return SAM(sam)


def overlap(mask, ellipse):
    mask, truth = np.asarray(mask), ellipse_mask(*ellipse)
    return (mask & truth).sum() / (mask | truth).sum()


def test_prompts_by_image(model):
    first, second, third = model.predict([SCENE] * 3, bboxes=[[LEFT_BOX], [RIGHT_BOX, LEFT_BOX], []])
    assert [len(first), len(second), len(third)] == [1, 2, 0]
    assert overlap(first.masks.data[0], LEFT) > 0.95
    assert overlap(second.masks.data[0], RIGHT) > 0.95


def test_points_by_image_have_one_level_more():
    points = [[[[1, 2], [3, 4]]], [[[5, 6]]]]
    assert split_by_image(2, {"points": points, "labels": [[[1, 0]], [[1]]]}) == [
        {"points": points[0], "labels": [[1, 0]]},
        {"points": points[1], "labels": [[1]]},
    ]
    assert split_by_image(2, {"points": points[0]}) is None


@pytest.mark.parametrize(
    "prompts",
    [
        {"bboxes": [[LEFT_BOX], [RIGHT_BOX], [LEFT_BOX]]},  # three for two images
        {"bboxes": [[LEFT_BOX], [RIGHT_BOX]], "points": [1, 2]},  # one by image, one not
    ],
)
def test_prompts_that_do_not_fit_the_images_are_an_error(model, prompts):
    with pytest.raises(PromptError, match="lists of 2, one entry an image"):
        model.predict([SCENE] * 2, **prompts)


@pytest.mark.parametrize("source", ["folder", "clip.avi", "*.png"])
def test_prompts_by_image_want_single_images(model, tmp_path, source):
    (tmp_path / "folder").mkdir()
    with pytest.raises(PromptError, match="list of single images"):
        model.predict([str(tmp_path / source), SCENE], bboxes=[[LEFT_BOX], [RIGHT_BOX]])


@pytest.mark.parametrize(
    ("bboxes", "counts"),
    [
        (np.array([[LEFT_BOX], [RIGHT_BOX]]), [1, 1]),
        ([np.zeros((0, 4)), np.array([LEFT_BOX])], [0, 1]),
        ([[], []], [0, 0]),
        ([LEFT_BOX, RIGHT_BOX], [2, 2]),
    ],
)
def test_boxes_of_two_images(model, bboxes, counts):
    assert [len(found) for found in model.predict([SCENE, SCENE], bboxes=bboxes)] == counts


@pytest.mark.parametrize("index", [0, -1, np.int64(1), torch.tensor(1), slice(0, 1), [1], torch.tensor([True, False])])
def test_an_index_keeps_the_shapes(model, index):
    [found] = model.predict(SCENE, bboxes=[LEFT_BOX, RIGHT_BOX])
    picked = found[index]
    assert len(picked) == len(picked.summary()) == 1
    assert picked.masks.data.shape == (1, 240, 320)
    assert picked.low_res_logits.shape == (1, 256, 256)


def test_a_detectors_result_is_a_prompt(model):
    """By duck typing: Ultralytics has `result.boxes.xyxy`, supervision `detections.xyxy`."""
    result = SimpleNamespace(boxes=SimpleNamespace(xyxy=torch.tensor([LEFT_BOX, RIGHT_BOX], dtype=torch.float32)))
    [found] = model.predict(SCENE, bboxes=result)
    assert overlap(found.masks.data[1], RIGHT) > 0.95
    assert len(model.predict(SCENE, bboxes=[result])[0]) == 2  # Ultralytics returns a list for one image, too
    by_image = model.predict([SCENE, SCENE], bboxes=[result, SimpleNamespace(xyxy=np.array([RIGHT_BOX]))])
    assert [len(found) for found in by_image] == [2, 1]


def test_the_same_points_are_two_objects_here_and_one_for_the_predictor(model):
    points = [[90, 120], [240, 100]]
    [found] = model.predict(SCENE, points=points)
    assert len(found) == 2
    model.predictor.set_image(SCENE[..., ::-1])
    masks, _, _ = model.predictor.predict(np.array(points), np.array([1, 1]), multimask_output=False)
    assert masks.shape == (1, 240, 320)


def test_one_label_goes_with_all_points():
    [first, second] = parse_prompts(points=[[[1, 2], [3, 4]], [[5, 6]]], labels=1)
    assert (first.point_labels.tolist(), second.point_labels.tolist()) == ([1, 1], [1])


@pytest.mark.parametrize("points", [[[1, 2], [[3, 4], [5, 6]]], [[[1, 2]], [3, 4]], [[[1, 2], [3]]], [5, [[1, 2]]]])
@pytest.mark.parametrize("labels", [None, 1])
def test_mixed_nesting_is_an_error_not_a_wrong_mask(points, labels):
    with pytest.raises(PromptError):
        parse_prompts(points=points, labels=labels)


def test_an_object_of_background_only_is_most_likely_a_mistake(model):
    with pytest.raises(PromptError, match=r"got only 0 for object 1 of 2.*write points=\[\[\[x, y\]"):
        model.predict(SCENE, points=[[90, 120], [240, 100]], labels=[1, 0])
    [found] = model.predict(SCENE, points=[[[90, 120], [240, 100]]], labels=[[1, 0]])
    assert len(found) == 1


def test_an_image_is_encoded_once(model, monkeypatch):
    encoded = []
    encode = type(model.predictor).encode_images
    monkeypatch.setattr(
        type(model.predictor), "encode_images", lambda self, images: encoded.append(1) or encode(self, images)
    )
    model.set_image(SCENE)
    first, second = (model.predict(bboxes=box)[0] for box in (LEFT_BOX, RIGHT_BOX))
    assert len(encoded) == 1
    assert overlap(first.masks.data[0], LEFT) > 0.95
    assert overlap(second.masks.data[0], RIGHT) > 0.95
    model.reset_image()
    with pytest.raises(ImageError, match="got None"):
        model.predict(bboxes=LEFT_BOX)
    with pytest.raises(ImageError, match="one image"):
        model.set_image([SCENE, SCENE])


def test_a_video_is_read_frame_by_frame(model, tmp_path):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (320, 240))
    for _ in range(3):
        writer.write(np.ascontiguousarray(SCENE))
    writer.release()
    stream = model.predict(str(path), bboxes=LEFT_BOX, stream=True)
    first = next(stream)
    assert first.path == f"{path}#1"
    assert overlap(first.masks.data[0], LEFT) > 0.95
    assert [found.stem for found in stream] == ["clip_2", "clip_3"]
    path.write_bytes(b"no video")
    with pytest.raises(ImageError, match="without a frame"):
        model.predict(str(path), bboxes=LEFT_BOX)


def test_a_video_that_ends_early_is_not_decoded_again_for_each_missing_frame(tmp_path, monkeypatch):
    path = tmp_path / "short.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for shade in (0, 120, 240):
        writer.write(np.full((48, 64, 3), shade, np.uint8))
    writer.release()
    opened, capture = [], cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda path: opened.append(path) or capture(path))
    video = VideoFrames(path)
    for number in range(4, 20):
        with pytest.raises(ImageError, match=f"frame {number} must be in the video"):
            video.read(number)
    assert len(opened) == 1
    assert [round(video.read(number).mean(), -1) for number in (1, 3, 2)] == [0, 240, 120]
