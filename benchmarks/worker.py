"""Pipelines in processes of their own, so that none disturbs another's threads, allocator or peak of memory."""

import multiprocessing
import os
import resource
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
from pipelines import PIPELINES


class Worker:
    """A process with one pipeline in it, which waits between the images it is given.

    Args:
        name: a key of `PIPELINES`.
        checkpoint: the weights, for all the same.
    """

    def __init__(self, name: str, checkpoint: Path):
        self.name = name
        self._connection, there = multiprocessing.get_context("spawn").Pipe()
        before = dict(os.environ)
        os.environ.update(PIPELINES[name][1])  # the allocator reads it when the process starts
        try:
            self._process = multiprocessing.get_context("spawn").Process(
                target=_serve, args=(name, checkpoint, there), daemon=True
            )
            self._process.start()
        finally:
            os.environ.clear()
            os.environ.update(before)

    def run(self, path: Path, boxes: np.ndarray) -> tuple[float, float, list[np.ndarray]]:
        """Return the seconds it took, the peak of resident memory so far in MB, and the masks."""
        self._connection.send((path, boxes))
        seconds, peak, masks = self._connection.recv()
        if isinstance(masks, str):
            raise RuntimeError(f"{self.name} failed on {path}:\n{masks}")
        return seconds, peak, [np.unpackbits(bits, count=np.prod(hw)).reshape(hw).astype(bool) for bits, hw in masks]

    def close(self) -> None:
        """End the process."""
        self._connection.send(None)
        self._process.join()


def _serve(name: str, checkpoint: Path, connection: Any) -> None:
    run = None
    while (job := connection.recv()) is not None:
        try:
            run = run or PIPELINES[name][0](checkpoint)
            start = time.perf_counter()
            masks = run(*job)
            seconds = time.perf_counter() - start
            answer = [(np.packbits(mask), mask.shape) for mask in masks]
        except Exception:
            seconds, answer = 0.0, traceback.format_exc()
        connection.send((seconds, peak_memory(), answer))


def peak_memory() -> float:
    """Return the peak of this process's resident memory in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # `ru_maxrss` would include what the parent had when it started this process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
