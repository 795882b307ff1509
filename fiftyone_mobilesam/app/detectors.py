"""Where boxes can come from, what runs here first: fields that have them, files of weights, FiftyOne's zoo."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.core.models as fom
import fiftyone.zoo as foz
from fiftyone.core.collections import SampleCollection
from packaging.requirements import InvalidRequirement, Requirement

from fiftyone_mobilesam import host
from fiftyone_mobilesam.fields import label_fields
from mobilesam import FieldError
from mobilesam.errors import CheckpointError, DownloadError, MissingPackageError

# Tags of detectors whose answers are no boxes of objects: text, and boxes that are turned.
OTHER_BOXES = {"ocr", "obb", "polylines"}
FIRST = ("yolo11n-coco-torch", "grounding-dino-tiny-torch")  # of those to download: a quick one, and one told in words
ULTRALYTICS = "yolo11n-coco-torch"  # whose loader takes any file of Ultralytics
OFFLINE = (
    "Without a network, choose boxes that a field has or a file of weights that is here (.pt, of Ultralytics); or run "
    "`fiftyone zoo models download {0}` where there is one and copy what it puts into {1} to the same folder here."
)


@dataclass(frozen=True)
class Detector:
    """Something that boxes come from.

    Attributes:
        name: a field, the path of a file, or a name of FiftyOne's zoo.
        kind: "field", "file" or "zoo".
        missing: packages that it needs and that are not installed, as pip takes them.
        bytes: size of what is downloaded first; 0 for nothing, None if that is not known.
    """

    name: str
    kind: str
    missing: tuple[str, ...] = ()
    bytes: int | None = 0

    @property
    def is_here(self) -> bool:
        """Whether it runs without a network."""
        return self.bytes == 0 and not self.missing

    def __str__(self) -> str:
        if self.kind == "field":
            return "Boxes that are there: nothing is detected"
        if self.missing:
            return f"Needs {self.pip}" + ("" if self.bytes == 0 else f", then a download: {self.size}")
        return f"Download: {self.size}" if self.bytes != 0 else "On this machine"

    @property
    def size(self) -> str:
        """How large the download is."""
        return "size not known" if self.bytes is None else f"{self.bytes / 1e6:,.0f} MB"

    @property
    def pip(self) -> str:
        """The command that installs what is missing."""
        return "pip install " + " ".join(f'"{package}"' for package in self.missing)


def list_detectors(samples: SampleCollection) -> list[Detector]:
    """Return where boxes can come from: first what is here, then what needs a download, small ones first."""
    zoo = {model.name: model for model in host.zoo_models()}
    found = [Detector(name, "field") for name in label_fields(samples, (fo.Detections,))]
    for folder in dict.fromkeys((Path.cwd(), Path.home())):
        files = [str(path) for path in sorted(folder.glob("*.pt")) if not path.name.startswith("mobile_sam")]
        found += [Detector(path, "file", _missing(zoo[ULTRALYTICS])) for path in files]
    fits = [model for model in zoo.values() if {"detection", "torch"} <= set(model.tags or ())]
    listed = [_of_zoo(model) for model in fits if not OTHER_BOXES & set(model.tags) and "segment" not in model.name]

    def order(one: Detector) -> Any:
        first = FIRST.index(one.name) if one.name in FIRST else len(FIRST)
        return not one.is_here, bool(one.missing), first, one.bytes is None, one.bytes, one.name

    return sorted(found, key=lambda one: not one.is_here) + sorted(listed, key=order)


def find_detector(samples: SampleCollection, name: str) -> Detector:
    """Return what a name means: a field of boxes, a file of weights, a name of the zoo, or Ultralytics' name of one.

    Raises:
        FieldError: none of these.
    """
    if name in label_fields(samples, (fo.Detections,)):
        return Detector(name, "field")
    zoo = {model.name: model for model in host.zoo_models() if "detection" in (model.tags or ())}
    if name.endswith(".pt") and Path(name).is_file():
        return Detector(name, "file", _missing(zoo[ULTRALYTICS]))
    short = name.removesuffix(".pt")
    for known in (name, f"{short}-coco-torch", f"{short}-torch"):
        if known in zoo:
            return _of_zoo(zoo[known])
    raise FieldError(
        "detector must be a field of boxes, a file of weights that is here (.pt), a detector of FiftyOne's zoo or "
        f"Ultralytics' name of one, got {name!r}. See fiftyone.zoo.list_zoo_models(tags='detection')."
    )


def load(detector: Detector, classes: Sequence[str]) -> fom.Model:
    """Load a detector, of the zoo after a download if it is not here.

    Raises:
        MissingPackageError: with the command that installs what is missing.
        DownloadError: there is no network, or it has no answer.
        CheckpointError: a file that Ultralytics cannot load.
    """
    if detector.missing:
        raise MissingPackageError(
            f"{detector.name} needs packages that are not installed. Run: {detector.pip}, and start the App again."
        )
    told = {"classes": list(classes)} if classes else {}
    if detector.kind == "file":
        try:
            config = foz.get_zoo_model(ULTRALYTICS).default_deployment_config_dict
            return fom.load_model(dict(config), model_path=detector.name, **told)
        except Exception as error:
            raise CheckpointError(
                f"The file must hold a detector of Ultralytics, got {detector.name}: {error!s:.200}. Choose another."
            ) from error
    try:
        return foz.load_zoo_model(detector.name, **told)
    except OSError as error:  # of requests and of Hugging Face too
        of_zoo = foz.get_zoo_model(detector.name).manager is not None
        where = fo.config.model_zoo_dir if of_zoo else Path.home() / ".cache" / "huggingface"
        raise DownloadError(
            f"{detector.name} must be downloaded first ({detector.size}), and that did not work. "
            + OFFLINE.format(detector.name, where)
        ) from error


def _of_zoo(model: Any) -> Detector:
    # Without a manager, as those of Hugging Face are, a model fetches its files itself.
    here = model.manager is not None and model.is_in_dir(fo.config.model_zoo_dir)
    return Detector(model.name, "zoo", _missing(model), 0 if here else model.size_bytes)


def _missing(model: Any) -> tuple[str, ...]:
    """Return the packages, as pip takes them, that a model of the zoo needs and that are not installed."""
    needed = getattr(model.requirements, "packages", None) or []
    return tuple(package for package in needed if not _is_installed(package))


def _is_installed(package: str) -> bool:
    try:
        wanted = Requirement(package)
        return wanted.specifier.contains(metadata.version(wanted.name), prereleases=True)
    except InvalidRequirement:
        return True  # FiftyOne says what it is when the model is loaded
    except metadata.PackageNotFoundError:
        return False
