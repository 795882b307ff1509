"""Several processes, each with its model: disjoint items, and a dying worker's share is taken over."""

import logging
import os
from collections import Counter, deque
from collections.abc import Container, Generator, Iterator, Sequence
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait

from fiftyone_mobilesam.engine.item import Item, Outcome, SequenceItem, Unit, failed
from fiftyone_mobilesam.engine.run import READ_AHEAD, Settings, Worker
from mobilesam.errors import JobError, reason_of

logger = logging.getLogger("fiftyone.mobilesam")
IN_FLIGHT = 4  # images at a process below which it is given more: one, or the sequence that comes next
DEATHS_AN_ITEM = 3  # then it is written down as a failure: it is probably what the processes die of
FAILED_STARTS = 5


class Process:
    """A process with a `Worker`, and the units it has."""

    def __init__(self, settings: Settings, device: str | None, threads: int):
        self.device, self.ready = device, False
        self.pending: dict[str, tuple[Item, Unit]] = {}  # images whose outcomes are not back yet
        self.connection, remote = get_context("spawn").Pipe()
        before = os.environ.get("OMP_NUM_THREADS")  # of which torch takes note when the process imports it
        os.environ["OMP_NUM_THREADS"] = str(threads)
        try:
            self.process = get_context("spawn").Process(target=serve, args=(remote, settings, device), daemon=True)
            self.process.start()
        finally:
            remote.close()  # or the end of the process would not be noticed
            os.environ.pop("OMP_NUM_THREADS")
            if before is not None:
                os.environ["OMP_NUM_THREADS"] = before

    def give(self, unit: Unit) -> None:
        """Send a unit. A process that is dead is noticed when its outcome is read."""
        self.pending |= {image.key: (image, unit) for image in unit.images}
        try:
            self.connection.send(unit)
        except OSError:
            logger.debug("worker %s is gone", self.process.pid)

    def stop(self) -> None:
        """End the process."""
        self.connection.close()
        self.process.terminate()
        self.process.join()


def serve(connection: Connection, settings: Settings, device: str | None) -> None:
    """Be a worker: take units, give outcomes, until the other end is closed."""
    try:
        try:
            worker = Worker(settings, device)
        except Exception as error:
            where = device or "the default device"
            connection.send(JobError(f"A worker on {where} cannot start: {reason_of(error)}"))
            return
        connection.send(None)
        waiting: deque = deque()
        while True:
            # Wait for a unit only if there is nothing to do; else take what has come, and go on.
            while len(waiting) <= READ_AHEAD and (not waiting or connection.poll()):
                waiting.append(worker.start(connection.recv()))
            for _, outcome in worker.finish(*waiting.popleft()):
                connection.send(outcome)
    except (EOFError, OSError, KeyboardInterrupt):
        return


def pooled(units: Iterator[Unit], settings: Settings, devices: Sequence[str | None]) -> Generator[tuple[Item, Outcome]]:
    """Yield each image with its outcome, in the order in which they become ready, from one process a device."""
    on_cpu = sum(not str(device or "cpu").startswith("cuda") for device in devices)
    threads = max(1, (os.cpu_count() or 1) // max(1, on_cpu))
    processes: list[Process] = []
    again, suspects, deaths, failed_starts = deque(), deque(), Counter(), 0

    def take(process: Process) -> Unit | None:
        """Return what comes next; a unit at which a process died comes last and alone, so that it costs no other."""
        if again:
            return again.popleft()
        return next(units, None) or (suspects.popleft() if suspects and not process.pending else None)

    try:
        while True:
            if not processes:  # not before there is something to do
                if (first := next(units, None)) is None:
                    return
                again.append(first)
                processes += [Process(settings, device, threads) for device in devices]
            for process in processes:
                while len(process.pending) < IN_FLIGHT and (unit := take(process)):
                    process.give(unit)
            busy = {process.connection: process for process in processes if process.pending}
            if not busy:
                return
            for connection in wait(list(busy)):
                process = busy[connection]
                try:
                    message = connection.recv()
                except (EOFError, OSError):
                    processes[processes.index(process)] = Process(settings, process.device, threads)
                    failed_starts += not process.ready
                    yield from _take_over(process, again, suspects, deaths)
                    continue
                if isinstance(message, JobError):
                    raise message
                if message is None:
                    process.ready, failed_starts = True, 0
                else:
                    yield process.pending.pop(message.key)[0], message
            if failed_starts > FAILED_STARTS:
                raise JobError(
                    f"Workers must start, got {failed_starts} that died while loading the model. "
                    "Is there enough memory? Use fewer workers."
                )
    finally:
        for process in processes:
            process.stop()


def _take_over(process: Process, again: deque, suspects: deque, deaths: Counter) -> Iterator[tuple[Item, Outcome]]:
    """Put a dead process's units back; the first, at which it was, as a failure if several have died at it."""
    process.stop()
    units = deque({unit.key: unit for _, unit in process.pending.values()}.values())
    logger.warning("Worker %d died (exit code %s); its %d images go to others", process.process.pid,
                   process.process.exitcode, len(process.pending))  # fmt: skip
    if process.ready and units:
        first = units.popleft()
        deaths[first.key] += 1
        if deaths[first.key] < DEATHS_AN_ITEM:
            suspects.append(_rest(first, process.pending))
        else:
            what = "sequence" if isinstance(first, SequenceItem) else "image"
            why = f"{DEATHS_AN_ITEM} workers died at this {what}, probably for want of memory. Use fewer workers."
            yield from ((item, failed(item, why)) for item, unit in process.pending.values() if unit is first)
    again.extend(_rest(unit, process.pending) for unit in units)


def _rest(unit: Unit, pending: Container[str]) -> Unit:
    """Return a unit that is done again, but gives only the outcomes that are missing."""
    if not isinstance(unit, SequenceItem):
        return unit
    return replace(unit, done=frozenset(image.key for image in unit.all_images if image.key not in pending))
