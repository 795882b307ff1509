"""What the panel "Review masks" looks like around the masks: choices, figures, what can be done with the results."""

from typing import Any

import fiftyone.operators.types as types
import numpy as np

from fiftyone_mobilesam.app._forms import choose
from fiftyone_mobilesam.app._names import uri
from fiftyone_mobilesam.app._review_sessions import Session
from fiftyone_mobilesam.keep import TO_CHECK
from fiftyone_mobilesam.review.order import error_removed

SHOW_LABELS = {
    "undecided": "Undecided masks",
    "all": "All masks",
    "accepted": "Accepted masks",
    "rejected": "Rejected masks",
    "failures": "Prompts without a mask",
    TO_CHECK: "Masks drawn at random to check",
}
WALK = "MobileSAMReview"  # the component in js/review_view.js
NEXT, PLOTTED = 100, 50  # decisions that are spoken of; points of a line
PAGE = types.GridView(orientation="vertical", gap=1.5, componentsProps={"grid": {"sx": {"p": 2}}})


def add_problem(panel: types.Object, text: str, methods: Any) -> None:
    """Say what is wrong."""
    panel.view("problem", types.Warning(label="Look again", description=text))
    panel.btn("again", label="Try again", icon="refresh", on_click=methods.refresh)


def add_nothing(panel: types.Object) -> None:
    """Say that there are no masks."""
    text = "Make masks with MobileSAM first: a field of them can then be reviewed here."
    panel.view("nothing", types.Notice(label="There are no masks to review", description=text))


def add_choices(panel: types.Object, fields: list[str], field: str, show: str, methods: Any) -> None:
    """Ask which masks to review."""
    row = panel.h_stack("choices", gap=2)
    choose(row, "field", {name: name for name in fields}, default=field, on_change=methods.choose_field)
    choose(row, "show", SHOW_LABELS, default=show, on_change=methods.choose_show)


def add_walk(panel: types.Object, session: Session, *, refresh: Any) -> None:
    """Add the browser's part, which shows one mask after the other."""
    view = types.View(
        component=WALK,
        composite_view=True,
        step=uri("review_step"),
        refresh=refresh,
        session=session.token,
        field=session.field,
        show=session.show,
        undecided_only=session.show in ("undecided", TO_CHECK),
        start=session.at,
        total=len(session.queue),
    )
    panel.define_property("walk", types.Object(), view=view)


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


def add_results(panel: types.Object, methods: Any, *, accepted: int | None) -> None:
    """Offer the report page, and to learn from the `accepted` masks if there are enough."""
    row = panel.h_stack("results", gap=2)
    row.btn("report", label="Report page", icon="summarize", on_click=methods.report, variant="outlined")
    if accepted is not None:
        label = f"Train on {accepted:,} accepted masks ..."
        row.btn("train", label=label, icon="school", on_click=methods.train, variant="outlined")


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"
