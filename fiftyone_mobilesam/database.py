"""Waiting for a database that restarts, within bounds."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from pymongo.errors import AutoReconnect, OperationFailure

from mobilesam.errors import JobError

logger = logging.getLogger("fiftyone.mobilesam")
T = TypeVar("T")
DATABASE_WAIT = 600.0  # seconds that a restart may take
PAUSE = 0.5  # seconds between two tries
SHUTTING_DOWN = {91, 189, 10107, 11600, 11602, 13435, 13436}
OUT_OF_DISK_SPACE = 14031


def patiently(call: Callable[[], T], *, wait: float) -> T:
    """Return what a call gives, trying again for `wait` seconds while the database is away.

    The call reads or writes the database; doing it twice must be as good as once.

    Raises:
        JobError: the database stayed away, or its disk is full.
    """
    since = None
    while True:
        try:
            result = call()
        except (AutoReconnect, OperationFailure) as error:
            code = getattr(error, "code", None)
            if code == OUT_OF_DISK_SPACE:
                raise JobError(f"The database's disk is full ({error}). Make room and start the job again.") from error
            if isinstance(error, OperationFailure) and code not in SHUTTING_DOWN:
                raise
            if since is None:
                since = time.monotonic()
                logger.warning("The database does not answer; waiting for up to %d s (%.200s)", wait, error)
            if time.monotonic() - since > wait:
                raise JobError(
                    f"The database must be there, got no answer for {wait:.0f} s ({error!s:.200}). "
                    "Start it and the job again; the job goes on where it stopped."
                ) from error
            time.sleep(PAUSE)
        else:
            if since is not None:
                logger.warning("The database is back after %.0f s", time.monotonic() - since)
            return result
