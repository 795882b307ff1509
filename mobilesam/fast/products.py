"""Matrix products in oneDNN, where torch would send them to MKL: twice the rate in float32 on AMD processors.

In bfloat16 torch goes to oneDNN by itself, but adds in a second pass what here is added in the first.

`F.linear` and `torch.bmm` are the plain versions, and what runs on other devices or where torch's private `mkldnn`
operators are missing.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

OPERATORS = ("_convolution_pointwise", "_linear_pointwise", "_reorder_convolution_weight", "_reorder_linear_weight")


def has_onednn() -> bool:
    """Whether this torch has the operators; on the CPU only."""
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in OPERATORS)


def _to_onednn(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16) and has_onednn()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`: (..., K) and (N, K) -> (..., N)."""
    if _to_onednn(x):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


def batched_linear(x: Tensor, weight: Tensor, other: Tensor | None = None) -> Tensor:
    """`torch.bmm` or `torch.baddbmm`: (B, M, K) and (B, N, K), plus (B, M, N) if given -> (B, M, N)."""
    if len(x) == 1 and _to_onednn(x):
        if other is None:
            return linear(x, weight[0])
        return torch.ops.mkldnn._linear_pointwise.binary(x[0], other[0], weight[0], None, "add").unsqueeze(0)
    weight = weight.transpose(1, 2)
    return torch.bmm(x, weight) if other is None else torch.baddbmm(other, x, weight)


def fingerprint(module: torch.nn.Module) -> list[tuple[int, int]]:
    """Return what changes if a weight of a module is replaced or written to."""
    return [(tensor.data_ptr(), tensor._version) for tensor in (*module.parameters(), *module.buffers())]
