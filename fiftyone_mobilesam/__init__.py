"""MobileSAM for FiftyOne: labels in, labels out.

    import fiftyone_mobilesam as fom
    mobilesam = fom.load_model()
    dataset.apply_model(mobilesam, label_field="masks", prompt_field="detections")

Importing this loads neither torch nor FiftyOne; a name brings what it needs when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fiftyone_mobilesam.export.run import export_masks
    from fiftyone_mobilesam.jobs.coco import label_coco
    from fiftyone_mobilesam.jobs.dataset import label
    from fiftyone_mobilesam.labels import detections_of as to_detections
    from fiftyone_mobilesam.models import load_model
    from fiftyone_mobilesam.quality.accept import accept, sample_to_check
    from fiftyone_mobilesam.quality.calibrate import calibrate
    from fiftyone_mobilesam.quality.compare import compare
    from fiftyone_mobilesam.quality.evaluate import evaluate
    from fiftyone_mobilesam.quality.frames_to_label import frames_to_label
    from fiftyone_mobilesam.quality.page import write_report
    from fiftyone_mobilesam.training.dataset import train
    from mobilesam import __version__

__all__ = [
    "__version__",
    "accept",
    "calibrate",
    "compare",
    "evaluate",
    "export_masks",
    "frames_to_label",
    "label",
    "label_coco",
    "load_model",
    "sample_to_check",
    "to_detections",
    "train",
    "write_report",
]

# Public name -> the module and the name it has there.
_HOMES = {
    "__version__": ("mobilesam._version", "__version__"),
    "accept": ("fiftyone_mobilesam.quality.accept", "accept"),
    "calibrate": ("fiftyone_mobilesam.quality.calibrate", "calibrate"),
    "compare": ("fiftyone_mobilesam.quality.compare", "compare"),
    "evaluate": ("fiftyone_mobilesam.quality.evaluate", "evaluate"),
    "export_masks": ("fiftyone_mobilesam.export.run", "export_masks"),
    "frames_to_label": ("fiftyone_mobilesam.quality.frames_to_label", "frames_to_label"),
    "label": ("fiftyone_mobilesam.jobs.dataset", "label"),
    "label_coco": ("fiftyone_mobilesam.jobs.coco", "label_coco"),
    "load_model": ("fiftyone_mobilesam.models", "load_model"),
    "sample_to_check": ("fiftyone_mobilesam.quality.accept", "sample_to_check"),
    "train": ("fiftyone_mobilesam.training.dataset", "train"),
    "write_report": ("fiftyone_mobilesam.quality.page", "write_report"),
    "to_detections": ("fiftyone_mobilesam.labels", "detections_of"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, own_name = _HOMES[name]
    try:
        value = getattr(import_module(module), own_name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in ("fiftyone", "bson", "pymongo"):
            raise
        from mobilesam.packages import require

        require("fiftyone", extra="fiftyone")  # says how to install it
        raise
    globals()[name] = value
    return value
