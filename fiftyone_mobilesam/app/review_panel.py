"""The panel "Review masks": one mask after the other, worst first, and a button or a key for each decision."""

import base64
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import fiftyone.operators as foo
import fiftyone.operators.types as types

from fiftyone_mobilesam import host
from fiftyone_mobilesam.app import _review_layout as layout
from fiftyone_mobilesam.app import _review_sessions as sessions
from fiftyone_mobilesam.app._names import uri
from fiftyone_mobilesam.app._review_sessions import UNDO_STEPS, Session
from fiftyone_mobilesam.keep import TO_CHECK
from fiftyone_mobilesam.quality.accept import promise
from fiftyone_mobilesam.quality.page import write_report
from fiftyone_mobilesam.review import SHOW, Review, reviewable_fields
from fiftyone_mobilesam.review.order import LEAST_DECISIONS
from fiftyone_mobilesam.review.records import Change, MaskRef, MaskUnderReview
from fiftyone_mobilesam.review.retry import retry
from mobilesam import ConflictError, FieldError, MobileSamError


def _event(method: Callable[["ReviewPanel", Any], Any]) -> Callable[["ReviewPanel", Any], None]:
    """Tell the user of an expected error; forget the message of the step before when a user does the next."""

    @wraps(method)
    def event(self: "ReviewPanel", ctx: Any) -> None:
        if not method.__name__.startswith("on_"):
            ctx.panel.state.set("message", None)
        try:
            _check_dataset(ctx)
            method(self, ctx)
        except (MobileSamError, ValueError) as error:
            ctx.panel.state.set("message", str(error))

    return event


def _button(name: str, step: Callable[["ReviewPanel", Any], Any]) -> Callable[["ReviewPanel", Any], None]:
    """Make the event of a button, which the App calls by its name."""
    step.__name__ = name
    return _event(step)


