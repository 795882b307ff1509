"""The form of the operators that make masks: its inputs, what is wrong with them, and what they mean."""

from dataclasses import dataclass, field
from typing import Any

import fiftyone as fo
from fiftyone import ViewField as F
from fiftyone.core.collections import SampleCollection
from fiftyone.core.media import VIDEO
from fiftyone.operators import types

from fiftyone_mobilesam.fields import BOX_FIELD_LABELS, FRAMES, POINT_FIELD_LABELS, Target, label_fields, labels_path
from fiftyone_mobilesam.options import Options

EVERYTHING = "(everything)"
POINTS_PER_SIDE = 16
CLIPS = {
    "box": (True, "Cut at the box", "Best for boxes that fit tightly"),
    "padded_box": (0.05, "Cut at the box grown by 5%", "For boxes that cut a little off"),
    "off": (False, "Do not cut", "For loose boxes"),
}
DEVICES = {"auto": "A GPU if there is one", "cpu": "CPU", "cuda": "NVIDIA GPU", "mps": "Apple GPU"}
PRECISIONS = {
    "fp32": "Exact (fp32)",
    "bf16": "Faster (bf16), masks differ by about 1%",
    "auto": "Faster where the device supports it",
}


@dataclass(frozen=True)
class Choices:
    """What a form was filled with.

    Attributes:
        label_field: where the masks go.
        options: keywords of `fiftyone_mobilesam.options.Options`.
        settings: keywords of `fiftyone_mobilesam.app.recorded_run.segment` about the machine.
    """

    label_field: str
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def keywords(self) -> dict[str, Any]:
        """All keywords of `segment`."""
        return {**self.options, **self.settings}


def read(
    samples: SampleCollection, params: dict[str, Any], *, preferred: str | None = None, merge: bool = False
) -> Choices:
    """Return what the values of a form mean. What is absent has the form's default.

    Args:
        samples: what is segmented.
        params: of the operator.
        preferred: the field of prompts that is chosen beforehand, if it fits.
        merge: keep labels of other prompts in a field that exists, unless the form says otherwise.
    """
    prompts = params.get("prompt_field") or default_prompts(samples, preferred)
    label_field = (params.get("label_field") or default_label_field(samples, prompts, merge=merge)).strip()
    options: dict[str, Any] = {}
    if prompts == EVERYTHING:
        options["everything"] = {"points_per_side": params.get("points_per_side") or POINTS_PER_SIDE}
    else:
        points = params.get("point_prompt_field")
        options |= {"box_prompt_field": prompts, "point_prompt_field": points} if points else {"prompt_field": prompts}
        if label_field.removeprefix(FRAMES) == prompts.removeprefix(FRAMES):
            options["in_place"] = True
        elif samples.has_field(label_field) and samples.media_type != VIDEO:
            options["merge"] = params.get("existing", "merge" if merge else "replace") == "merge"
    options["clip"] = CLIPS[params.get("clip") or "box"][0]
    options["min_region_area"] = params.get("min_region_area") or 0
    device = params.get("device")
    settings = {
        "device": None if device in (None, "auto") else device,
        "precision": params.get("precision") or "fp32",
        "batch_size": params.get("batch_size") or 1,
    }
    return Choices(label_field, options, settings)


def default_prompts(samples: SampleCollection, preferred: str | None = None) -> str:
    """Return the field of prompts that the form proposes."""
    fields = label_fields(samples)
    return preferred if preferred in fields else next(iter(fields), EVERYTHING)


def default_label_field(samples: SampleCollection, prompts: str, *, merge: bool = False) -> str:
    """Return the label field that the form proposes: a new one, unless labels are merged."""
    name = new = "everything" if prompts == EVERYTHING else f"{prompts}_masks"
    if merge and name in label_fields(samples, (fo.Detections,)):
        return name
    number = 2
    while samples.has_field(new):
        new, number = f"{name}_{number}", number + 1
    return new


def add_prompts(inputs: types.Object, samples: SampleCollection, params: dict, *, preferred: str | None = None) -> str:
    """Ask for the prompts; return the field that is chosen, or `EVERYTHING`."""
    default = default_prompts(samples, preferred)
    dropdown = types.DropdownView()
    for name in label_fields(samples):
        dropdown.add_choice(name, label=name, description=_kind(samples, name))
    dropdown.add_choice(EVERYTHING, label="No prompts: segment everything", description="One mask for each thing found")
    inputs.enum(
        "prompt_field",
        dropdown.values(),
        default=default,
        label="Make masks from",
        description="Each box or keypoint of this field becomes one mask",
        view=dropdown,
    )
    chosen = params.get("prompt_field") or default
    points = label_fields(samples, POINT_FIELD_LABELS)
    if points and chosen in label_fields(samples, BOX_FIELD_LABELS):
        both = types.DropdownView()
        for name in points:
            both.add_choice(name, label=name)
        inputs.enum(
            "point_prompt_field",
            both.values(),
            label="Keypoints of the same objects (optional)",
            description="A box and a keypoint that share an instance, an index or a place are one prompt",
            view=both,
        )
    if chosen == EVERYTHING:
        density = types.DropdownView()
        for value, label in ((32, "Fine: 32 x 32 points"), (16, "Medium: 16 x 16"), (8, "Coarse: 8 x 8")):
            density.add_choice(value, label=label)
        inputs.enum("points_per_side", density.values(), default=POINTS_PER_SIDE, label="Grid of points", view=density)
    return chosen


