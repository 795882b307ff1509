"""What the panel "Review masks" looks like: choices, numbers, the picture, buttons and their keys."""

import re
from typing import Any

import fiftyone.operators.types as types
import numpy as np

from fiftyone_mobilesam.app._forms import choose
from fiftyone_mobilesam.keep import TO_CHECK
from fiftyone_mobilesam.review.order import error_removed
from fiftyone_mobilesam.review.picture import as_data_uri, draw_mask
from fiftyone_mobilesam.review.records import Counts, MaskUnderReview
from fiftyone_mobilesam.review.retry import asked, read_pixels
from mobilesam import MobileSamError
from mobilesam.training import LEAST

SHOW_LABELS = {
    "undecided": "Undecided masks",
    "all": "All masks",
    "accepted": "Accepted masks",
    "rejected": "Rejected masks",
    "failures": "Prompts without a mask",
    TO_CHECK: "Masks drawn at random to check",
}
# Method, label, key, icon, colour. The key is the button's `accesskey`: Alt+A in Chrome and Edge.
DECIDE = (
    ("accept", "Accept", "a", "check", "#2e7d32"),
    ("reject", "Reject", "r", "close", "#c62828"),
    ("skip", "Skip", "s", "skip_next", None),
    ("back", "Back", "b", "skip_previous", None),
    ("undo", "Undo", "u", "undo", None),
    ("delete", "Delete", "x", "delete", None),
    ("open_sample", "Open sample", "o", "open_in_new", None),
    ("report", "Report page", "g", "summarize", None),
)
RETRY = (
    ("candidate", "Next candidate", "n", "refresh", None),
    ("centre", "Box + centre point", "c", "refresh", None),
    ("padded", "Box + 10%", "p", "refresh", None),
    ("unclipped", "Not cut at the box", "t", "refresh", None),
)
KEYS = (
    "Keys, with Alt (Firefox Alt + Shift, Mac Control + Option): **A** accept, **R** reject, **S** skip, **B** back, "
    "**U** undo, **X** delete, **O** open, **G** report, **N** next candidate, **C** centre, **P** + 10%, **T** not cut"
)
NEXT, PLOTTED = 100, 50  # decisions that are spoken of; points of a line
PAGE = types.GridView(orientation="vertical", gap=1.5, componentsProps={"grid": {"sx": {"p": 2}}})


def add_problem(panel: types.Object, text: str, methods: Any) -> None:
    """Say what is wrong. Here and below a button calls the method of its name."""
    panel.view("problem", types.Warning(label="Look again", description=text))
    _add_start_again(panel, methods)


def add_nothing(panel: types.Object) -> None:
    """Say that there are no masks."""
    text = "Make masks with MobileSAM first: a field of them can then be reviewed here."
    panel.view("nothing", types.Notice(label="There are no masks to review", description=text))


def add_choices(panel: types.Object, fields: list[str], field: str, show: str, methods: Any) -> None:
    """Ask which masks to review."""
    row = panel.h_stack("choices", gap=2)
    choose(row, "field", {name: name for name in fields}, default=field, on_change=methods.choose_field)
    choose(row, "show", SHOW_LABELS, default=show, on_change=methods.choose_show)


def add_end(panel: types.Object, counts: Counts, methods: Any) -> None:
    """Say that all masks have been shown."""
    panel.md(f"**Nothing left here.** {_numbers(counts)}", name="numbers")
    _add_start_again(panel, methods)


def add_mask(panel: types.Object, mask: MaskUnderReview, counts: Counts, *, position: int | None, total: int) -> None:
    """Show a mask, what is known about it, and where in the order it is."""
    place = "" if position is None else f"**{position + 1:,} of {total:,}** · "
    panel.md(place + _numbers(counts), name="numbers")
    panel.md(_words(mask), name="words")
    try:
        pixels = read_pixels(mask)
    except MobileSamError as error:
        panel.view("picture", types.Warning(label="The image cannot be shown", description=str(error)))
        return
    try:
        answer = asked(mask, original_hw=pixels.shape[:2])
    except MobileSamError:  # what its `failure` says
        answer = None
    picture = draw_mask(pixels, mask.label.mask, mask.label.bounding_box, answer)
    style = {"width": "100%", "maxHeight": "56vh", "objectFit": "contain", "borderRadius": "4px"}
    view = types.ImageView(alt="The mask and its prompt", componentsProps={"image": {"style": style}})
    panel.define_property("picture", types.String(), default=as_data_uri(picture), view=view)


