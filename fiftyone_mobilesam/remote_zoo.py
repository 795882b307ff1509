"""`foz.load_zoo_model("mobilesam-torch")`: the four functions that FiftyOne asks of a zoo source.

FiftyOne calls a model downloaded if its file lies beside `manifest.json`. The repository carries the weights in
`mobilesam/assets`, so a download is a copy inside the source, and `foz.delete_zoo_model` deletes no more than that.
"""

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fiftyone_mobilesam.zoo import MobileSAMModel

logger = logging.getLogger("fiftyone.mobilesam")


def download_model(model_name: str, model_path: str) -> None:
    """Put the weights where FiftyOne expects them, in the root of the copied repository, without any network."""
    shutil.copyfile(Path(model_path).parent / "mobilesam" / "assets" / "mobile_sam.safetensors", model_path)


def load_model(model_name: str, model_path: str, **kwargs: Any) -> "MobileSAMModel":
    """Load the weights that `download_model` made.

    Args:
        model_name, model_path: as FiftyOne has them.
        **kwargs: for `fiftyone_mobilesam.load_model`, such as `device="cpu"` or `prompt_field="detections"`.
    """
    from fiftyone_mobilesam import load_model as load

    _warn_if_versions_differ(Path(model_path).parent)
    return load(model_path, **kwargs)


def resolve_input(model_name: str, ctx: Any) -> Any:
    """Return the form that the operator "Apply zoo model" shows."""
    from fiftyone.operators import types

    from fiftyone_mobilesam.fields import label_fields

    inputs = types.Object()
    fields = [] if ctx.view is None else label_fields(ctx.view)
    inputs.enum(
        "prompt_field",
        fields,
        label="Prompt field",
        description="The boxes, keypoints or polylines to make masks from; leave it empty to segment everything",
        view=types.DropdownView(choices=[types.Choice(name, label=name) for name in fields]),
    )
    inputs.bool(
        "clip",
        default=True,
        label="Cut masks at their boxes",
        description="Turn this off if the boxes are loose and masks should be able to leave them",
    )
    return types.Property(inputs)


def parse_parameters(model_name: str, ctx: Any, params: dict[str, Any]) -> None:
    """Take what was left empty out of the form's values, in place, so that the model's own defaults hold."""
    for name in [name for name, value in params.items() if value in (None, "")]:
        del params[name]


def _warn_if_versions_differ(source: Path) -> None:
    """Warn if the installed package, which comes first, is not the version of the zoo's copy."""
    from mobilesam import __version__

    version_file = source / "mobilesam" / "_version.py"
    if version_file.is_file() and f'"{__version__}"' not in version_file.read_text(encoding="utf-8"):
        logger.warning(
            "The installed mobilesam %s is used, but the zoo's copy in %s is another version. "
            "Register the source again with overwrite=True, or upgrade the package.",
            __version__,
            source,
        )
