"""The panel "Review masks": choices and figures; `js/review_view.js` walks through the masks inside it."""

import base64
import tempfile
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import fiftyone.operators as foo
import fiftyone.operators.types as types

from fiftyone_mobilesam.app import _review_layout as layout
from fiftyone_mobilesam.app import _review_sessions as sessions
from fiftyone_mobilesam.app._names import uri
from fiftyone_mobilesam.app.review_step import check_dataset
from fiftyone_mobilesam.keep import TO_CHECK
from fiftyone_mobilesam.quality.page import write_report
from fiftyone_mobilesam.review import SHOW, Review, reviewable_fields
from mobilesam import MobileSamError
from mobilesam.training import LEAST


def _event(method: Callable[["ReviewPanel", Any], Any]) -> Callable[["ReviewPanel", Any], None]:
    """Tell the user of an expected error; forget the message of the step before."""

    @wraps(method)
    def event(self: "ReviewPanel", ctx: Any) -> None:
        ctx.panel.state.set("message", None)
        try:
            check_dataset(ctx)
            method(self, ctx)
        except (MobileSamError, ValueError) as error:
            ctx.panel.state.set("message", str(error))

    return event


class ReviewPanel(foo.Panel):
    """Lays out the review of a field. Its state in the browser is what was chosen; the masks come by `ReviewStep`."""

    config = foo.PanelConfig(
        name="review_masks",
        label="Review masks",
        icon="checklist",
        surfaces="grid modal",
        help_markdown="Masks worst first. A decision is the tag and the attribute `review` of a label.",
    )

    def refresh(self, ctx: Any) -> None:
        """Lay the panel out again; FiftyOne does so after each event."""

    on_load = on_change_dataset = on_change_view = on_change_current_sample = refresh

    @_event
    def choose_field(self, ctx: Any) -> None:
        """Review another field."""
        ctx.panel.state.set("field", ctx.params.get("value"))

    @_event
    def choose_show(self, ctx: Any) -> None:
        """Review masks in another state."""
        ctx.panel.state.set("show", ctx.params.get("value"))

    @_event
    def report(self, ctx: Any) -> None:
        """Hand the report page of the field to the browser, which may be on another machine."""
        field = _field(ctx, reviewable_fields(ctx.dataset))
        with tempfile.TemporaryDirectory() as folder:
            page = write_report(ctx.view, field, Path(folder) / "report.html").read_bytes()
        ctx.ops.browser_download(f"data:text/html;base64,{base64.b64encode(page).decode()}", f"{field}.html")
        ctx.panel.state.set("message", f"The report page is in your browser's downloads: {field}.html.")

    @_event
    def train(self, ctx: Any) -> None:
        """Open the form of the training, filled in for this field."""
        ctx.prompt(uri("train"), params={"mask_field": _field(ctx, reviewable_fields(ctx.dataset))})

    def render(self, ctx: Any) -> types.Property:
        """Lay the panel out: choices, the walk through the masks, figures."""
        panel = types.Object()
        try:
            check_dataset(ctx)
            self._render(ctx, panel)
        except MobileSamError as error:
            layout.add_problem(panel, str(error), self)
        return types.Property(panel, view=layout.PAGE)

    def _render(self, ctx: Any, panel: types.Object) -> None:
        fields = [] if ctx.dataset is None else reviewable_fields(ctx.dataset)
        if not fields:
            layout.add_nothing(panel)
            return
        field, show = _field(ctx, fields), _show(ctx)
        layout.add_choices(panel, fields, field, show, self)
        review = Review(ctx.view, field)
        session = sessions.current(ctx, review, show)
        accepted = review.counts().accepted
        session.can_train = accepted >= LEAST
        layout.add_walk(panel, session, refresh=self.refresh)
        if session.at < len(session.queue) and show != TO_CHECK:
            layout.add_error_removed(panel, session.losses[session.at :], learnt=session.learnt)
        layout.add_results(panel, self, accepted=accepted if session.can_train else None)
        for name, text in (("promise", session.promise), ("message", ctx.panel.state.message)):
            if text:
                panel.view(name, types.Notice(label=text))


def _field(ctx: Any, fields: list[str]) -> str | None:
    """Return the field that was chosen, or the first one."""
    return ctx.panel.state.field if ctx.panel.state.field in fields else next(iter(fields), None)


def _show(ctx: Any) -> str:
    return ctx.panel.state.show if ctx.panel.state.show in SHOW else SHOW[0]
