"""Fixtures for FiftyOne: the model, the checkout as a plugin, a video."""

import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import fiftyone as fo
import pytest
import torch
from job_calls import BOXES
from PIL import Image
from scenes import LEFT, RIGHT, detections, draw_scene, ellipse_box, keypoints

from mobilesam import SamPredictor
from mobilesam.fast.backend import Backend

KNOWN = 100  # embeddings of 4 MB


@pytest.fixture(scope="session")
def known() -> dict:
    """Embeddings by backend and picture."""
    return {}


@pytest.fixture(scope="module", autouse=True)  # of each file, so that it ends with the last one here
def scenes_are_encoded_once(known):
    """Remember embeddings in this process: most tests here are of the same few pictures, and are not of the encoder."""
    compute = Backend.encode_image

    def encode_image(backend, pixels):
        keys = [(backend.encoder_name, sha256(image.cpu().numpy()).digest()) for image in pixels]
        missing = [place for place, key in enumerate(keys) if key not in known]
        if missing:
            known.update(zip([keys[place] for place in missing], compute(backend, pixels[missing]), strict=True))
        found = torch.stack([known[key] for key in keys])
        while len(known) > KNOWN:
            del known[next(iter(known))]
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Backend, "encode_image", encode_image)
        yield


@pytest.fixture(scope="session")
def model(sam):
    """The FiftyOne model on the session's network."""
    from fiftyone_mobilesam.options import Options
    from fiftyone_mobilesam.zoo import MobileSAMModel

    return MobileSAMModel(SamPredictor(sam, fast=True), Options())


@pytest.fixture(scope="session")
def plugin(tmp_path_factory) -> str:
    """The checkout as a plugin of FiftyOne, as a symbolic link in the plugins' folder; gives its prefix."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "@mobilesam").mkdir()
    (folder / "@mobilesam" / "fiftyone-mobilesam").symlink_to(Path(__file__).parents[2])
    before, fo.config.plugins_dir = fo.config.plugins_dir, str(folder)
    yield "@mobilesam/fiftyone-mobilesam/"
    fo.config.plugins_dir = before


@pytest.fixture
def pair(make_dataset):
    """Three samples: two boxes, one, none."""
    return make_dataset({"detections": detections(*BOXES)}, {"detections": detections(BOXES[0])}, {})


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


@pytest.fixture
def operator_dataset(make_dataset) -> fo.Dataset:
    """For operators: three samples with two boxes and two keypoints each; the last box is outside its image."""
    points = keypoints([LEFT[0]], [RIGHT[0]])
    return make_dataset(
        {"boxes": detections(*BOXES), "points": points, "tags": ["first"]},
        {"boxes": detections(*BOXES), "points": points.copy()},
        {"boxes": detections(BOXES[0], [2, 2, 1, 1]), "points": points.copy()},
    )
