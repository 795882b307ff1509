"""What is going on in this process and can be stopped: by a run's key, or the token in a progress window's button."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_events: dict[str, threading.Event] = {}


@contextmanager
def stoppable(name: str, event: threading.Event) -> Iterator[None]:
    """Let others stop what is done here."""
    _events[name] = event
    try:
        yield
    finally:
        del _events[name]


def is_here(name: str) -> bool:
    """Whether it is going on in this process."""
    return name in _events


def stop(name: str) -> bool:
    """Stop it after its current batch. Return whether it was there."""
    event = _events.get(name)
    if event is not None:
        event.set()
    return event is not None
