"""Fixtures: one model for all tests, FiftyOne on a real database in a temporary folder, images that are at hand."""

import atexit
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

# Before FiftyOne is imported, also in the worker processes that inherit this environment.
os.environ["FIFTYONE_DO_NOT_TRACK"] = "true"
os.environ["FIFTYONE_DATABASE_VALIDATION"] = "false"  # mongod 6 is the newest that PyPI has, and FiftyOne says so
os.environ["YOLO_OFFLINE"] = "true"
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # processes that share the tests share the processors too
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])))

import numpy as np
import pytest
from mongod import Mongod
from PIL import Image

from mobilesam import load_model

ROOT = Path(__file__).parent.parent
COCO50 = ROOT.parent / "shared" / "coco50"


def pytest_addoption(parser):
    parser.addoption("--soak", action="store_true", help="many kills at random moments instead of a few chosen ones")


def pytest_collection_modifyitems(items):
    """Keep a file's tests in one process, and all of the App's, which share a browser."""
    for item in items:
        together = item.path.parent if item.path.parent.name == "app" else item.path
        item.add_marker(pytest.mark.xdist_group(str(together.relative_to(ROOT))))


@pytest.fixture(scope="session")
def soak(request) -> bool:
    """Whether long tests are wanted, as in CI."""
    return request.config.getoption("--soak")


def start_mongod() -> None:
    """Start a mongod of our own. FiftyOne would join one that is running already, say the user's under the App.

    At import, as no hook is early enough: the conftest of a folder on the command line imports FiftyOne before it.
    Each of the processes that share the tests has one, or tests would see each other's datasets.
    """
    fiftyone = importlib.util.find_spec("fiftyone")
    shared = "PYTEST_XDIST_WORKER" in os.environ
    if fiftyone is None or ("FIFTYONE_DATABASE_URI" in os.environ and not shared):
        return
    folder = tempfile.mkdtemp(prefix="mobilesam-tests-")
    mongod = Mongod(Path(folder))
    os.environ["FIFTYONE_DATABASE_URI"] = mongod.uri

    @atexit.register
    def stop() -> None:
        mongod.kill()
        shutil.rmtree(folder, ignore_errors=True)


start_mongod()


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
def once(tmp_path_factory):
    """Have a folder filled by the first of the processes that share the tests; gives the folder to all of them."""
    from filelock import FileLock

    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def once(name: str, fill: Callable[[Path], object]) -> Path:
        with FileLock(base / f"{name}.lock"):
            if not (base / name).exists():
                (base / f"{name}.unfinished").mkdir(exist_ok=True)
                fill(base / f"{name}.unfinished")
                (base / f"{name}.unfinished").rename(base / name)
        return base / name

    return once


@pytest.fixture(scope="session")
def onnx_pair(once, sam):
    """The model as `encoder.onnx` and `decoder.onnx`."""
    from mobilesam import export_onnx
    from mobilesam.export.onnx_files import ExportedPair

    folder = once("onnx", lambda folder: export_onnx(sam, folder))
    return ExportedPair(folder / "encoder.onnx", folder / "decoder.onnx")


@pytest.fixture(scope="session")
def app_models(once) -> Path:
    """FiftyOne's folder of models with the pair that the App annotates with."""
    pytest.importorskip("onnx", reason="onnx, which the export needs, is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime, which checks the exported files, is not installed")
    import fiftyone as fo

    from fiftyone_mobilesam.app.annotation_files import build_pair

    def fill(folder: Path) -> None:
        before, fo.config.model_zoo_dir = fo.config.model_zoo_dir, str(folder)
        build_pair()
        fo.config.model_zoo_dir = before

    return once("app_models", fill)


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


@pytest.fixture(scope="session")
def scene_file(tmp_path_factory) -> Path:
    """A picture file of the two ellipses LEFT and RIGHT."""
    from scenes import LEFT, RIGHT, draw_scene

    path = tmp_path_factory.mktemp("scene") / "scene.png"
    Image.fromarray(draw_scene([LEFT, RIGHT])).save(path)
    return path


@pytest.fixture
def make_dataset(scene_file, tmp_path):
    """Make a dataset with one sample for each dict of fields; `filepath` defaults to a copy of the scene."""
    import fiftyone as fo

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
