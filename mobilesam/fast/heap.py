"""Blocks that are freed stay with the process, so that the next step finds them again.

glibc returns the free end of its heap to the system as soon as it is larger than twice the largest block that was ever
freed, and gets it back page by page, with a page fault for each 4 KiB: 80 of 200 ms for 16 boxes on a CPU.
"""

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
