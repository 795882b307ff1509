"""Several processes, each with its model: disjoint units, and a dying worker's share is taken over.

This file imports neither torch nor FiftyOne at the top, so that a process sets its threads before torch starts.
"""

import logging
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING

from mobilesam.errors import JobError

if TYPE_CHECKING:
    from fiftyone_mobilesam.jobs.engine import Record
    from fiftyone_mobilesam.jobs.settings import Settings
    from fiftyone_mobilesam.jobs.units import Unit

logger = logging.getLogger("fiftyone.mobilesam")
IN_FLIGHT = 4  # units given to a worker before their records are back
DEATHS_A_UNIT = 3  # then it is written down as a failure: it is probably what the workers die of
FAILED_STARTS = 5


class Worker:
    """A process, and the units it has."""

    def __init__(self, settings: "Settings", device: str | None, threads: int):
        self.device, self.ready = device, False
        self.pending: dict[str, Unit] = {}
        self.connection, remote = get_context("spawn").Pipe()
        before = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = str(threads)
        try:
            self.process = get_context("spawn").Process(target=serve, args=(remote, settings, device), daemon=True)
            self.process.start()
        finally:
            remote.close()  # or the end of the process would not be noticed
            os.environ.pop("OMP_NUM_THREADS")
            if before is not None:
                os.environ["OMP_NUM_THREADS"] = before

    def give(self, unit: "Unit") -> None:
        """Send a unit. A worker that is dead is noticed when its record is read."""
        self.pending[unit.id] = unit
        try:
            self.connection.send(unit)
        except OSError:
            logger.debug("worker %s is gone", self.process.pid)

    def stop(self) -> None:
        """End the process."""
        self.connection.close()
        self.process.terminate()
        self.process.join()


def serve(connection: Connection, settings: "Settings", device: str | None) -> None:
    """Be a worker: take units, give records, until the other end is closed."""

    from fiftyone_mobilesam.jobs.engine import READ_AHEAD, Engine

    try:
        try:
            engine = Engine(settings, device)
        except Exception as error:
            connection.send(JobError(f"A worker on {device or 'the default device'} cannot start: {error}"))
            return
        connection.send(None)
        waiting: deque = deque()
        while True:
            while len(waiting) <= READ_AHEAD and (not waiting or connection.poll()):
                waiting.append(engine.start(connection.recv()))
            connection.send(engine.finish(*waiting.popleft()))
    except (EOFError, OSError, KeyboardInterrupt):
        return


def pooled_records(units: Iterable["Unit"], settings: "Settings", devices: list[str | None]) -> Iterator["Record"]:
    """Yield a record a unit, in the order in which they become ready, from one worker a device.

    Raises:
        JobError: a worker cannot start.
    """
    on_cpu = sum(not str(device or "cpu").startswith("cuda") for device in devices)
    threads = max(1, (os.cpu_count() or 1) // max(1, on_cpu))
    workers = [Worker(settings, device, threads) for device in devices]
    left, again, deaths, failed_starts = iter(units), deque(), Counter(), 0
    try:
        while True:
            for worker in workers:
                while len(worker.pending) < IN_FLIGHT and (unit := again.popleft() if again else next(left, None)):
                    worker.give(unit)
            busy = {worker.connection: worker for worker in workers if worker.pending}
            if not busy:
                return
            for connection in wait(list(busy)):
                worker = busy[connection]
                try:
                    message = connection.recv()
                except (EOFError, OSError):
                    workers[workers.index(worker)] = Worker(settings, worker.device, threads)
                    failed_starts += not worker.ready
                    yield from _take_over(worker, again, deaths)
                    continue
                if isinstance(message, JobError):
                    raise message
                if message is None:
                    worker.ready, failed_starts = True, 0
                else:
                    del worker.pending[message.unit_id]
                    yield message
            if failed_starts > FAILED_STARTS:
                raise JobError(
                    f"Workers must start, got {failed_starts} that died while loading the model. "
                    "Is there enough memory? Use fewer workers."
                )
    finally:
        for worker in workers:
            worker.stop()


def _take_over(worker: Worker, again: deque, deaths: Counter) -> Iterator["Record"]:
    """Put a dead worker's units back; the first, at which it was, as a failure if several have died at it."""
    from fiftyone_mobilesam.jobs.engine import Record
    from fiftyone_mobilesam.report import Failure

    worker.stop()
    units = list(worker.pending.values())
    logger.warning("Worker %d died (exit code %s); its %d images go to others", worker.process.pid,
                   worker.process.exitcode, len(units))  # fmt: skip
    if worker.ready and units:
        deaths[units[0].id] += 1
        if deaths[units[0].id] >= DEATHS_A_UNIT:
            unit = units.pop(0)
            reason = f"{DEATHS_A_UNIT} workers died at this image, probably for want of memory. Use fewer workers."
            yield Record(unit.id, unit.filepath, failures=[Failure(unit.id, None, unit.filepath, reason)])
    again.extend(units)
