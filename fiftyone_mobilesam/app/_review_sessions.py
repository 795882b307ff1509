"""The order in which each open panel shows its masks: kept here, as the plugin's entry runs again at each request."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fiftyone_mobilesam import host
from fiftyone_mobilesam.review.records import Change, MaskRef, Queue

UNDO_STEPS = 50
SESSIONS = 8


@dataclass
class Session:
    """The order in which an open panel shows the masks of a view, and what was done in it."""

    queue: list[MaskRef]
    losses: np.ndarray  # what is expected to be wrong with each, when the order was made
    learnt: bool  # whether decisions had a say in the order
    view: list[dict[str, Any]]  # its stages, by which a change of it is noticed
    changes: list[Change] = field(default_factory=list)
    decided: int = 0  # in this order

    def learn(self, queue: Queue, at: MaskRef | None) -> None:
        """Put what comes behind a mask into a new order; what was shown stays where it is."""
        shown = self.queue.index(at) + 1 if at in self.queue else 0
        before = set(self.queue[:shown])
        rest = [i for i, ref in enumerate(queue.refs) if ref not in before]
        self.queue = [*self.queue[:shown], *(queue.refs[i] for i in rest)]
        self.losses = np.concatenate([self.losses[:shown], queue.losses[rest]])
        self.learnt = queue.learnt


_sessions: dict[tuple[str, str], Session] = {}  # by dataset and panel, the one that began last at the end


def get(ctx: Any) -> Session | None:
    """Return the session of a panel, None if this process does not know it."""
    return _sessions.get(_key(ctx))


def begin(ctx: Any, queue: Queue) -> Session:
    """Keep a new order for a panel, with its changes until now, and forget the panel whose order is the oldest."""
    before = _sessions.pop(_key(ctx), None)
    changes = [] if before is None else before.changes
    session = Session(queue.refs, queue.losses, queue.learnt, host.stages(ctx.view), changes)
    _sessions[_key(ctx)] = session
    while len(_sessions) > SESSIONS:
        del _sessions[next(iter(_sessions))]
    return session


def _key(ctx: Any) -> tuple[str, str]:
    return host.dataset_key(ctx.dataset), str(ctx.panel.id)
