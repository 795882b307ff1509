"""The order in which each open panel shows its masks: kept here, as the plugin's entry runs again at each request."""

from collections import OrderedDict
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
    view: list[dict[str, Any]]
    changes: list[Change] = field(default_factory=list)


_sessions: OrderedDict[tuple[str, str], Session] = OrderedDict()  # by dataset and panel


def get(ctx: Any) -> Session | None:
    """Return the session of a panel, None if this process does not know it."""
    return _sessions.get(_key(ctx))


def remember(ctx: Any, session: Session) -> Session:
    """Keep a panel's session, and forget that of the panel that was used longest ago if there are too many."""
    _sessions[_key(ctx)] = session
    _sessions.move_to_end(_key(ctx))
    while len(_sessions) > SESSIONS:
        _sessions.popitem(last=False)
    return session


def stages(ctx: Any) -> list[dict[str, Any]]:
    """Return the stages of the view on display, by which a change of it is noticed."""
    return host.stages(ctx.view)


def _key(ctx: Any) -> tuple[str, str]:
    return host.dataset_key(ctx.dataset), str(ctx.panel.id)