class ReviewPanel(foo.Panel):
    """Walks through the masks of a field. The state in the browser holds the mask's ids and the choices, no more."""

    config = foo.PanelConfig(
        name="review_masks",
        label="Review masks",
        icon="checklist",
        surfaces="grid modal",
        help_markdown="Masks worst first. A decision is the tag and the attribute `review` of a label.",
    )

    # ---- events ----------------------------------------------------------------------------------------------------

    @_event
    def on_load(self, ctx: Any) -> None:
        """Start, unless nothing has changed: the App tells of new views more often than there are any."""
        session = sessions.get(ctx) if ctx.dataset is not None else None
        if session is None or _at(ctx) is None or session.view != host.stages(ctx.view):
            self._start(ctx)

    on_change_dataset = on_change_view = on_load

    @_event
    def on_change_current_sample(self, ctx: Any) -> None:
        """Go to the worst mask of the sample that was opened."""
        at = _at(ctx)
        if ctx.current_sample and (at is None or at.sample_id != ctx.current_sample):
            self._start(ctx)

    @_event
    def choose_field(self, ctx: Any) -> None:
        """Review another field."""
        ctx.panel.state.set("field", ctx.params.get("value"))
        self._start(ctx)

    @_event
    def choose_show(self, ctx: Any) -> None:
        """Review masks in another state."""
        ctx.panel.state.set("show", ctx.params.get("value"))
        self._start(ctx)

    start_again = _button("start_again", lambda self, ctx: self._start(ctx))
    accept = _button("accept", lambda self, ctx: self._change(ctx, Review.decide, "accepted"))
    reject = _button("reject", lambda self, ctx: self._change(ctx, Review.decide, "rejected"))
    delete = _button("delete", lambda self, ctx: self._change(ctx, Review.delete))
    skip = _button("skip", lambda self, ctx: self._go(ctx, self._review(ctx), 1))
    back = _button("back", lambda self, ctx: self._go(ctx, self._review(ctx), -1))
    candidate = _button("candidate", lambda self, ctx: self._retry(ctx, "candidate"))
    centre = _button("centre", lambda self, ctx: self._retry(ctx, "centre"))
    padded = _button("padded", lambda self, ctx: self._retry(ctx, "padded"))
    unclipped = _button("unclipped", lambda self, ctx: self._retry(ctx, "unclipped"))

    @_event
    def undo(self, ctx: Any) -> None:
        """Take the last change back and show its mask."""
        review, session = self._review(ctx), self._session(ctx)
        if not session.changes:
            ctx.panel.state.set("message", "There is nothing to undo since this panel was opened.")
            return
        change = session.changes.pop()
        review.undo(change)
        self._show(ctx, review.load(change.ref))

    @_event
    def open_sample(self, ctx: Any) -> None:
        """Open the sample of the mask."""
        ctx.ops.open_sample(id=self._current(ctx)[1].ref.sample_id)

    @_event
    def report(self, ctx: Any) -> None:
        """Hand the report page of the field to the browser, which may be on another machine."""
        field = ctx.panel.state.field
        with tempfile.TemporaryDirectory() as folder:
            page = write_report(ctx.view, field, Path(folder) / "report.html").read_bytes()
        ctx.ops.browser_download(f"data:text/html;base64,{base64.b64encode(page).decode()}", f"{field}.html")
        ctx.panel.state.set("message", f"The report page is in your browser's downloads: {field}.html.")

    @_event
    def train(self, ctx: Any) -> None:
        """Open the form of the training, filled in for this field."""
        ctx.prompt(uri("train"), params={"mask_field": ctx.panel.state.field})

    # ---- steps -----------------------------------------------------------------------------------------------------

    def _start(self, ctx: Any) -> None:
        """Put the masks in order and show the first one, in the modal the first one of the open sample."""
        fields, chosen = _fields(ctx), ctx.panel.state.field
        field = chosen if chosen in fields else next(iter(fields), None)
        ctx.panel.state.set({"field": field, "at": None, "message": None})
        if field is None:
            return
        review = self._review(ctx)
        queue = review.queue(_show(ctx))
        if ctx.current_sample:
            first = sorted(range(len(queue.refs)), key=lambda i: queue.refs[i].sample_id != ctx.current_sample)
            queue = replace(queue, refs=[queue.refs[i] for i in first], losses=queue.losses[first])
        sessions.begin(ctx, queue)
        self._go(ctx, review, 1)

    def _change(self, ctx: Any, change: Callable[..., Change], *arguments: Any) -> None:
        """Change the mask on display by a method of `Review` and go on."""
        review, mask = self._current(ctx)
        self._done(ctx, change(review, mask, *arguments))
        self._learn(ctx, review, mask.ref)
        self._go(ctx, review, 1)

    def _learn(self, ctx: Any, review: Review, at: MaskRef) -> None:
        """Now and then put what is left in a new order, or say what could be accepted where masks were drawn."""
        session = self._session(ctx)
        session.decided += 1
        if session.decided % LEAST_DECISIONS:
            return
        if _show(ctx) == TO_CHECK:
            ctx.panel.state.set("promise", promise(ctx.view, ctx.panel.state.field))
        elif not ctx.current_sample:
            session.learn(review.queue(_show(ctx)), at)

    def _retry(self, ctx: Any, how: str) -> None:
        """Predict the mask again and show it; the decision is still to be made."""
        review, mask = self._current(ctx)
        self._done(ctx, retry(review, mask, how))
        self._show(ctx, review.load(mask.ref))
        old, new = mask.document.get("predicted_iou"), self._current(ctx)[1].document["predicted_iou"]
        text = f"New mask: predicted IoU {new:.2f}" + ("." if old is None else f", before {old:.2f}.")
        if mask.prompt is None:
            text += " Its prompt is not there any more, so the mask's own box was the prompt."
        ctx.panel.state.set("message", text + " Undo brings the old one back.")

    def _done(self, ctx: Any, change: Change) -> None:
        changes = self._session(ctx).changes
        changes.append(change)
        del changes[:-UNDO_STEPS]

    def _go(self, ctx: Any, review: Review, step: int) -> None:
        """Show the next mask that is still there, and on the way forward still as the filter wants it."""
        queue, at = self._session(ctx).queue, _at(ctx)
        index = queue.index(at) if at in queue else -1
        undecided_only = step > 0 and _show(ctx) in ("undecided", TO_CHECK)
        while 0 <= (index := index + step) < len(queue):
            try:
                mask = review.load(queue[index])
            except ConflictError:
                continue
            if not (undecided_only and mask.decision):
                self._show(ctx, mask)
                return
        if step > 0:
            ctx.panel.state.set("at", None)
        else:
            ctx.panel.state.set("message", "This is the first one.")

    def _show(self, ctx: Any, mask: MaskUnderReview) -> None:
        ref = mask.ref
        ctx.panel.state.set({"at": [ref.sample_id, ref.doc_id, ref.label_id], "seen": mask.decision})

    def _current(self, ctx: Any) -> tuple[Review, MaskUnderReview]:
        """Return the mask on display, as it is now, unless somebody else decided about it since it was shown."""
        review, at = self._review(ctx), _at(ctx)
        if at is None:
            raise ConflictError("There is no mask on display. Start again, or choose other masks above.")
        mask = review.load(at)
        if mask.decision != ctx.panel.state.seen:
            seen, now = ctx.panel.state.seen or "undecided", mask.decision or "undecided"
            self._show(ctx, mask)
            raise ConflictError(f"In another window this mask went from {seen} to {now}. Press again to change that.")
        return review, mask

    def _review(self, ctx: Any) -> Review:
        return Review(ctx.view, ctx.panel.state.field)

    def _session(self, ctx: Any) -> Session:
        """Return the panel's session; a new one if this process does not know it, say after a restart."""
        return sessions.get(ctx) or sessions.begin(ctx, self._review(ctx).queue(_show(ctx)))

    # ---- what is seen ----------------------------------------------------------------------------------------------

    def render(self, ctx: Any) -> types.Property:
        """Lay the panel out: choices, numbers, picture, buttons."""
        panel = types.Object()
        try:
            _check_dataset(ctx)
            self._render(ctx, panel)
        except MobileSamError as error:
            layout.add_problem(panel, str(error), self)
        return types.Property(panel, view=layout.PAGE)

    def _render(self, ctx: Any, panel: types.Object) -> None:
        fields = _fields(ctx)
        if not fields:
            layout.add_nothing(panel)
            return
        layout.add_choices(panel, fields, ctx.panel.state.field, _show(ctx), self)
        review, at = self._review(ctx), _at(ctx)
        counts = review.counts()
        if at is None:
            layout.add_end(panel, counts, self)
        else:
            session = self._session(ctx)
            position = session.queue.index(at) if at in session.queue else None
            layout.add_mask(panel, review.load(at), counts, position=position, total=len(session.queue))
        layout.add_buttons(panel, self, has_mask=at is not None)
        if at is not None and position is not None and _show(ctx) != TO_CHECK:
            layout.add_error_removed(panel, session.losses[position:], learnt=session.learnt)
        layout.add_train(panel, counts, self)
        if ctx.panel.state.promise and _show(ctx) == TO_CHECK:
            panel.view("promise", types.Notice(label=ctx.panel.state.promise))
        if ctx.panel.state.message:
            panel.view("message", types.Notice(label=ctx.panel.state.message))
        panel.md(layout.KEYS, name="keys")


def _check_dataset(ctx: Any) -> None:
    try:
        _ = ctx.dataset  # loads it
    except ValueError as error:
        raise FieldError("The dataset is not there any more: it was deleted meanwhile. Open another one.") from error


def _fields(ctx: Any) -> list[str]:
    return [] if ctx.dataset is None else reviewable_fields(ctx.dataset)


def _at(ctx: Any) -> MaskRef | None:
    return MaskRef(*ctx.panel.state.at) if ctx.panel.state.at else None


def _show(ctx: Any) -> str:
    return ctx.panel.state.show if ctx.panel.state.show in SHOW else SHOW[0]
