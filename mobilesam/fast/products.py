"""Matrix products in oneDNN, where torch would send them to MKL: twice the rate in float32 on AMD processors.

In bfloat16 torch goes to oneDNN by itself. `F.linear` is the plain version, and what runs on other devices or where
torch's private `mkldnn` operators are missing.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

GELU, NO_ACTIVATION = ("gelu", [], "none"), ("none", [], "")  # as the operators take them
# Multiplications. For each new shape oneDNN makes a kernel, in half a millisecond and half a megabyte or more, and each
# mask has a shape of its own: smaller products save less than that.
LARGE = 2**26
OPERATORS = ("_convolution_pointwise", "_linear_pointwise", "_reorder_convolution_weight", "_reorder_linear_weight")


def has_onednn() -> bool:
    """Whether this torch has the operators; on the CPU only."""
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in OPERATORS)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`: (..., K) and (N, K) -> (..., N)."""
    large = x.numel() * len(weight) >= LARGE
    if large and x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16) and has_onednn():
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, *NO_ACTIVATION)
    return F.linear(x, weight, bias)


def packed_linear(
    weight: Tensor, bias: Tensor | None, dtype: torch.dtype, *, gelu: bool = False
) -> Callable[[Tensor], Tensor]:
    """Return a linear layer on (..., K) whose (N, K) weight is packed once, with GELU behind it if wanted."""
    weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().to(dtype))
    bias = None if bias is None else bias.detach().to(dtype)
    activation = GELU if gelu else NO_ACTIVATION
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, weight, bias, *activation)


def fingerprint(module: torch.nn.Module) -> list[tuple[int, int]]:
    """Return what changes if a weight of a module is replaced or written to."""
    return [(tensor.data_ptr(), tensor._version) for tensor in (*module.parameters(), *module.buffers())]
