"""Fixtures: one model for all tests, FiftyOne on a real database in a temporary folder, images that are at hand."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

# Before FiftyOne is imported, also in the worker processes that inherit this environment.
os.environ["FIFTYONE_DO_NOT_TRACK"] = "true"
os.environ["YOLO_OFFLINE"] = "true"
if "FIFTYONE_DATABASE_DIR" not in os.environ and "FIFTYONE_DATABASE_URI" not in os.environ:
    os.environ["FIFTYONE_DATABASE_DIR"] = tempfile.mkdtemp(prefix="mobilesam-tests-")
    os.environ["MOBILESAM_TESTS_OWN_DATABASE"] = os.environ["FIFTYONE_DATABASE_DIR"]

import numpy as np
import pytest
from PIL import Image

from mobilesam import load_model

ROOT = Path(__file__).parent.parent
COCO50 = ROOT.parent / "shared" / "coco50"


def pytest_sessionfinish() -> None:
    database = sys.modules.get("fiftyone.core.odm.database")
    if (folder := os.environ.get("MOBILESAM_TESTS_OWN_DATABASE")) and database and database._db_service:
        database._db_service.stop()  # before its files go
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def sam():
    """The bundled model on the CPU."""
    return load_model(device="cpu")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory, sam) -> Path:
    """A `mobile_sam.pt` in upstream's 439-key layout."""
    from mobilesam.weights import save_checkpoint

    path = tmp_path_factory.mktemp("weights") / "mobile_sam.pt"
    save_checkpoint(sam.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def upstream_sam(checkpoint):
    """Upstream's own code with the same weights."""
    mobile_sam = pytest.importorskip("mobile_sam", reason="the parity peer mobilesam-mirror is not installed")
    # Upstream gathers attention biases at `.eval()`, before it loads weights, so it needs a second one.
    return mobile_sam.sam_model_registry["vit_t"](str(checkpoint)).eval()


@pytest.fixture(scope="session")
def photos() -> dict[str, Path]:
    """The two photographs that Ultralytics' package carries."""
    ultralytics = pytest.importorskip("ultralytics", reason="ultralytics, whose photographs are used, is not installed")
    assets = Path(ultralytics.__file__).parent / "assets"
    return {"zidane": assets / "zidane.jpg", "bus": assets / "bus.jpg"}


@pytest.fixture(scope="session")
def zidane(photos) -> np.ndarray:
    """(720, 1280, 3) uint8 RGB."""
    return np.asarray(Image.open(photos["zidane"]).convert("RGB"))


@pytest.fixture(scope="session")
def coco50() -> Path:
    """50 images of COCO with instance masks."""
    if not (COCO50 / "instances.json").is_file():
        pytest.skip("the 50 COCO images of ../shared/coco50 are not here")
    return COCO50
