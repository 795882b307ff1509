"""Operators on runs that are going on or have ended: stop, show, undo; and the model's memory."""

from typing import Any

import fiftyone as fo
from fiftyone import operators as foo
from fiftyone.operators import types

from fiftyone_mobilesam.app._forms import choose
from fiftyone_mobilesam.app._stops import is_here, stop
from fiftyone_mobilesam.engine.report import count
from fiftyone_mobilesam.fields import labels_path
from fiftyone_mobilesam.replaced import Replaced
from fiftyone_mobilesam.runs import call_of, describe, failures_of_run, label_field_of, list_runs
from fiftyone_mobilesam.undo import labels_of_run, undo_run, why_not

BUTTON = {"unlisted": True, "risk_level": types.RiskLevel.LOW}  # of a run's progress or result, and nowhere else


class StopRun(foo.Operator):
    """Stop a run that is going on in this App."""

    config = foo.OperatorConfig(name="stop_run", label="Stop the MobileSAM run", **BUTTON)

    def execute(self, ctx: Any) -> dict[str, Any]:
        """Stop after the current images."""
        return {"stopping": stop(str(ctx.params.get("token")))}


class ShowRun(foo.Operator):
    """Show the labels of a run in the grid, and nothing else in its field."""

    config = foo.OperatorConfig(name="show_run", label="Show the masks of a MobileSAM run", **BUTTON)

    def execute(self, ctx: Any) -> None:
        """Set the view."""
        ctx.ops.set_view(self(ctx.dataset, ctx.params["run"]))
        _say(ctx, "The grid now shows the masks of this run, and no others of its field.")

    def __call__(self, dataset: fo.Dataset, run: str) -> fo.DatasetView:
        """Return the view of a run's labels."""
        return labels_of_run(dataset, run)


class ShowFailures(foo.Operator):
    """Show the samples in which something failed."""

    config = foo.OperatorConfig(name="show_failures", label="Show the failures of a MobileSAM run", **BUTTON)

    def execute(self, ctx: Any) -> dict[str, Any]:
        """Set the view, and return the failures."""
        failures = self(ctx.dataset, ctx.params["run"])
        ids = list(dict.fromkeys(failure["sample_id"] for failure in failures))
        ctx.ops.set_view(ctx.dataset.select(ids))
        _say(ctx, f"The grid now shows {count(len(ids), 'image')} with failures.")
        return {"failures": failures}

    def __call__(self, dataset: fo.Dataset, run: str) -> list[dict[str, Any]]:
        """Return what failed in a run: `sample_id`, `prompt_id`, `filepath` and `reason` each."""
        return failures_of_run(dataset, run)


class ReviewRun(foo.Operator):
    """Open the panel of masks, worst first, at the field of a run."""

    config = foo.OperatorConfig(name="review_run", label="Review the masks of a MobileSAM run", **BUTTON)

    def execute(self, ctx: Any) -> None:
        """Open the panel beside the grid."""
        label_field = label_field_of(ctx.dataset.get_run_info(ctx.params["run"]).config)
        ctx.ops.open_panel("review_masks", layout="horizontal", state={"field": label_field})
        _say(ctx, "The panel 'Review masks' is open beside the grid.")


def _say(ctx: Any, text: str) -> None:
    """Show a text in place of the window that covers the grid."""
    outputs = types.Object()
    outputs.md(text, name="text")
    ctx.ops.show_output(types.Property(outputs).to_json(), {})


