"""Fixtures for FiftyOne: the model, scenes with known objects, datasets that are deleted afterwards."""

import shutil
import subprocess

import cv2
import fiftyone as fo
import pytest
from PIL import Image
from scenes import LEFT, RIGHT, detections, draw_scene, ellipse_box


@pytest.fixture(scope="session")
def model(sam):
    """The FiftyOne model on the session's network."""
    from fiftyone_mobilesam.options import Options
    from fiftyone_mobilesam.zoo import MobileSAMModel

    return MobileSAMModel(sam, Options())


@pytest.fixture(scope="session")
def scene_file(tmp_path_factory):
    """A picture file of the two ellipses LEFT and RIGHT."""
    path = tmp_path_factory.mktemp("scene") / "scene.png"
    cv2.imwrite(str(path), draw_scene([LEFT, RIGHT])[..., ::-1])
    return path


@pytest.fixture
def make_dataset(scene_file, tmp_path):
    """Make a dataset with one sample for each dict of fields; `filepath` defaults to a copy of the scene."""
    made = []

    def make(*samples: dict, **dataset_kwargs) -> fo.Dataset:
        dataset = fo.Dataset(**dataset_kwargs)
        made.append(dataset.name)
        for number, fields in enumerate(samples):
            fields = dict(fields)
            if "filepath" not in fields:
                fields["filepath"] = str(shutil.copy(scene_file, tmp_path / f"{number}.png"))
            dataset.add_sample(fo.Sample(**fields))
        return dataset

    yield make
    for name in made:
        if fo.dataset_exists(name):
            fo.delete_dataset(name)


@pytest.fixture
def video(make_dataset, tmp_path):
    """Six frames: without prompts on the first and fourth, else the left ellipse."""
    if not shutil.which("ffmpeg"):
        pytest.skip("ffmpeg, with which FiftyOne reads videos, is missing")
    for number in range(1, 7):
        Image.fromarray(draw_scene([LEFT, RIGHT])).save(tmp_path / f"frame-{number}.png")
    path = tmp_path / "video.mp4"
    command = ["ffmpeg", "-loglevel", "error", "-framerate", "5", "-i", str(tmp_path / "frame-%d.png")]
    subprocess.run([*command, "-pix_fmt", "yuv420p", "-crf", "10", str(path)], check=True)
    dataset = make_dataset()
    sample = fo.Sample(filepath=str(path))
    for number in (2, 3, 5, 6):
        sample.frames[number] = fo.Frame(detections=detections(ellipse_box(*LEFT)))
    dataset.add_sample(sample)
    dataset.ensure_frames()
    return dataset
