"""Fixtures for FiftyOne: the model, and the checkout as a plugin."""

from pathlib import Path

import fiftyone as fo
import pytest

from mobilesam import SamPredictor


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
