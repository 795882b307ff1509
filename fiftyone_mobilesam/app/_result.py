"""What the App shows when a run has ended."""

from typing import Any

from fiftyone.operators import types

from fiftyone_mobilesam.app._names import uri
from fiftyone_mobilesam.engine.report import FINISHED, INTERRUPTED, count

TITLES = {FINISHED: "Masks are ready", INTERRUPTED: "Stopped; what was done is kept"}


def output(result: dict[str, Any]) -> types.Property:
    """Return the App's output of what `segment` returned: counts, scores, failures, and what to do next."""
    outputs = types.Object()
    outputs.md(_counts(result), name="counts")
    histogram = result["predicted_iou"]
    if histogram["counts"] and result["samples"] > 1:
        outputs.plot(
            "histogram",
            data=[{"type": "bar", "x": histogram["edges"][:-1], "y": histogram["counts"], "offset": 0, "width": 0.05}],
            layout={
                "title": {"text": "Masks by predicted IoU"},
                "xaxis": {"title": {"text": "predicted IoU"}, "range": [0, 1.05]},
                "yaxis": {"title": {"text": "masks"}},
                "height": 260,
                "margin": {"t": 40, "b": 45, "l": 50, "r": 10},
            },
            config={"displayModeBar": False},
        )
    params, failed = {"run": result["run"]}, result["failed_samples"] + result["failed_prompts"]
    if failed:
        outputs.md(_failures(result["failures"], failed), name="failure_list")
    row = outputs.h_stack("actions", gap=2)
    if failed:
        row.btn("show_failures", label="Show failures", on_click=uri("show_failures"), params=params)
    if result["masks"]:
        row.btn("review", label="Review worst first", on_click=uri("review_run"), params=params)
    row.btn("show_run", label="Show these masks only", on_click=uri("show_run"), params=params)
    row.btn("undo", label="Undo", on_click=uri("undo_run"), params=params, prompt=True)
    return types.Property(outputs)


def _counts(result: dict[str, Any]) -> str:
    masks, images = count(result["masks"], "mask"), count(result["samples"], "image")
    parts = [f"**{masks}** in {images}, in field `{result['label_field']}`"]
    if result["samples_without_prompts"]:
        parts.append(f"{count(result['samples_without_prompts'], 'image')} without prompts")
    if result["failed_prompts"]:
        parts.append(f"{count(result['failed_prompts'], 'prompt')} without a mask")
    if result["failed_samples"]:
        parts.append(f"{count(result['failed_samples'], 'image')} failed")
    return f"#### {TITLES[result['state']]}\n\n{', '.join(parts)}. {result['seconds']:,.1f} s."


def _failures(failures: list[dict[str, Any]], number: int, shown: int = 5) -> str:
    lines = [f"- {failure['reason']}" for failure in failures[:shown]]
    more = number - len(lines)
    return "\n".join(["**Failures**", "", *lines, *([f"- and {more:,} more"] if more else [])])
