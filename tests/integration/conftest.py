"""Fixtures for FiftyOne: the model, scenes with known objects, datasets that are deleted afterwards."""

import shutil
from pathlib import Path

import cv2
import fiftyone as fo
import pytest
from scenes import LEFT, RIGHT, draw_scene

from mobilesam import SamPredictor


@pytest.fixture(scope="session")
def model(sam):
    """The FiftyOne model on the session's network."""
    from fiftyone_mobilesam.options import Options
    from fiftyone_mobilesam.zoo import MobileSAMModel

    return MobileSAMModel(SamPredictor(sam, fast=True), Options())


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


@pytest.fixture(scope="session")
def plugin(tmp_path_factory) -> str:
    """The checkout as a plugin of FiftyOne, as a symbolic link in the plugins' folder; gives its prefix."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "@mobilesam").mkdir()
    (folder / "@mobilesam" / "fiftyone-mobilesam").symlink_to(Path(__file__).parents[2])
    before, fo.config.plugins_dir = fo.config.plugins_dir, str(folder)
    yield "@mobilesam/fiftyone-mobilesam/"
    fo.config.plugins_dir = before