def add_buttons(panel: types.Object, methods: Any, *, has_mask: bool) -> None:
    """Add the buttons, in rows that go on in the next line where the panel is narrow."""
    for row, buttons in (("decide", DECIDE), ("again", RETRY if has_mask else ())):
        grid = panel.grid(row, orientation="2d", gap=1)
        for name, label, key, icon, colour in buttons:
            props = {"accessKey": key, "sx": {"backgroundColor": colour, "color": "white"} if colour else {}}
            grid.btn(
                name,
                label=label,
                icon=icon,
                on_click=getattr(methods, name),
                disabled=not (has_mask or name in ("back", "undo", "report")),
                variant="contained" if colour else "outlined",
                componentsProps={"button": props, "item": {"sx": {"width": "auto"}}},
            )


def add_error_removed(panel: types.Object, losses: np.ndarray, *, learnt: bool) -> None:
    """Show how much of the expected error the next decisions look at; `losses` (N,) are those of the masks ahead."""
    share = error_removed(losses)
    soon, total = min(NEXT, len(losses)), len(losses)
    text = (
        f"The next {soon:,} decisions look at **{_percent(share[soon])}** of the error that is expected in the "
        f"{total:,} masks from here on; in random order they would look at {_percent(soon / total)}."
    )
    if learnt:
        text += " The order learns from your decisions, anew after every 25."
    panel.md(text, name="error_removed")
    shown = np.unique(np.linspace(0, total, min(total, PLOTTED) + 1).astype(int))
    lines = [
        {"x": shown.tolist(), "y": share[shown].tolist(), "name": "this order", "type": "scatter", "mode": "lines"},
        {"x": [0, total], "y": [0, 1], "name": "random order", "type": "scatter", "mode": "lines"},
    ]
    axes = {"xaxis": {"title": {"text": "decisions"}}, "yaxis": {"title": {"text": "expected error looked at"}}}
    frame = {"height": 220, "showlegend": True, "margin": {"l": 60, "r": 20, "t": 20, "b": 45}, **axes}
    panel.plot("error_plot", data=lines, layout=frame)


def add_train(panel: types.Object, counts: Counts, methods: Any) -> None:
    """Offer to learn from what was accepted, when there is enough of it."""
    if counts.accepted >= LEAST:
        label = f"Train on {counts.accepted:,} accepted masks ..."
        panel.btn("train", label=label, icon="school", on_click=methods.train, variant="outlined")


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"


def _add_start_again(panel: types.Object, methods: Any) -> None:
    panel.btn("start_again", label="Start again", icon="refresh", on_click=methods.start_again)


def _numbers(counts: Counts) -> str:
    return (
        f"{counts.accepted:,} accepted, {counts.rejected:,} rejected, {counts.undecided:,} undecided, "
        f"{counts.failures:,} without a mask"
    )


def _words(mask: MaskUnderReview) -> str:
    """Say what is known about a mask, as markdown."""
    document = mask.document
    parts = [f"**{_plain(document.get('label') or 'no label')}**"]
    if mask.decision:
        parts.append(mask.decision)
    if document.get("failure"):
        parts.append(f"No mask: {_plain(document['failure'])}")
    if document.get("mask_quality") is not None:
        parts.append(f"expected IoU {document['mask_quality']:.2f}")
    for name, words in (
        ("predicted_iou", ("the model is sure", "the model is fairly sure", "the model is unsure")),
        ("stability_score", ("crisp edge", "fairly crisp edge", "fuzzy edge")),
    ):
        value = document.get(name)
        if value is not None:
            word = words[0] if value >= 0.9 else words[1] if value >= 0.75 else words[2]
            parts.append(f"{word} ({name.replace('_', ' ').replace('iou', 'IoU')} {value:.2f})")
    if mask.prompt_field:
        parts.append(f"prompt from {_plain(mask.prompt_field)}")
    else:
        parts.append("its prompt was deleted" if document.get("prompt_id") else "made without a prompt")
    return " · ".join(parts)


def _plain(text: str) -> str:
    """Keep markdown out of what a dataset says."""
    return re.sub(r"([\\`*_{}\[\]<>()#!|~])", r"\\\1", str(text))
