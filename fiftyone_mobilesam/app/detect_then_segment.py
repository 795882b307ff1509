"""Detect, then segment, then compare with ground truth, from one form."""

from pathlib import Path
from typing import Any

import fiftyone as fo
from fiftyone import operators as foo
from fiftyone.core.collections import SampleCollection
from fiftyone.operators import types

from fiftyone_mobilesam.app import _forms as forms
from fiftyone_mobilesam.app import _result
from fiftyone_mobilesam.app._names import LONG
from fiftyone_mobilesam.app._progress import LongOperator
from fiftyone_mobilesam.app.detectors import Detector, find_detector, list_detectors
from fiftyone_mobilesam.app.recipe import check_fields, detect_then_segment
from fiftyone_mobilesam.engine.report import count
from fiftyone_mobilesam.fields import label_fields

NEW = "A new field"
CONFIDENCE = 0.3  # of the form, and of a call that names none


def _output(result: dict[str, Any]) -> types.Property:
    prop = _result.output(result)
    lines = [f"{count(result['boxes'], 'box', 'boxes')} by `{result['detector']}`, in `{result['boxes_field']}`."]
    if evaluation := result.get("evaluation"):
        compared = "masks" if evaluation["masks"] else "boxes, as the ground truth has no masks"
        lines.append(f"**mAP {evaluation['mAP']:.3f}** (COCO's, of {compared}), kept as `{evaluation['eval_key']}`.")
    prop.type.md(" ".join(lines), name="detection")
    return prop


class DetectThenSegment(LongOperator):
    """Boxes from a detector, masks from the boxes, and an evaluation if there is ground truth.

    Not one of FiftyOne's pipelines: those show no progress, end after 600 s in the App and lose their result.
    """

    work, show = staticmethod(detect_then_segment), staticmethod(_output)
    config = foo.OperatorConfig(
        name="detect_then_segment",
        label="Detect, then segment with MobileSAM",
        description=(
            "Apply a detector, make masks of its boxes, and compare them with ground truth. Params: detector (of "
            "FiftyOne's zoo, a file of Ultralytics' weights, or a field that has boxes), boxes_field, label_field, "
            "optionally classes (comma-separated), confidence_thresh, gt_field, clip, min_region_area, batch_size, "
            "device, precision, weights."
        ),
        allow_delegated_execution=True,
        **LONG,
    )

    def resolve_input(self, ctx: Any) -> types.Property:
        """The form. It says what is wrong with it before anything starts."""
        inputs = types.Object()
        inputs.view_target(ctx, action_description="Detect and segment", require_flat=True)
        samples = ctx.target_view(require_flat=True)
        detectors = list_detectors(samples)
        keywords = self.read(samples, ctx.params)
        forms.choose(
            inputs,
            "detector",
            {one.name: (_short(one), str(one)) for one in detectors},
            view=types.AutocompleteView(allow_user_input=True),
            required=True,
            default=detectors[0].name,
            label="Boxes from",
            description="What runs here comes first. Or type the path of a file of weights (.pt, of Ultralytics)",
        )
        chosen = _detector(samples, keywords["detector"])
        if chosen is not None and (note := _note(chosen)):
            inputs.view("note", types.Notice(label=note))
        if chosen is None or chosen.kind != "field":
            inputs.str(
                "classes",
                label="Look for (optional)",
                description="For detectors that are told in words, such as Grounding DINO: person, red car",
            )
        inputs.float("confidence_thresh", default=CONFIDENCE, min=0, max=1, label="Drop boxes below this confidence")
        if chosen is None or chosen.kind != "field":
            inputs.str("boxes_field", default=keywords["boxes_field"], label="Put the boxes into", description=NEW)
        inputs.str("label_field", default=keywords["label_field"], label="Put the masks into", description=NEW)
        truths = {name: name for name in label_fields(samples, (fo.Detections,))}
        forms.choose(inputs, "gt_field", truths, label="Compare with ground truth (optional)")
        forms.add_masks(inputs, ctx.params, prompts="predictions")
        forms.add_problem(inputs, _problem(samples, keywords))
        return types.Property(
            inputs, view=types.PromptView(label="Detect, then segment", submit_button_label="Detect and segment")
        )

    def read(self, samples: SampleCollection, params: dict[str, Any], ctx: Any = None) -> dict[str, Any]:
        """Return the keywords of `detect_then_segment` that a filled form means."""
        detector = params.get("detector")
        if detector is None:
            detector = list_detectors(samples)[0].name
        chosen = _detector(samples, detector)
        is_there = chosen is not None and chosen.kind == "field"
        boxes_field = detector if is_there else params.get("boxes_field") or forms.new_field(samples, "predictions")
        return {
            **forms.read_masks(params),
            "detector": detector,
            "boxes_field": boxes_field,
            "label_field": params.get("label_field") or forms.new_field(samples, f"{boxes_field}_masks"),
            "classes": [name.strip() for name in (params.get("classes") or "").split(",") if name.strip()],
            "confidence_thresh": params.get("confidence_thresh", CONFIDENCE),
            "gt_field": params.get("gt_field"),
        }


def _detector(samples: SampleCollection, name: str) -> Detector | None:
    try:
        return find_detector(samples, name)
    except ValueError:  # which `_problem` tells
        return None


def _short(detector: Detector) -> str:
    return Path(detector.name).name if detector.kind == "file" else detector.name


def _note(detector: Detector) -> str:
    """Say what happens before anything is detected."""
    if detector.kind == "field":
        return f"Nothing is detected: masks are made of the boxes in {detector.name!r}."
    if detector.missing or detector.bytes == 0:
        return ""
    return f"{detector.name} ({detector.size}) is downloaded first, unless it is here. This needs a network."


def _problem(samples: SampleCollection, keywords: dict[str, Any]) -> str | None:
    if not keywords["detector"]:
        return "Choose a detector, or a field that has boxes."
    try:
        detector = find_detector(samples, keywords["detector"])
        boxes_field = None if detector.kind == "field" else keywords["boxes_field"]
        check_fields(samples, boxes_field, keywords["label_field"], keywords["gt_field"])
    except ValueError as error:
        return str(error)
    if detector.missing:
        return f"{detector.name} needs a package that is not installed. Run: {detector.pip}"
    return None if samples.limit(1).count() else forms.NOTHING_TO_DO
