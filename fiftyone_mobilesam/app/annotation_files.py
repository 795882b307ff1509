"""MobileSAM for the App's own Annotate -> AI tool: an ONNX pair that the App's server hands to the browser.

The tool runs a pair of ONNX files in the browser, by default SAM 2's from a remote host. The server reads their address
from an environment variable at each request. Our pair is made once, kept with FiftyOne's models, and put into the
plugin's own folder, which the server serves anyway. Nothing else is served.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import fiftyone as fo

from fiftyone_mobilesam.fields import label_fields
from mobilesam import FieldError, MobileSamError, __version__
from mobilesam.weights import resolve, sha256_of

VARIABLE = "FIFTYONE_MODEL_WEIGHTS_BASE_SAM2"
FILES = ("encoder.with_runtime_opt.ort", "decoder.onnx")
CHECKSUMS = "sha256.json"
SERVED = "app_models"  # in the plugin's folder; the browser's part knows an address of ours by this name
ACTIVE = "active.json"  # in SERVED: the choice, for the server's next start

_before: str | None = None  # the variable's value that `use` replaced in this process


def build_pair(weights: str = "mobile_sam.pt") -> Path:
    """Return the folder of the pair of some weights among FiftyOne's models; export it if it is missing or damaged."""
    from mobilesam import export_onnx, load_model

    def export(folder: Path) -> None:
        export_onnx(load_model(weights, device="cpu"), folder, signature="fiftyone")
        (folder / CHECKSUMS).write_text(json.dumps({name: sha256_of(folder / name) for name in FILES}))

    key = f"{__version__}-{sha256_of(resolve(weights))[:12]}"
    return _provide(Path(fo.config.model_zoo_dir) / "mobilesam-annotation" / key, export)


def is_intact(folder: Path) -> bool:
    """Whether a folder holds both files as they were exported."""
    try:
        checksums = json.loads((folder / CHECKSUMS).read_text())
        return all(sha256_of(folder / name) == checksums[name] for name in FILES)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def use(plugin_folder: Path, server_path: str, weights: str = "mobile_sam.pt") -> str:
    """Point the App's server, which must be this process, at the pair of some weights, now and at its next starts.

    Returns the address of the pair's folder: the server serves the plugin's folder under `server_path`.
    """
    global _before
    pair = build_pair(weights)
    _provide(plugin_folder / SERVED / pair.name, lambda folder: _copy(pair, folder))
    address = f"{server_path}/{SERVED}/{pair.name}"
    with suppress(OSError):  # a folder that is read-only and has the pair already
        (plugin_folder / SERVED / ACTIVE).write_text(json.dumps({"address": address}))
    if not is_active():
        _before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = address
    return address


def stop_using(plugin_folder: Path) -> bool:
    """Go back to what was in use before. Returns whether our pair was in use."""
    global _before
    with suppress(OSError):
        (plugin_folder / SERVED / ACTIVE).unlink()
    if not is_active():
        return False
    del os.environ[VARIABLE]
    if _before is not None:
        os.environ[VARIABLE], _before = _before, None
    return True


def restore(plugin_folder: Path) -> None:
    """Take up the choice of an earlier start of the server, unless the environment names another model."""
    try:
        address = json.loads((plugin_folder / SERVED / ACTIVE).read_text())["address"]
    except (OSError, ValueError, LookupError, TypeError):
        return
    if all((plugin_folder / SERVED / address.rsplit("/", 1)[-1] / name).is_file() for name in FILES):
        os.environ.setdefault(VARIABLE, address)


def is_active() -> bool:
    """Whether the server points at our pair."""
    return f"/{SERVED}/" in os.environ.get(VARIABLE, "")


def check_field(dataset: fo.Dataset, field: str) -> None:
    """Check that a field can be annotated with detections."""
    if not field.isidentifier():
        raise FieldError(f"The field must be letters, digits and underscores, got {field!r}. Use another name.")
    if dataset.has_sample_field(field) and field not in label_fields(dataset, (fo.Detections,)):
        raise FieldError(f"The field must be new or of Detections, got {field!r} of another type. Use another name.")


def set_up_field(dataset: fo.Dataset, field: str) -> None:
    """Make a field ready for the App's Annotate tab: create it, describe its labels, switch it on.

    A description that it has already stays.
    """
    check_field(dataset, field)
    if not dataset.has_sample_field(field):
        dataset.add_sample_field(field, fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    if field not in dataset.label_schemas:
        schema = {"component": "text", **dataset.generate_label_schemas(fields=field)}  # a new field has no classes
        dataset.update_label_schema(field, schema)
    dataset.activate_label_schemas(field)


def _provide(folder: Path, fill: Callable[[Path], None]) -> Path:
    """Fill a folder unless it is intact, so that others see all of it or nothing."""
    if is_intact(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            made = Path(scratch) / folder.name
            made.mkdir()
            fill(made)
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)
    except OSError as error:
        if is_intact(folder):  # another process was quicker
            return folder
        raise MobileSamError(
            f"{folder.parent} must be a folder with room for 45 MB that FiftyOne may write to, got {error}. "
            "Make room or change its permissions; a plugin can also be installed in a folder of yours."
        ) from error
    return folder


def _copy(pair: Path, folder: Path) -> None:
    for name in (*FILES, CHECKSUMS):
        try:
            os.link(pair / name, folder / name)
        except OSError:  # another disk
            shutil.copy(pair / name, folder / name)