def add_output(inputs: types.Object, samples: SampleCollection, params: dict, prompts: str, *, merge: bool) -> str:
    """Ask where the masks go; return the field that is chosen."""
    everything = prompts == EVERYTHING
    existing = [] if everything else [name for name in label_fields(samples, (fo.Detections,)) if name != prompts]
    default = default_label_field(samples, prompts, merge=merge)
    choices = types.AutocompleteView(allow_user_input=True)
    if default not in existing:
        choices.add_choice(default, label=default, description="New field")
    for name in existing:
        choices.add_choice(name, label=name, description="Existing field")
    if prompts in label_fields(samples, (fo.Detections, fo.Detection)):
        choices.add_choice(prompts, label=prompts, description="In place: the boxes themselves get masks")
    inputs.str(
        "label_field",
        default=default,
        label="Put the masks into",
        description="Type a new name, or choose a field",
        view=choices,
    )
    label_field = (params.get("label_field") or default).strip()
    if label_field.removeprefix(FRAMES) == prompts.removeprefix(FRAMES):
        inputs.view(
            "in_place_notice",
            types.Notice(label=f"The labels of {prompts!r} themselves get masks. Masks that they have are replaced."),
        )
    elif label_field in existing and samples.media_type != VIDEO:
        keep = types.RadioGroup()
        keep.add_choice("merge", label="Keep labels of other prompts, replace those of the same prompts")
        keep.add_choice("replace", label="Replace all labels of the samples that are segmented")
        inputs.enum(
            "existing",
            keep.values(),
            default="merge" if merge else "replace",
            label=f"{label_field!r} exists already",
            view=keep,
        )
    return label_field


def add_masks(inputs: types.Object, params: dict, prompts: str) -> None:
    """Ask how masks are made, and on what."""
    if prompts != EVERYTHING:
        clips = types.DropdownView()
        for value, (_, label, description) in CLIPS.items():
            clips.add_choice(value, label=label, description=description)
        inputs.enum("clip", clips.values(), default="box", label="Masks that leave their box", view=clips)
    inputs.bool("more", label="More settings", view=types.SwitchView())
    if not params.get("more"):
        return
    if prompts != EVERYTHING:
        inputs.int(
            "min_region_area",
            default=0,
            min=0,
            label="Clean up",
            description="Fill holes and remove islands of fewer pixels than this; 0 leaves masks as they are",
        )
    inputs.int("batch_size", default=1, min=1, max=64, label="Images at once", description="More than 1 pays on a GPU")
    for name, label, values in (("device", "Device", DEVICES), ("precision", "Precision", PRECISIONS)):
        dropdown = types.DropdownView()
        for value, text in values.items():
            dropdown.add_choice(value, label=text)
        inputs.enum(name, dropdown.values(), default=next(iter(values)), label=label, view=dropdown)


def problem(samples: SampleCollection, choices: Choices) -> str | None:
    """Return what is wrong with a filled form, or None. Reads the schema and one sample at most."""
    try:
        options = Options.parse(**choices.options)
        Target(samples, choices.label_field).check(options)
    except (TypeError, ValueError) as error:
        return str(error)
    name = choices.label_field.removeprefix(FRAMES)
    if not name.isidentifier():
        return f"The name of the field must be letters, digits and underscores, got {name!r}."
    if not samples.limit(1).count():
        return "There is nothing to do: no image is selected, or the view is empty."
    for path in options.prompt_paths.values():
        if not _with_labels(samples, path).limit(1).count():
            return f"There is nothing to do: {path!r} has no labels in these images."
    return None


def add_problem(inputs: types.Object, text: str | None) -> None:
    """Say what is wrong, and keep the form from being sent."""
    if text is not None:
        prop = inputs.view("problem", types.Error(label="This will not work yet", description=text))
        prop.invalid, prop.error_message = True, text


def _with_labels(samples: SampleCollection, path: str) -> SampleCollection:
    inner = labels_path(samples, path)
    if inner == path:
        return samples.exists(path)
    some = F(inner.removeprefix(FRAMES)).length() > 0
    return samples.match_frames(some) if path.startswith(FRAMES) else samples.match(some)


def _kind(samples: SampleCollection, path: str) -> str:
    kind = samples.get_field(path).document_type.__name__
    return {"Detections": "boxes", "Detection": "one box", "Keypoints": "keypoints", "Keypoint": "one keypoint"}.get(
        kind, f"boxes around {kind.lower()}"
    )
