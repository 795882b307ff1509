"""The two buttons that make masks: for a dataset, view or selection over the grid, and for the open sample."""

from typing import Any

from fiftyone import operators as foo
from fiftyone.core.collections import SampleCollection
from fiftyone.core.media import GROUP
from fiftyone.operators import types

from fiftyone_mobilesam.app import _forms as forms
from fiftyone_mobilesam.app import _result
from fiftyone_mobilesam.app._existing_form import add_existing
from fiftyone_mobilesam.app._names import ICON, LONG
from fiftyone_mobilesam.app._progress import LongOperator
from fiftyone_mobilesam.app.recorded_run import segment


class Segment(LongOperator):
    """Masks for a dataset, a view, the selected samples or the selected labels."""

    work, show = staticmethod(segment), staticmethod(_result.output)
    place = types.Places.SAMPLES_GRID_SECONDARY_ACTIONS
    config = foo.OperatorConfig(
        name="segment",
        label="Segment with MobileSAM",
        description=(
            "Make instance masks from the boxes, keypoints or polylines of a field, or of everything in the images. "
            "Params: prompt_field, label_field (new, existing, or prompt_field itself to fill it in place), optionally "
            "point_prompt_field, clip (box, padded_box, off), quality (fast, best), exclusive, refine, "
            "existing (merge, which keeps labels that the field has, or replace), replace_own_work (true: even labels "
            "that no run wrote), min_region_area, batch_size, device, precision, weights. The run is recorded and can "
            "be undone."
        ),
        allow_delegated_execution=True,
        **LONG,
    )

    def resolve_placement(self, ctx: Any) -> types.Placement:
        """A button; nothing is looked up."""
        return types.Placement(self.place, types.Button(label=self.config.label, icon=ICON, prompt=True))

    def resolve_input(self, ctx: Any) -> types.Property:
        """The form. It says what is wrong with it before anything starts."""
        inputs = types.Object()
        self.add_target(ctx, inputs)
        samples = self.target(ctx)
        prompts = forms.add_prompts(inputs, samples, ctx.params, preferred=_field_of_selected_labels(ctx))
        forms.add_size(inputs, samples, prompts)
        forms.add_output(inputs, samples, ctx.params, prompts, merge=self.merges(ctx))
        add_existing(inputs, samples, self.read(samples, ctx.params, ctx))
        forms.add_masks(inputs, ctx.params, prompts)
        forms.add_problem(inputs, self.problem(ctx, samples))
        return types.Property(inputs, view=types.PromptView(label=self.config.label, submit_button_label="Segment"))

    def read(self, samples: SampleCollection, params: dict[str, Any], ctx: Any = None) -> dict[str, Any]:
        """Return the keywords of `segment` that a filled form means; what is selected in the App is proposed there."""
        if ctx is None:
            return forms.read(samples, params)
        return forms.read(samples, params, preferred=_field_of_selected_labels(ctx), merge=self.merges(ctx))

    def problem(self, ctx: Any, samples: SampleCollection) -> str | None:
        """Return what is wrong with the form of a request, or None."""
        return forms.problem(samples, self.read(samples, ctx.params, ctx))

    def add_target(self, ctx: Any, inputs: types.Object) -> None:
        """Ask what to segment: dataset, view, selected samples, selected labels."""
        inputs.view_target(ctx, action_description="Segment", allow_selected_labels=True, require_flat=True)

    def merges(self, ctx: Any) -> bool:
        """Whether masks should go into the field of earlier ones: if only some labels were selected."""
        return ctx.request_params.get("view_target") == foo.ViewTarget.SELECTED_LABELS


class SegmentSample(Segment):
    """Masks for the sample that is open, of the labels selected in it or of all."""

    place = types.Places.SAMPLES_VIEWER_ACTIONS
    config = foo.OperatorConfig(
        name="segment_sample",
        label="Segment this sample with MobileSAM",
        description=(
            "Make instance masks for the open sample: of the labels selected in it, or of all. Params as of `segment`."
        ),
        **LONG,
    )

    def add_target(self, ctx: Any, inputs: types.Object) -> None:
        """Say what is segmented; there is nothing to choose."""
        count = len(self._selected(ctx))
        what = f"The {count} selected label{'s' * (count != 1)}" if count else "All labels"
        inputs.view("target", types.Notice(label=f"{what} of this sample will be segmented."))

    def problem(self, ctx: Any, samples: SampleCollection) -> str | None:
        """Return what is wrong with the form of a request, or None."""
        if ctx.current_sample is None:
            return "No sample is open. Open one, or use 'Segment with MobileSAM' over the grid."
        return super().problem(ctx, samples)

    def target(self, ctx: Any) -> SampleCollection:
        """Return the open sample, with the selected labels only if there are any."""
        dataset = ctx.dataset
        samples = dataset.select_group_slices(media_type="image") if dataset.media_type == GROUP else dataset.view()
        samples = samples.select(ctx.current_sample or [])
        selected = self._selected(ctx)
        return samples.select_labels(selected) if selected else samples

    def merges(self, ctx: Any) -> bool:
        """True: clicking one object after another adds masks."""
        return True

    def _selected(self, ctx: Any) -> list[dict]:
        return [label for label in ctx.selected_labels if label["sample_id"] == ctx.current_sample]


def _field_of_selected_labels(ctx: Any) -> str | None:
    return next((label["field"] for label in ctx.selected_labels), None)
