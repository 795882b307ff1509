"""Blocks that are freed stay with the process, so that the next step finds them again.

glibc returns the free end of its heap to the system as soon as it is larger than twice the largest block that was ever
freed, and gets it back page by page, with a page fault for each 4 KiB: 80 of 200 ms for 16 boxes on a CPU.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

# What a pass frees and takes again, with room for gaps: with 120 MB some processes still had faults, with 180 MB none.
RESERVE = 192 * 2**20
BLOCK = 30 * 2**20  # glibc maps blocks above 32 MiB on their own, and returns each of these at once


@cache
def keep_heap() -> Tensor:
    """Put a block that is never written, which takes addresses but no memory, above a free stretch of the heap.

    The stretch is then not the heap's end, so glibc keeps it. No setting of the process is touched. Without glibc, and
    in threads with a heap of their own, nothing is gained and nothing lost.
    """
    torch.empty(BLOCK + 2**20, dtype=torch.uint8)  # after one of this size glibc takes smaller ones from the heap
    *_, last = [torch.empty(BLOCK, dtype=torch.uint8) for _ in range(RESERVE // BLOCK + 1)]
    return last


# Of glibc's `mallopt`: when the free end of the heap is returned, how much more is taken than asked for, and from which
# size and for how many at most blocks are mapped on their own.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX = -1, -2, -3, -4


@contextmanager
def whole_heap_kept() -> Iterator[None]:
    """Return nothing to the system while this lasts, and all that is free at its end.

    A gradient takes and frees more blocks, and larger ones, than `keep_heap` has room for: 10,000 page faults a mask,
    10 to 28% of a step's time. Without glibc nothing happens. At the end its settings are those that it comes to by
    itself when large blocks are freed.
    """
    try:
        libc = ctypes.CDLL(None)
        mallopt, malloc_trim = libc.mallopt, libc.malloc_trim
    except (AttributeError, OSError, TypeError):
        yield
        return
    mallopt(MMAP_MAX, 0)
    mallopt(TRIM_THRESHOLD, 2**31 - 1)
    mallopt(TOP_PAD, 2**28)
    try:
        yield
    finally:
        mallopt(MMAP_MAX, 2**16)
        mallopt(MMAP_THRESHOLD, 2**25)
        mallopt(TRIM_THRESHOLD, 2**26)
        mallopt(TOP_PAD, 2**17)
        malloc_trim(0)
