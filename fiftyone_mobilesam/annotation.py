"""MobileSAM for the App's own Annotate -> AI tool: an ONNX pair that the App's server hands to the browser.

The tool runs a pair of ONNX files in the browser, by default SAM2's from a remote host. Where it looks for them the
server reads from an environment variable at each request. The pair is made once, kept in a cache of the user's, and
copied into the plugin's own folder, which the server serves anyway. Nothing else is served.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path

import fiftyone as fo

from mobilesam import MobileSamError, __version__

VARIABLE = "FIFTYONE_MODEL_WEIGHTS_BASE_SAM2"
FILES = ("encoder.with_runtime_opt.ort", "decoder.onnx")
SERVED = "app_models"  # in the plugin's folder
ACTIVE = "active.json"  # in SERVED: remembers the choice for the server's next start


def build_pair() -> Path:
    """Return the folder of the ONNX pair in the user's cache; export it first if it is not there or incomplete.

    Raises:
        MissingPackageError: onnx or onnxruntime is not installed.
        ExportError: the exported files do not agree with the model.
    """
    from mobilesam import export_onnx, load_model
    from mobilesam.weights import resolve, sha256_of

    key = f"{__version__}-{sha256_of(resolve('mobile_sam.pt'))[:12]}"
    folder = Path(fo.config.model_zoo_dir) / "mobilesam-annotation" / key
    if not is_complete(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            export_onnx(load_model(device="cpu"), scratch, signature="fiftyone")
            sizes = {name: (Path(scratch) / name).stat().st_size for name in FILES}
            (Path(scratch) / "sizes.json").write_text(json.dumps(sizes))
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(scratch, folder)
    return folder


def is_complete(folder: Path) -> bool:
    """Whether a folder holds both files in the sizes they were written with."""
    try:
        sizes = json.loads((folder / "sizes.json").read_text())
        return all((folder / name).stat().st_size == sizes[name] for name in FILES)
    except (OSError, ValueError, KeyError):
        return False


def use(plugin_folder: Path, server_path: str) -> str:
    """Point the App at our pair, now and at its next starts. Returns the address.

    Args:
        plugin_folder: the plugin's folder.
        server_path: under which the App's server serves that folder.

    Raises:
        MobileSamError: the plugin's folder cannot be written to.
    """
    pair = build_pair()
    served = plugin_folder / SERVED / pair.name
    try:
        if not is_complete(served):
            shutil.rmtree(served, ignore_errors=True)
            shutil.copytree(pair, served)
        address = f"{server_path}/{SERVED}/{pair.name}"
        (plugin_folder / SERVED / ACTIVE).write_text(json.dumps({"address": address}))
    except OSError as error:
        raise MobileSamError(
            f"The plugin's folder must be writable for 45 MB of model files, got {error}. "
            f"Make {plugin_folder} writable, or install the plugin into a folder of yours."
        ) from error
    os.environ[VARIABLE] = address
    return address


def stop_using(plugin_folder: Path) -> bool:
    """Go back to the App's default model. Returns whether ours was in use."""
    (plugin_folder / SERVED / ACTIVE).unlink(missing_ok=True)
    if not is_active():
        return False
    del os.environ[VARIABLE]
    return True


def restore(plugin_folder: Path) -> None:
    """Take up the choice of an earlier start of the server, unless its administrator chose another model."""
    try:
        address = json.loads((plugin_folder / SERVED / ACTIVE).read_text())["address"]
    except (OSError, ValueError, KeyError):
        return
    if is_complete(plugin_folder / SERVED / address.rsplit("/", 1)[-1]):
        os.environ.setdefault(VARIABLE, address)


def is_active() -> bool:
    """Whether the App's server points at our pair."""
    return f"/{SERVED}/" in os.environ.get(VARIABLE, "")
