"""The image encoder on a GPU: channels last, and recorded, so that one image does not keep the GPU waiting for Python.

A CUDA graph replays all kernels of a pass at once. On an H100 an image took 10.2 ms in bfloat16, and 2.1 with channels
last and recorded; 32 images took 67 and 47 (`benchmarks/gpu_encoder.py`).
"""

import copy
import threading
import warnings
from collections import Counter

import torch
from torch import Tensor

from mobilesam.fast.products import fingerprint
from mobilesam.modeling import Sam
from mobilesam.modeling.tiny_vit_sam import forget_attention_biases

WARM_UP = 3  # passes before one is recorded, in which libraries choose their kernels
LARGEST_BATCH = 4  # that is recorded: more images keep a GPU busy by themselves, and a recording keeps its memory


class GpuEncoder:
    """The encoder of a `Sam` on the device it is on. `dtype` is that of the trunk, the neck stays in float32.

    Copies the weights: 24 MB, half of that in bfloat16.
    """

    def __init__(self, sam: Sam, dtype: torch.dtype = torch.float32):
        self._fingerprint = fingerprint(sam.image_encoder)
        self._dtype = dtype
        encoder = copy.deepcopy(sam.image_encoder).requires_grad_(False).to(memory_format=torch.channels_last)
        self._trunk, self._neck = encoder.trunk.to(dtype), encoder.neck
        forget_attention_biases(encoder)
        self._seen: Counter[int] = Counter()
        self._recorded: dict[int, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}
        self._largest = LARGEST_BATCH if sam.device.type == "cuda" else 0
        self._lock = threading.Lock()  # a recording has one input and one output

    @staticmethod
    def supports(sam: Sam) -> bool:
        """Whether this machine and model can be served."""
        return sam.device.type == "cuda" and next(sam.parameters()).dtype == torch.float32

    def fits(self, sam: Sam, dtype: torch.dtype) -> bool:
        """Whether the copied weights are still those of the model, in the precision wanted."""
        return self._dtype == dtype and self._fingerprint == fingerprint(sam.image_encoder)

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, 3, 1024, 1024) normalised pixels -> image embeddings (B, 256, 64, 64) in float32."""
        batch = len(pixels)
        with self._lock:
            self._seen[batch] += 1
            # A size that comes once is not worth it: recording takes as long as some passes.
            if batch <= self._largest and batch not in self._recorded and self._seen[batch] > 1:
                self._record(pixels)
            if batch not in self._recorded:
                return self._run(pixels)
            graph, given, found = self._recorded[batch]
            given.copy_(pixels)
            graph.replay()
            return found.clone()

    def _run(self, pixels: Tensor) -> Tensor:
        x = self._trunk.forward_features(pixels.to(self._dtype, memory_format=torch.channels_last))
        return self._neck(x.float()).contiguous()

    def _record(self, pixels: Tensor) -> None:
        """Keep a graph of a pass, the tensor it reads and the one it writes; if that fails say so, once."""
        given = pixels.clone()
        try:
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(WARM_UP):
                    self._run(given)
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            # Other threads may go on to use the GPU.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                found = self._run(given)
        except RuntimeError as error:
            self._largest = 0
            warnings.warn(f"The encoder could not be recorded, single images take longer: {error}", stacklevel=4)
        else:
            self._recorded[len(pixels)] = graph, given, found
