"""Use MobileSAM in the App's own annotation tool, or go back to the default there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.plugins as fop
from fiftyone import operators as foo
from fiftyone.operators import types

from fiftyone_mobilesam import annotation
from fiftyone_mobilesam.fields import label_fields
from fiftyone_mobilesam.operators._names import ICON, PLUGIN, uri
from fiftyone_mobilesam.operators._progress import error_output

NEW_FIELD = "annotations"


class UseForAnnotation(foo.Operator):
    """Serve MobileSAM to the App's Annotate -> AI tool."""

    @property
    def config(self) -> foo.OperatorConfig:
        """Name, label and how it runs."""
        return foo.OperatorConfig(
            name="use_for_annotation",
            label="Use MobileSAM for in-App annotation",
            description=(
                "Make the App's Annotate > AI tool run MobileSAM from this machine instead of SAM2 from the network. "
                "Params: label_field, a field of Detections to set up for annotation. For the App's server only."
            ),
            icon=ICON,
            dynamic=True,
            execute_as_generator=True,
            risk_level=types.RiskLevel.MEDIUM,
        )

    def resolve_input(self, ctx: Any) -> types.Property:
        """Say what will happen, and ask for the field to annotate in."""
        inputs = types.Object()
        inputs.md(
            f"Annotate > AI runs **{'MobileSAM' if annotation.is_active() else 'the default model, SAM2'}** now.\n\n"
            "Then it will run MobileSAM in this browser: 45 MB from this machine, nothing from the network. "
            "Click on an object to select it, on what is selected to take that part away; Shift turns this round. "
            "The tool takes no boxes, and goes on calling the model 'SAM2 Tiny'.\n\n"
            "The first time takes about half a minute. At the end this page is reloaded.",
            name="what",
        )
        choices = types.AutocompleteView(allow_user_input=True)
        for name in (NEW_FIELD, *label_fields(ctx.dataset, (fo.Detections,))):
            choices.add_choice(name, label=name)
        prop = inputs.str(
            "label_field",
            default=NEW_FIELD,
            label="Annotate in this field",
            description="New, or of detections. It is set up for annotation",
            view=choices,
        )
        if problem := _problem(ctx.dataset, ctx.params.get("label_field") or NEW_FIELD):
            prop.invalid, prop.error_message = True, problem
        view = types.PromptView(label="Use MobileSAM for in-App annotation", submit_button_label="Use MobileSAM")
        return types.Property(inputs, view=view)

    def execute(self, ctx: Any) -> Iterator[Any]:
        """Make the files if they are not there, serve them, and clear the browser's copies of the other model."""
        outputs = types.Object()
        outputs.float("progress", view=types.ProgressView(label="Preparing the model files ...", variant="circular"))
        yield ctx.ops.show_output(types.Property(outputs).to_json(), {})
        try:
            plugin = fop.get_plugin(PLUGIN)
            annotation.use(Path(plugin.directory), plugin.server_path)
            set_up_field(ctx.dataset, ctx.params.get("label_field") or NEW_FIELD)
        except Exception as error:
            yield ctx.ops.show_output(error_output(error).to_json(), {})
            return
        yield ctx.trigger(uri("clear_annotation_cache"))


class StopUsingForAnnotation(foo.Operator):
    """Give the App's Annotate -> AI tool its default model back."""

    @property
    def config(self) -> foo.OperatorConfig:
        """Name and label."""
        return foo.OperatorConfig(
            name="stop_using_for_annotation",
            label="Back to the default annotation model",
            description="Make the App's Annotate > AI tool run SAM2 from the network again. The page is reloaded.",
            icon=ICON,
            risk_level=types.RiskLevel.LOW,
        )

    def execute(self, ctx: Any) -> dict[str, bool]:
        """Undo what `use_for_annotation` did."""
        was_active = annotation.stop_using(Path(fop.get_plugin(PLUGIN).directory))
        ctx.trigger(uri("clear_annotation_cache"))
        return {"was_active": was_active}


def set_up_field(dataset: fo.Dataset, label_field: str) -> None:
    """Make a field ready for the App's annotation: create it, describe its labels, switch it on."""
    if not dataset.has_field(label_field):
        dataset.add_sample_field(label_field, fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    schemas = dataset.label_schemas or {}
    if label_field not in schemas:
        dataset.set_label_schemas({**schemas, label_field: dataset.generate_label_schemas(fields=label_field)})
    dataset.activate_label_schemas([label_field])


def _problem(dataset: fo.Dataset, label_field: str) -> str | None:
    if not label_field.isidentifier():
        return f"The name of the field must be letters, digits and underscores, got {label_field!r}."
    if dataset.has_field(label_field) and label_field not in label_fields(dataset, (fo.Detections,)):
        return f"The field must be new or of Detections, got {label_field!r} of another type."
    return None
