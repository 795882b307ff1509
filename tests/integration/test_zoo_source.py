"""The repository as a zoo source and as a plugin card: copied by FiftyOne, run from the copy, without the checkout."""

import functools
import json
import os
import subprocess
import sys
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("fiftyone")

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = (
    "__init__.py",
    "manifest.json",
    "fiftyone.yml",
    "requirements.txt",
    "mobilesam",
    "fiftyone_mobilesam",
    "assets",
    "js",
    "skills",
)

# A Python in which neither the checkout nor an editable install of it can be imported.
WITHOUT_CHECKOUT = """
import json, sys
sys.path[:] = [path for path in sys.path if path not in ("", {root!r})]
sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in getattr(finder, "__module__", "")]
"""
REGISTER = """
import fiftyone.zoo as foz
foz.register_zoo_model_source(sys.argv[1])
entry = foz.get_zoo_model("mobilesam-torch")
print("RESULT", json.dumps({"license": entry.license, "torch": "torch" in sys.modules}))
"""
LOAD = """
import fiftyone.zoo as foz
foz.register_zoo_model_source(sys.argv[1])
model = foz.load_zoo_model("mobilesam-torch", device="cpu", prompt_field="boxes")
import fiftyone as fo, fiftyone_mobilesam
dataset = fo.Dataset()
boxes = fo.Detections(detections=[fo.Detection(bounding_box=[0.1, 0.1, 0.5, 0.5])])
dataset.add_sample(fo.Sample(filepath=sys.argv[2], boxes=boxes))
dataset.apply_model(model, label_field="masks", num_workers=1)
masks = dataset.count("masks.detections.mask")
dataset.delete()
print("RESULT", json.dumps({
    "masks": masks,
    "type": type(model).__name__, "file": fiftyone_mobilesam.__file__, "prompt_field": model.config.prompt_field,
    "path": foz.find_zoo_model("mobilesam-torch"),
}))
"""
PLUGIN = """
import fiftyone.operators.registry as registry
import fiftyone.plugins as fop
before = "torch" in sys.modules
if len(sys.argv) > 1:
    fop.download_plugin(sys.argv[1])
registry = registry.OperatorRegistry(enabled="all")
plugin = fop.get_plugin("@mobilesam/fiftyone-mobilesam")
print("RESULT", json.dumps({
    "errors": registry.list_errors(), "listed": plugin.operators, "skills": len(fop.list_skills(plugin=plugin.name)),
    "registered": [o.config.name for o in registry.list_operators() if o.uri.startswith("@mobilesam/")],
    "torch": "torch" in sys.modules and not before,
}))
"""


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args) -> None:
        pass


@pytest.fixture(scope="module")
def archive_url(tmp_path_factory):
    """The repository as a zip behind http on this machine: FiftyOne takes no local path."""
    folder = tmp_path_factory.mktemp("served")
    with zipfile.ZipFile(folder / "repository.zip", "w") as archive:
        for top in SHIPPED:
            path = ROOT / top
            for file in [path] if path.is_file() else sorted(path.rglob("*")):
                if file.is_file() and "__pycache__" not in file.parts:
                    archive.write(file, Path("repository") / file.relative_to(ROOT))
    handler = functools.partial(_QuietHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/repository.zip"
        server.shutdown()


def run_without_checkout(code: str, *args: str, cwd: Path, **environment: str) -> dict:
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | environment
    command = [sys.executable, "-c", WITHOUT_CHECKOUT.format(root=str(ROOT)) + code, *args]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT "))


def test_source_registers_without_torch(archive_url, tmp_path):
    zoo = tmp_path / "zoo"
    result = run_without_checkout(REGISTER, archive_url, cwd=tmp_path, FIFTYONE_MODEL_ZOO_DIR=str(zoo))
    assert result["license"] == "Apache 2.0"
    assert (zoo / "mobilesam" / "fiftyone-mobilesam" / "manifest.json").is_file()


def test_source_loads_the_model_from_its_copy_and_it_works(archive_url, scene_file, tmp_path):
    zoo = tmp_path / "zoo"
    result = run_without_checkout(LOAD, archive_url, str(scene_file), cwd=tmp_path, FIFTYONE_MODEL_ZOO_DIR=str(zoo))
    copy = zoo / "mobilesam" / "fiftyone-mobilesam"
    assert result["type"] == "MobileSAMModel"
    assert result["prompt_field"] == "boxes"
    assert result["masks"] == 1
    assert Path(result["file"]).resolve().is_relative_to(copy.resolve())
    assert Path(result["path"]) == copy / "mobile_sam.safetensors"


@pytest.mark.parametrize("installed", ["downloaded", "linked"])
def test_plugin_registers_without_errors_or_torch(archive_url, tmp_path, installed):
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    if installed == "linked":
        (plugins / "mobilesam").symlink_to(ROOT, target_is_directory=True)
    arguments = [archive_url] if installed == "downloaded" else []
    result = run_without_checkout(PLUGIN, *arguments, cwd=tmp_path, FIFTYONE_PLUGINS_DIR=str(plugins))
    assert result["errors"] == []
    assert not result["torch"]
    assert set(result["listed"]) - set(result["registered"]) == {"clear_annotation_cache"}  # the browser's own
    assert result["skills"] == 1
