"""Other processes: a free port for one, and waiting for what it does."""

import socket
import time
from collections.abc import Callable
from typing import Any


def wait_for(condition: Callable[[], Any], seconds: float = 60, *, what: str = "the condition") -> Any:
    """Call a function until it gives something; errors count as nothing. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := condition():
                return found
        except Exception:
            pass
        time.sleep(0.2)
    raise TimeoutError(f"{what} did not come within {seconds} s")


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
