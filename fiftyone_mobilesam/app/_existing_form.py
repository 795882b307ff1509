"""The part of the form about a field that has labels: what becomes of them."""

from typing import Any

from fiftyone.core.collections import SampleCollection
from fiftyone.operators import types

from fiftyone_mobilesam.app._forms import choose, options_of
from fiftyone_mobilesam.app.existing import KEEP, REPLACE, choices, merging, own_work
from fiftyone_mobilesam.engine.report import count
from fiftyone_mobilesam.fields import Target

LABELS = {
    KEEP: (
        "Keep them and add the masks",
        "Masks that earlier runs made of the same prompts are made again, unless you accepted them",
    ),
    REPLACE: ("Replace all labels of these images", "Undo brings them back"),
}
MASKS_IN_PLACE = {
    KEEP: ("Keep them", "Only labels without a mask get one"),
    REPLACE: ("Make all masks again", "Undo brings back those that were there"),
}


def add_existing(inputs: types.Object, samples: SampleCollection, keywords: dict[str, Any]) -> None:
    """Ask what becomes of labels that the field has, and a second time before a person's work is replaced."""
    label_field = keywords["label_field"]
    try:
        options = options_of(keywords)
        Target(samples, label_field).check(options)
        offered = choices(samples, label_field, options)
    except (TypeError, ValueError):  # which `problem` tells
        return
    if not offered:
        return
    texts, what = (MASKS_IN_PLACE, "masks") if options.in_place else (LABELS, "labels")
    choose(
        inputs,
        "existing",
        {name: texts[name] for name in offered},
        view=types.RadioGroup(),
        default=KEEP if KEEP in offered else None,
        label=f"{label_field!r} has {what} already",
    )
    existing = keywords["existing"]
    if options.in_place and existing != REPLACE:
        return
    if number := own_work(samples, label_field, merging(options, offered, existing)):
        which = count(number, what.removesuffix("s"))
        text = "No run wrote them into this field, or somebody accepted them in review. A new field leaves them alone."
        inputs.view(
            "own_work", types.Warning(label=f"{which} would be replaced: somebody's own work", description=text)
        )
        inputs.bool("replace_own_work", default=False, label=f"Yes, replace {which} of somebody's own work")
