"""The order in which each open panel shows its masks: kept here, as the plugin's entry runs again at each request."""

import threading
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import numpy as np

from fiftyone_mobilesam import host
from fiftyone_mobilesam.review import Review
from fiftyone_mobilesam.review.records import Change, MaskRef, Queue
from mobilesam import ConflictError

UNDO_STEPS = 50
SESSIONS = 8


@dataclass
class Session:
    """The order in which an open panel shows the masks of a view, and what was done in it."""

    queue: list[MaskRef]
    losses: np.ndarray  # what is expected to be wrong with each, when the order was made
    learnt: bool  # whether decisions had a say in the order
    field: str
    show: str
    view: list[dict[str, Any]]  # its stages, by which a change of it is noticed
    changes: list[Change] = field(default_factory=list)
    opened: str | None = None  # the sample that is open in the modal
    at: int = 0  # the mask on display, an index in `queue`
    sent: int = 0  # how many of `queue` the browser may know already
    decided: int = 0  # in this order
    promise: str | None = None
    can_train: bool = False  # when the panel was laid out
    token: str = field(default_factory=lambda: uuid4().hex)  # of this order: the browser's indices are in it

    def index(self, ref: MaskRef) -> int | None:
        """Return where a mask is in the order."""
        return self.queue.index(ref) if ref in self.queue else None

    def learn(self, queue: Queue) -> None:
        """Put what the browser does not know yet into a new order."""
        before = set(self.queue[: self.sent])
        rest = [i for i, ref in enumerate(queue.refs) if ref not in before]
        self.queue = [*self.queue[: self.sent], *(queue.refs[i] for i in rest)]
        self.losses = np.concatenate([self.losses[: self.sent], queue.losses[rest]])
        self.learnt = queue.learnt

    def did(self, change: Change) -> None:
        """Remember a change, so that it can be undone."""
        self.changes.append(change)
        del self.changes[:-UNDO_STEPS]

    def last_change(self, label_id: str | None) -> Change:
        """Return the last change, which must be of a label if one is named.

        Raises:
            ConflictError: there is none, or it is of another label.
        """
        if not self.changes or label_id not in (None, self.changes[-1].ref.label_id):
            raise ConflictError("There is nothing to undo since this panel was opened.")
        return self.changes[-1]


_sessions: dict[tuple[str, str], Session] = {}  # by dataset and panel, the one that began last at the end
_turn = threading.Lock()


def current(ctx: Any, review: Review, show: str) -> Session:
    """Return the session of a panel: a new one for another field, state or view, or if another sample was opened."""
    with _turn:
        session = _sessions.get(_key(ctx))
        stages = host.stages(ctx.view)
        if session is None or (session.field, session.show, session.view) != (review.label_field, show, stages):
            return _begin(ctx, review, show)
        opened, session.opened = session.opened, ctx.current_sample
        shown = session.queue[session.at].sample_id if session.at < len(session.queue) else None
        if ctx.current_sample and ctx.current_sample not in (opened, shown):
            return _begin(ctx, review, show)
        return session


def begin(ctx: Any, review: Review, show: str, first: MaskRef | None = None) -> Session:
    """Put the masks of a panel in a new order; `first` comes before all others."""
    with _turn:
        return _begin(ctx, review, show, first)


def _begin(ctx: Any, review: Review, show: str, first: MaskRef | None = None) -> Session:
    """Keep a new order for a panel, with the changes in its field until now, and forget the panel that began first.

    In the modal the masks of the open sample come first.
    """
    queue = review.queue(show)
    refs, losses = queue.refs, queue.losses
    if first is not None and first not in refs:
        refs, losses = [first, *refs], np.concatenate([[0.0], losses])
    order = sorted(range(len(refs)), key=lambda i: (refs[i] != first, refs[i].sample_id != ctx.current_sample))
    before = _sessions.pop(_key(ctx), None)
    session = Session(
        [refs[i] for i in order], losses[order], queue.learnt, review.label_field, show, host.stages(ctx.view)
    )
    session.opened = ctx.current_sample
    session.changes = before.changes if before is not None and before.field == review.label_field else []
    _sessions[_key(ctx)] = session
    while len(_sessions) > SESSIONS:
        del _sessions[next(iter(_sessions))]
    return session


def _key(ctx: Any) -> tuple[str, str]:
    return host.dataset_key(ctx.dataset), str(ctx.panel.id)
