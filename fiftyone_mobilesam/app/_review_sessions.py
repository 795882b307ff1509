"""The order in which each open panel shows its masks: kept here, as the plugin's entry runs again at each request."""

from dataclasses import dataclass, field
from typing import Any

from fiftyone_mobilesam import host
from fiftyone_mobilesam.review.records import Change, MaskRef

UNDO_STEPS = 50
SESSIONS = 8


@dataclass
class Session:
    """The order in which an open panel shows the masks of a view, and what was done in it."""

    queue: list[MaskRef]
    view: list[dict[str, Any]]  # its stages, by which a change of it is noticed
    changes: list[Change] = field(default_factory=list)
    decided: int = 0  # in this order


_sessions: dict[tuple[str, str], Session] = {}  # by dataset and panel, the one that began last at the end


def get(ctx: Any) -> Session | None:
    """Return the session of a panel, None if this process does not know it."""
    return _sessions.get(_key(ctx))


def begin(ctx: Any, queue: list[MaskRef]) -> Session:
    """Keep a new order for a panel, with its changes until now, and forget the panel whose order is the oldest."""
    before = _sessions.pop(_key(ctx), None)
    session = Session(queue, host.stages(ctx.view), [] if before is None else before.changes)
    _sessions[_key(ctx)] = session
    while len(_sessions) > SESSIONS:
        del _sessions[next(iter(_sessions))]
    return session


def _key(ctx: Any) -> tuple[str, str]:
    return host.dataset_key(ctx.dataset), str(ctx.panel.id)
