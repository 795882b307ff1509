"""Use MobileSAM in the App's own annotation tool, or go back to the default there."""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.plugins as fop
from fiftyone import operators as foo
from fiftyone.operators import types

from fiftyone_mobilesam.app import annotation_files as annotation
from fiftyone_mobilesam.app._forms import ask_for_weights, choose
from fiftyone_mobilesam.app._names import ICON, LONG, PLUGIN, uri
from fiftyone_mobilesam.fields import label_fields
from mobilesam import MobileSamError

NEW_FIELD = "annotations"
CLEAR = "clear_annotation_cache"  # the part in the browser, js/clear_annotation_cache.js


class UseForAnnotation(foo.Operator):
    """Serve MobileSAM to the App's Annotate -> AI tool."""

    config = foo.OperatorConfig(
        name="use_for_annotation",
        label="Use MobileSAM for in-App annotation",
        description=(
            "Make the App's Annotate > AI tool run MobileSAM from this machine instead of SAM 2 from the network. "
            "Params: label_field, a new field or one of Detections, to set up for annotation; weights, a checkpoint, "
            "such as one that was trained here. Called from Python it holds for Apps that this process launches "
            "afterwards."
        ),
        **LONG,
    )

    def resolve_input(self, ctx: Any) -> types.Property:
        """Say what will happen, and ask for the field to annotate in."""
        inputs = types.Object()
        inputs.md(_explain(), name="what")
        if missing := [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]:
            prop = inputs.view("missing", types.Error(label=f"Install first: pip install {' '.join(missing)}"))
            prop.invalid = True
        if ctx.dataset is not None:
            _ask_for_field(inputs, ctx)
        ask_for_weights(inputs, ctx.params, label="Weights")
        view = types.PromptView(label=self.config.label, submit_button_label="Use MobileSAM")
        return types.Property(inputs, view=view)

    def execute(self, ctx: Any) -> Any:
        """Make the files if they are not there, serve them, and let the browser drop the other model's."""
        if "operator_uri" in ctx.request_params:  # which only the App sends
            return _show_use(ctx)
        return _use(ctx)


class StopUsingForAnnotation(foo.Operator):
    """Give the App's Annotate -> AI tool the model back that it had."""

    config = foo.OperatorConfig(
        name="stop_using_for_annotation",
        label="Back to the default annotation model",
        description="Make the App's Annotate > AI tool run SAM 2 from the network again. The page is reloaded.",
        icon=ICON,
        risk_level=types.RiskLevel.LOW,
    )

    def execute(self, ctx: Any) -> dict[str, Any]:
        """Undo what `use_for_annotation` did."""
        was_active = annotation.stop_using(Path(fop.get_plugin(PLUGIN).directory))
        ctx.trigger(uri(CLEAR))
        return {"was_active": was_active, "address": os.environ.get(annotation.VARIABLE)}


def _use(ctx: Any) -> dict[str, Any]:
    field = ctx.params.get("label_field")
    if field:
        annotation.check_field(ctx.dataset, field)
    plugin = fop.get_plugin(PLUGIN)
    address = annotation.use(Path(plugin.directory), plugin.server_path, ctx.params.get("weights") or "mobile_sam.pt")
    if field:
        annotation.set_up_field(ctx.dataset, field)
    return {"address": address, "label_field": field or None}


def _show_use(ctx: Any) -> Iterator[Any]:
    wait = "Half a minute the first time. This page then reloads itself"
    yield _say(ctx, types.Notice(label="Preparing the model's files ...", description=wait))
    try:
        result = _use(ctx)
    except MobileSamError as error:
        yield _say(ctx, types.Error(label="The annotation model was not changed", description=str(error)))
        return
    yield _say(ctx, types.Success(label="Open a sample, choose Annotate, then AI, and click on an object"))
    if result["label_field"]:
        yield ctx.trigger("reload_dataset")
    yield ctx.trigger(uri(CLEAR))


def _say(ctx: Any, view: types.View) -> Any:
    outputs = types.Object()
    outputs.view("message", view)
    return ctx.ops.show_output(types.Property(outputs, view=types.View(label="MobileSAM")).to_json(), {})


def _explain() -> str:
    if annotation.is_active():
        active = "MobileSAM"
    else:
        active = os.environ.get(annotation.VARIABLE) or "the App's default, SAM 2 from the network"
    return (
        f"Annotate > AI uses **{active}** now.\n\n"
        "With MobileSAM it runs in this browser from 45 MB of files that this machine serves; nothing comes from the "
        "network. The files are made once, which takes about half a minute. Click on an object to select it, and on "
        "what is selected to take that part away; Shift turns this round. The tool takes no boxes, and goes on calling "
        'the model "SAM2 Tiny".\n\n'
        "When the model changes, the browser drops the files of the other one and **reloads this page**."
    )


def _ask_for_field(inputs: types.Object, ctx: Any) -> None:
    prop = choose(
        inputs,
        "label_field",
        {name: name for name in (NEW_FIELD, *label_fields(ctx.dataset, (fo.Detections,)))},
        view=types.AutocompleteView(allow_user_input=True),
        default=NEW_FIELD,
        label="Set up this field for annotation",
        description="A new one, or one of detections. Leave it empty to change no field",
    )
    if field := ctx.params.get("label_field"):
        try:
            annotation.check_field(ctx.dataset, field)
        except MobileSamError as error:
            prop.invalid, prop.error_message = True, str(error)
