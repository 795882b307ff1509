"""The form of the operators that make masks: its inputs, what is wrong with them, and what they mean."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fiftyone as fo
from fiftyone import ViewField as F
from fiftyone.core.collections import SampleCollection
from fiftyone.core.media import VIDEO
from fiftyone.operators import types

from fiftyone_mobilesam.app.existing import settle
from fiftyone_mobilesam.engine.report import count, duration
from fiftyone_mobilesam.fields import BOX_FIELD_LABELS, FRAMES, POINT_FIELD_LABELS, Target, label_fields, labels_path
from fiftyone_mobilesam.options import Options
from mobilesam.errors import CheckpointError
from mobilesam.weights import resolve

EVERYTHING = "(everything)"
POINTS_PER_SIDE = {32: "Fine: 32 x 32 points", 16: "Medium: 16 x 16", 8: "Coarse: 8 x 8"}
MEDIUM = 16
CLIPS = {"box": True, "padded_box": 0.05, "off": False}
CLIP_LABELS = {
    "box": ("Cut at the box", "Best for boxes that fit tightly"),
    "padded_box": ("Cut at the box grown by 5%", "For boxes that cut a little off"),
    "off": ("Do not cut", "For loose boxes"),
}
DEVICES = {"auto": "A GPU if there is one", "cpu": "CPU", "cuda": "NVIDIA GPU", "mps": "Apple GPU"}
PRECISIONS = {
    "fp32": "Exact (fp32)",
    "bf16": "Faster (bf16), masks differ by about 1%",
    "auto": "Faster where the device supports it",
}
QUALITIES = {
    "fast": "Fast",
    "best": ("Best", "Small objects are looked at twice; about 1 to 3 times the time"),
}
WEIGHTS = {
    "mobile_sam.pt": "MobileSAM's own",
    "mobile_sam_coco.pt": "Fitted to boxes on photographs",
}
TRAINED = "mobile_sam_trained_{}.safetensors"  # new weights, in the user's folder
IMAGES_A_SECOND = (3, 1)  # on 2 cores, with about 10 boxes each: benchmarks/results, on a quick and on a slow CPU
NOTHING_TO_DO = "There is nothing to do: no image is selected, or the view is empty."


def choose(
    inputs: types.Object,
    name: str,
    labels: Mapping[Any, str | tuple[str, str]],
    *,
    view: types.Choices | None = None,
    **keywords: Any,
) -> types.Property:
    """Ask for one of some values, each with a label, or a label and a description; in an `AutocompleteView` for any."""
    view = view or types.DropdownView()
    for value, text in labels.items():
        label, description = (text, None) if isinstance(text, str) else text
        view.add_choice(value, label=label, description=description)
    if isinstance(view, types.AutocompleteView):
        return inputs.str(name, view=view, **keywords)
    return inputs.enum(name, view.values(), view=view, **keywords)


def read(
    samples: SampleCollection, params: dict[str, Any], *, preferred: str | None = None, merge: bool = False
) -> dict[str, Any]:
    """Return what a form was filled with as keywords of `segment`. What is absent has the form's default.

    `preferred` is the field of prompts that is chosen beforehand, if it fits. With `merge` masks go into the field of
    earlier ones by default, else into a new one.
    """
    prompts = params.get("prompt_field") or default_prompts(samples, preferred)
    label_field = (params.get("label_field") or default_label_field(samples, prompts, merge=merge)).strip()
    keywords: dict[str, Any] = {"label_field": label_field, "existing": params.get("existing")}
    keywords["replace_own_work"] = bool(params.get("replace_own_work"))
    if prompts == EVERYTHING:
        keywords["everything"] = {"points_per_side": params.get("points_per_side") or MEDIUM}
        params = {name: value for name, value in params.items() if name not in ("quality", "exclusive", "refine")}
    else:
        points = params.get("point_prompt_field")
        keywords |= {"box_prompt_field": prompts, "point_prompt_field": points} if points else {"prompt_field": prompts}
        if label_field.removeprefix(FRAMES) == prompts.removeprefix(FRAMES):
            keywords["in_place"] = True
    return keywords | read_masks(params)


def read_masks(params: dict[str, Any]) -> dict[str, Any]:
    """Return what the inputs of `add_masks` were filled with."""
    device = params.get("device")
    return {
        "clip": CLIPS[params.get("clip") or "box"],
        "min_region_area": params.get("min_region_area") or 0,
        "quality": params.get("quality") or "fast",
        "overlap": "exclusive" if params.get("exclusive") else "keep",
        "refine": bool(params.get("refine")),
        "device": None if device in (None, "auto") else device,
        "precision": params.get("precision") or "fp32",
        "weights": (params.get("weights") or "mobile_sam.pt").strip(),
        "batch_size": params.get("batch_size") or 1,
    }


def default_prompts(samples: SampleCollection, preferred: str | None = None) -> str:
    """Return the field of prompts that the form proposes."""
    fields = label_fields(samples)
    return preferred if preferred in fields else next(iter(fields), EVERYTHING)


def default_label_field(samples: SampleCollection, prompts: str, *, merge: bool = False) -> str:
    """Return the label field that the form proposes: a new one, unless masks are added to earlier ones."""
    name = "everything" if prompts == EVERYTHING else f"{prompts}_masks"
    if merge and name in label_fields(samples, (fo.Detections,)):
        return name
    return new_field(samples, name)


def new_field(samples: SampleCollection, name: str) -> str:
    """Return a name for a new field: this one, or with a number behind it."""
    new, number = name, 2
    while samples.has_field(new):
        new, number = f"{name}_{number}", number + 1
    return new


def add_prompts(inputs: types.Object, samples: SampleCollection, params: dict, *, preferred: str | None = None) -> str:
    """Ask for the prompts; return the field that is chosen, or `EVERYTHING`."""
    fields = {name: (name, _kind(samples, name)) for name in label_fields(samples)}
    default = default_prompts(samples, preferred)
    choose(
        inputs,
        "prompt_field",
        fields | {EVERYTHING: ("No prompts: segment everything", "One mask for each thing found")},
        default=default,
        label="Make masks from",
        description="Each box or keypoint of this field becomes one mask",
    )
    chosen = params.get("prompt_field") or default
    points = label_fields(samples, POINT_FIELD_LABELS)
    if points and chosen in label_fields(samples, BOX_FIELD_LABELS):
        choose(
            inputs,
            "point_prompt_field",
            {name: name for name in points},
            label="Keypoints of the same objects (optional)",
            description="A box and a keypoint that share an instance, an index or a place are one prompt",
        )
    if chosen == EVERYTHING:
        choose(inputs, "points_per_side", POINTS_PER_SIDE, default=MEDIUM, label="Grid of points")
    return chosen


def add_size(inputs: types.Object, samples: SampleCollection, prompts: str) -> None:
    """Say how much there is to do, and about how long it takes."""
    if prompts == EVERYTHING or not (images := _with_labels(samples, prompts).count()):
        return
    labels = count(samples.count(labels_path(samples, prompts)), "prompt")
    if samples.media_type == VIDEO:
        text = f"{labels} in {count(images, 'video')}."
    else:
        low, high = (duration(images / speed) for speed in IMAGES_A_SECOND)
        time = low if low == high else f"{low} to {high}"
        text = f"{labels} in {count(images, 'image')}: about {time} on a CPU."
    inputs.view("size", types.Notice(label=f"{text} You can stop at any time and keep what is done."))


def add_output(inputs: types.Object, samples: SampleCollection, params: dict, prompts: str, *, merge: bool) -> None:
    """Ask where the masks go."""
    fields = [] if prompts == EVERYTHING else label_fields(samples, (fo.Detections,))
    existing = {name: (name, "Existing field") for name in fields if name != prompts}
    default = default_label_field(samples, prompts, merge=merge)
    labels = existing if default in existing else {default: (default, "New field")} | existing
    if prompts in label_fields(samples, (fo.Detections, fo.Detection)):
        labels = labels | {prompts: (prompts, "In place: the boxes themselves get masks")}
    choose(
        inputs,
        "label_field",
        labels,
        view=types.AutocompleteView(allow_user_input=True),
        default=default,
        label="Put the masks into",
        description="Type a new name, or choose a field",
    )
    if (params.get("label_field") or default).strip().removeprefix(FRAMES) == prompts.removeprefix(FRAMES):
        text = f"The labels of {prompts!r} themselves get masks, and boxes on whole pixels. Undo puts the boxes back."
        inputs.view("in_place_notice", types.Notice(label=text))


def add_masks(inputs: types.Object, params: dict, prompts: str) -> None:
    """Ask how masks are made, and on what."""
    if prompts != EVERYTHING:
        choose(inputs, "clip", CLIP_LABELS, default="box", label="Masks that leave their box")
        choose(inputs, "quality", QUALITIES, default="fast", label="Quality")
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
        inputs.bool(
            "exclusive",
            default=False,
            label="Masks do not overlap",
            description="A pixel that several masks of an image claim goes to one of them",
        )
        inputs.bool(
            "refine",
            default=False,
            label="Refine masks and polygons",
            description="Where a label has a mask or a polygon, that is part of the prompt, not its box alone",
        )
    inputs.int("batch_size", default=1, min=1, max=64, label="Images at once", description="More than 1 pays on a GPU")
    choose(inputs, "device", DEVICES, default="auto", label="Device")
    choose(inputs, "precision", PRECISIONS, default="fp32", label="Precision")
    ask_for_weights(inputs, params, label="Weights")


def ask_for_weights(inputs: types.Object, params: dict, *, label: str) -> None:
    """Ask for weights: a bundled name, one of those that the App trained, or any file."""
    trained = {str(path): path.name for path in sorted(Path.home().glob(TRAINED.format("*")))}
    prop = choose(
        inputs,
        "weights",
        WEIGHTS | trained,
        view=types.AutocompleteView(allow_user_input=True),
        default="mobile_sam.pt",
        label=label,
        description="Choose, or type the path of a checkpoint",
    )
    try:
        resolve((params.get("weights") or "mobile_sam.pt").strip())
    except CheckpointError as error:
        prop.invalid, prop.error_message = True, str(error)


def problem(samples: SampleCollection, keywords: dict[str, Any]) -> str | None:
    """Return what is wrong with a filled form, or None. Reads the schema and one sample at most."""
    label_field = keywords["label_field"]
    how = {name: keywords.get(name) for name in ("existing", "replace_own_work")}
    try:
        options = options_of(keywords)
        Target(samples, label_field).check(options)
        asked, (samples, _) = samples, settle(samples, label_field, options, **how)
    except (TypeError, ValueError) as error:
        return str(error)
    name = label_field.removeprefix(FRAMES)
    if not name.isidentifier():
        return f"The name of the field must be letters, digits and underscores, got {name!r}."
    if not asked.limit(1).count():
        return NOTHING_TO_DO
    for path in options.prompt_paths.values():
        if not _with_labels(samples, path).limit(1).count():
            which = "without a mask " if samples is not asked else ""
            return f"There is nothing to do: {path!r} has no labels {which}in these images."
    return None


def options_of(keywords: dict[str, Any]) -> Options:
    """Return the options among keywords of `segment`."""
    return Options.parse(**{k: v for k, v in keywords.items() if k in Options.__dataclass_fields__})


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
