"""Servers that tests start: a port for one, and waiting for it."""

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

SECONDS = 60  # a patience, not a measurement


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(url: str) -> bool:
    """Is a server there?"""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def until(condition: Callable[[], Any], message: Callable[[], str], seconds: float = SECONDS) -> Any:
    """Wait for a true value and return it; fail with the message otherwise."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, message()
        time.sleep(0.2)
    return value
