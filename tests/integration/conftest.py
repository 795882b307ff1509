"""Fixtures for FiftyOne: the model, on datasets of tests/conftest.py."""

import pytest


@pytest.fixture(scope="session")
def model(sam):
    """The FiftyOne model on the session's network."""
    from fiftyone_mobilesam.options import Options
    from fiftyone_mobilesam.zoo import MobileSAMModel

    return MobileSAMModel(sam, Options())