class UndoRun(foo.Operator):
    """Remove exactly what a run wrote."""

    config = foo.OperatorConfig(
        name="undo_run",
        label="Undo a MobileSAM run",
        description="Remove exactly what a run wrote: by default the last one. Params: run (its key).",
        dynamic=True,
        risk_level=types.RiskLevel.HIGH,
    )

    def resolve_input(self, ctx: Any) -> types.Property:
        """Choose the run, latest first, and see what goes; one that is going on in this App is stopped instead."""
        inputs, button = types.Object(), "Undo"
        configs = {key: ctx.dataset.get_run_info(key).config for key in list_runs(ctx.dataset)}
        if configs:
            latest = next(iter(configs))
            labels = {key: describe(key, config) for key, config in configs.items()}
            choose(inputs, "run", labels, default=latest, label="Run")
            chosen = ctx.params.get("run") if ctx.params.get("run") in configs else latest
            if (why := why_not(ctx.dataset, chosen)) is None:
                inputs.view("what", types.Warning(label=_what_goes(ctx.dataset, chosen)))
            elif is_here(chosen):
                text = "It stops after the current images. What is done is kept; once it has ended, undo it here."
                inputs.bool(_stop_name(chosen), default=True, required=True, label="Stop this run", description=text)
                button = "Stop"
            else:
                notice = inputs.view("not_now", types.Notice(label=why))
                notice.invalid, notice.error_message = True, why
        else:
            nothing = inputs.view("nothing", types.Notice(label="No MobileSAM run is recorded with this dataset."))
            nothing.invalid, nothing.error_message = True, "There is nothing to undo."
        view = types.PromptView(label=self.config.label, submit_button_label=button)
        return types.Property(inputs, view=view)

    def execute(self, ctx: Any) -> dict[str, Any]:
        """Undo it; or stop it, if the form offered that: a run that has ended meanwhile is not undone unasked."""
        run = ctx.params.get("run")
        if run and ctx.params.get(_stop_name(run)):
            return {"run": run, "stopping": stop(run)}
        result = undo_run(ctx.dataset, run)
        if not ctx.delegated:
            ctx.trigger("reload_dataset")
        return result

    def resolve_output(self, ctx: Any) -> types.Property:
        """Say what has gone."""
        outputs = types.Object()
        if (stopping := (ctx.results or {}).get("stopping")) is not None:
            text = "The run stops after the current images" if stopping else "The run had ended already"
            outputs.md(f"{text}. What it made is kept; to take it back, come here again.", name="text")
            return types.Property(outputs, view=types.View(label="Stop"))
        outputs.str("label_field", label="Field")
        outputs.int("labels", label="Labels removed, or emptied in place")
        outputs.int("restored", label="Labels that are back")
        outputs.int("changed_since", label="Labels that stay, as somebody changed them since")
        return types.Property(outputs, view=types.View(label="Undone"))

    def __call__(self, dataset: fo.Dataset, run: str | None = None) -> dict[str, Any]:
        """Undo a run from Python: see `fiftyone_mobilesam.undo.undo_run`."""
        return undo_run(dataset, run)


def _stop_name(run: str) -> str:
    """Return what the form calls its "Stop this run", so that a yes is to one run and no other."""
    return f"stop_{run}"


def _what_goes(dataset: fo.Dataset, run: str) -> str:
    config = dataset.get_run_info(run).config
    field, kept = label_field_of(config), Replaced(dataset, run)
    path = labels_path(dataset, field)
    number = count(labels_of_run(dataset, run).count(path) if dataset.get_field(path) is not None else 0, "label")
    if call_of(config).get("in_place"):
        what = f"The masks and scores that the run put into {number} of {field!r} are removed, and the boxes put back."
        lost = "Masks that were there before it do not come back."
    else:
        what = f"The run put {number} into {field!r}: these are deleted."
        lost = "Labels that it replaced do not come back." if field in getattr(config, "paths_before", [field]) else ""
    if kept.is_known():
        back = count(len(kept), "label")
        lost = f"{back} that it replaced come back. What somebody changed since stays as it is." if len(kept) else ""
    return f"{what} {lost}".strip()


class ReleaseModels(foo.Operator):
    """Give the model's memory back."""

    config = foo.OperatorConfig(
        name="release_models",
        label="Release MobileSAM from memory",
        description="Give the memory back that the model keeps between runs; the next run loads it again.",
        risk_level=types.RiskLevel.LOW,
    )

    def execute(self, ctx: Any) -> dict[str, int]:
        """Forget the models of this process."""
        return self()

    def __call__(self) -> dict[str, int]:
        """Forget the models of this process; return how many there were."""
        from fiftyone_mobilesam.models import release_models

        return {"released": release_models()}

    def resolve_output(self, ctx: Any) -> types.Property:
        """Say how many there were."""
        outputs = types.Object()
        outputs.int("released", label="Models released")
        return types.Property(outputs, view=types.View(label="MobileSAM"))
