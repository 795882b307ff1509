"""What `SAM.predict` makes of a video: a video, whole also where a frame is bad or the reader stops."""

import cv2
import numpy as np
import pytest
from scenes import LEFT, RIGHT, draw_scene

from mobilesam import SAM

BOXES = [[40, 50, 140, 190], [195, 40, 285, 160]]
SCENE = draw_scene([LEFT, RIGHT])[..., ::-1]  # BGR, as Ultralytics has it


@pytest.fixture(scope="module")
def model(sam):
    """A model that has seen the scene, so that it is encoded once."""
    model = SAM(sam, verify=False)
    model.set_image(SCENE)
    return model


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# Every keyword that Ultralytics' documentation has for `predict`, with its default.


def write_clip(path, frames=5):
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 5, (320, 240))
    for _ in range(frames):
        writer.write(np.ascontiguousarray(SCENE))
    writer.release()


@pytest.fixture
def known(model, monkeypatch):
    """The same model, which takes every frame for the scene: its encoder is not what is tested."""
    monkeypatch.setattr(model.predictor, "encode_images", lambda images: [model._current[2]] * len(images))
    return model


def read_clip(path):
    """Return all frames, and how many there are a second."""
    video, frames = cv2.VideoCapture(path), []
    while (read := video.read())[0]:
        frames.append(read[1].astype(int))
    return frames, video.get(cv2.CAP_PROP_FPS)


def test_of_a_video_a_video_is_written(known, folder):
    (folder / "b").mkdir()
    write_clip("clip.avi", 3)
    write_clip("b/clip.avi", 2)
    options = {"save": True, "save_txt": True, "save_frames": True, "project": "out"}
    results = known.predict(["clip.avi", "b/clip.avi"], bboxes=BOXES, **options)
    assert [path for path in files(folder / "out/predict") if path.endswith(".avi")] == ["clip-2.avi", "clip.avi"]
    assert "labels/clip-2_2.txt" in files(folder / "out/predict")
    assert "clip_frames/clip_3.jpg" in files(folder / "out/predict")
    for name, number in (("clip", 3), ("clip-2", 2)):
        frames, fps = read_clip(f"out/predict/{name}.avi")
        assert (len(frames), fps, frames[0].shape) == (number, 5, (240, 320, 3))
        for frame in frames:
            assert np.abs(frame - results[0].plot()).mean() < 4
            assert np.abs(frame - results[0].orig_img).mean() > 4


def test_a_bad_frame_does_not_cost_the_video(known, monkeypatch):
    write_clip("clip.avi")
    capture = cv2.VideoCapture

    class Damaged:
        """A video whose third frame cannot be decoded."""

        def __init__(self, path):
            self.video, self.number, self.get = capture(path), 0, capture(path).get

        def grab(self):
            self.number += 1
            return self.video.grab()

        def retrieve(self):
            return (False, None) if self.number == 3 else self.video.retrieve()

    with monkeypatch.context() as patch:
        patch.setattr(cv2, "VideoCapture", Damaged)
        results = known.predict("clip.avi", bboxes=BOXES, save=True, project="out")
    assert [result.path for result in results] == [f"clip.avi#{number}" for number in (1, 2, 4, 5)]
    assert len(read_clip("out/predict/clip.avi")[0]) == 4


def test_a_video_is_whole_where_its_reader_stops_early(known):
    write_clip("clip.avi")
    stream = known.predict("clip.avi", bboxes=BOXES, stream=True, save=True, project="out")
    next(stream), next(stream)
    stream.close()
    assert len(read_clip("out/predict/clip.avi")[0]) == 2


def test_every_so_many_frames_of_a_video(known, folder):
    write_clip("clip.avi")
    results = known.predict("clip.avi", bboxes=BOXES[0], vid_stride=2, save=True, project="out")
    assert [result.path for result in results] == ["clip.avi#2", "clip.avi#4"]
    assert files(folder / "out") == ["predict/clip.avi"]
    assert read_clip("out/predict/clip.avi")[1] == 2.5
    assert known.predict("clip.avi", bboxes=BOXES[0], vid_stride=9) == []
