"""Learn from masks that a person corrected, from one form."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import fiftyone as fo
from fiftyone import operators as foo
from fiftyone.core.collections import SampleCollection
from fiftyone.operators import types

from fiftyone_mobilesam.app import _forms as forms
from fiftyone_mobilesam.app._names import LONG
from fiftyone_mobilesam.app._progress import LongOperator
from fiftyone_mobilesam.app.recorded_run import Progress
from fiftyone_mobilesam.engine.report import count
from fiftyone_mobilesam.fields import label_fields, labels_path
from mobilesam.training import LEAST, PARTS
from mobilesam.training.recipe import Recipe

PROMPTS = {
    "given": "As they were: boxes of detectors, keypoints",
    "both": "Boxes and clicks in turns",
    "point": "Clicks only",
}
# On 2 cores, of a quick and of a slow CPU: an image, a mask in a pass, and what is measured before and after.
SECONDS = {"image": (0.3, 1.5), "mask": (0.04, 0.1), "check": (10, 30)}


def learn(
    samples: SampleCollection,
    *,
    on_progress: Callable[[Progress], Any] | None = None,
    stop: Event | None = None,
    **keywords: Any,
) -> dict[str, Any]:
    """Run `fom.train` for the App; see there. Returns `helped`, `path`, `text`, `failures` and `seconds`."""
    from fiftyone_mobilesam.training.dataset import train  # brings torch

    started = time.monotonic()
    tell = on_progress and (lambda done, text: on_progress(Progress(done, text or "Learning ...")))
    try:
        training = train(samples, **keywords, on_progress=tell, stop=stop, progress=on_progress is None)
    except KeyboardInterrupt:
        if stop is None or not stop.is_set():
            raise
        text = "Stopped before anything was learnt. What was encoded is kept for the next time."
        return {"helped": False, "path": None, "text": text, "failures": [], "seconds": time.monotonic() - started}
    return {
        "helped": training.helped,
        "path": training.path and str(training.path),
        "text": str(training),
        "failures": [{"where": where, "reason": reason} for where, reason in training.failed],
        "seconds": time.monotonic() - started,
    }


def _output(result: dict[str, Any]) -> types.Property:
    outputs = types.Object()
    head, _, card = result["text"].partition("\n")
    outputs.md(f"**{head.removeprefix('# ')}**\n{card}", name="card")
    if result["helped"]:
        outputs.md(
            f'Use them: `fom.load_model("{result["path"]}")`, or in the form that makes masks under "More settings". '
            f"It took {result['seconds']:,.0f} s.",
            name="next",
        )
    return types.Property(outputs)


class Train(LongOperator):
    """New weights from the masks of a field."""

    work, show = staticmethod(learn), staticmethod(_output)
    after_error = "No weights were written, and those that you had are as they were."
    config = foo.OperatorConfig(
        name="train",
        label="Train MobileSAM on corrected masks",
        description=(
            "Let MobileSAM learn from masks that were accepted in review, corrected or drawn, and write new weights if "
            "they are better on images left out. Params: mask_field, prompt_field (mask_field itself "
            "for drawn masks), out (a .safetensors or .pt file); weights, prompts (given, both, point) and passes."
        ),
        allow_delegated_execution=True,
        **LONG,
    )

    def resolve_input(self, ctx: Any) -> types.Property:
        """The form. It says how many masks there are, and about how long it takes."""
        inputs = types.Object()
        inputs.view_target(ctx, action_description="Train on", require_flat=True)
        samples = self.target(ctx)
        keywords = self.read(samples, ctx.params, ctx)
        masks = {name: name for name in label_fields(samples, (fo.Detections,))}
        prompts = {name: name for name in label_fields(samples)}
        if masks:
            forms.choose(inputs, "mask_field", masks, default=keywords["mask_field"], label="Learn from the masks in")
            forms.choose(
                inputs,
                "prompt_field",
                prompts,
                default=keywords["prompt_field"],
                label="Made from the prompts in",
                description="The field of the masks itself for masks that were drawn",
            )
        inputs.str("out", default=keywords["out"], label="Write the new weights to")
        forms.ask_for_weights(inputs, ctx.params, label="Start from the weights")
        forms.choose(inputs, "prompts", PROMPTS, default="given", label="Prompts to learn")
        number, images, accepted = _masks(samples, keywords["mask_field"]) if masks else (0, 0, False)
        if (wrong := _problem(number, images)) is None:
            inputs.view("what", types.Notice(label=_what(number, images, accepted)))
        forms.add_problem(inputs, wrong)
        return types.Property(inputs, view=types.PromptView(label=self.config.label, submit_button_label="Train"))

    def read(self, samples: SampleCollection, params: dict[str, Any], ctx: Any = None) -> dict[str, Any]:
        """Return the keywords of `fom.train` that a filled form means."""
        masks = params.get("mask_field") or next(iter(reversed(label_fields(samples, (fo.Detections,)))), "")
        own = masks.removesuffix("_masks")
        return {
            "mask_field": masks,
            "prompt_field": params.get("prompt_field") or (own if samples.has_field(own) else masks),
            "out": params.get("out") or _new_file(),
            "weights": params.get("weights") or "mobile_sam.pt",
            "prompts": params.get("prompts") or "given",
            "passes": params.get("passes"),
        }


def _masks(samples: SampleCollection, mask_field: str) -> tuple[int, int, bool]:
    """Count the masks that would be learnt from, and their images; and whether they were reviewed."""
    labels = labels_path(samples, mask_field)
    reviewed = samples.get_field(f"{labels}.review") is not None and samples.count(f"{labels}.review") > 0
    wanted = fo.ViewField("review") == "accepted" if reviewed else fo.ViewField("mask").exists()
    if not reviewed:
        wanted |= fo.ViewField("mask_path").exists()
    view = samples.filter_labels(mask_field, wanted, only_matches=True)
    return view.count(labels), len(view), reviewed


def _what(masks: int, images: int, reviewed: bool) -> str:
    low, high = _minutes(masks, images)
    kind = "accepted masks" if reviewed else "masks, all of the field, as none was reviewed"
    return (
        f"{masks} {kind}, in {count(images, 'image')}: about {low} to {high} minutes on a CPU. In tests 20 masks of "
        "one kind gained 0 to 2.5 points of mean IoU, 100 masks 2 to 3. If it does not help, nothing is written."
    )


def _minutes(masks: int, images: int) -> tuple[int, int]:
    """Return about how long it takes at least and at most, in minutes."""
    learnt = masks * (PARTS - 1) / PARTS
    seen = 2 * PARTS * learnt * Recipe().passes_over(int(learnt))  # with as many of photographs
    quick, slow = (images * image + seen * mask + check for image, mask, check in zip(*SECONDS.values(), strict=True))
    return math.ceil(quick / 60), math.ceil(slow / 60)


def _problem(masks: int, images: int) -> str | None:
    if masks >= LEAST and images > 1:
        return None
    return (
        f"There must be at least {LEAST} masks to learn from, of 2 images or more, got {masks} of {images}. "
        "Accept masks in review, correct or draw some."
    )


def _new_file() -> str:
    number = 1
    while (path := Path.home() / forms.TRAINED.format(number)).exists():
        number += 1
    return str(path)
