"""The image encoder on a CPU in a third of the time, with the same embedding: the twin of `modeling/tiny_vit_sam.py`.

What it saves over timm's modules, which stay the plain version:

1. Every convolution and linear layer runs in oneDNN with weights packed once and its GELU fused. torch's own fp32
   linear layers go to MKL, which reaches half of oneDNN's rate on AMD processors.
2. Channels stay last in memory, so that nothing is transposed between convolutions and attention.
3. Batch normalisation is folded into the convolutions.
4. Wide maps are worked on in strips of rows and windows in handfuls: intermediate results stay in the cache, and below
   glibc's 32 MiB, above which blocks go back to the system after each use and come again page by page.
5. What images and maps are padded with is computed once, not for every image: `blank.py`, `window_attention.py`.

It calls torch's private `mkldnn` operators, as `torch.compile` does; where they are missing, the plain encoder runs.
"""

from collections.abc import Callable

import torch
from timm.models.tiny_vit import MBConv, PatchMerging, TinyVitBlock
from torch import Tensor, nn
from torch.nn import functional as F

from mobilesam.fast.blank import Part, SkipBlank
from mobilesam.fast.products import GELU, NO_ACTIVATION, fingerprint, has_onednn, packed_linear
from mobilesam.fast.window_attention import WindowAttention
from mobilesam.modeling import Sam

# 16 to 64 take the same time, 128 takes 8% more and 256, the whole map, 35% more (2 cores of AMD Zen 5, torch 2.15).
STRIP_ROWS = 32
SMALL_MAP_ROWS = 64  # maps of up to so many rows go in one piece

Step = Callable[[Tensor], Tensor]


class FastEncoder:
    """The encoder of a `Sam`, in float32, on the CPU. Packs the weights when it is made, in about 30 ms.

    `dtype` is that of the trunk. The neck, 3% of the work, stays in float32.
    """

    @torch.no_grad()
    def __init__(self, sam: Sam, dtype: torch.dtype = torch.float32):
        self._fingerprint = fingerprint(sam.image_encoder)
        self._dtype = dtype
        trunk, neck = sam.image_encoder.trunk, sam.image_encoder.neck
        embed = trunk.patch_embed
        stem: list[Step] = [
            lambda pixels: pixels.to(dtype, memory_format=torch.channels_last),
            _in_strips(_chain(_conv(embed.conv1, dtype, gelu=True), _conv(embed.conv2, dtype)), stride=4),
            *(_in_strips(_inverted_bottleneck(block, dtype), stride=1) for block in trunk.stages[0].blocks),
            _merge(trunk.stages[1].downsample, dtype),
        ]
        # Of its five convolutions of 3 x 3 three have a stride of 2.
        parts = [Part(_chain(*stem), stride=8, shows=2, spoilt=2)]
        for block in trunk.stages[1].blocks:
            attend = _attention_block(block, dtype)
            parts.append(Part(attend, stride=1, shows=1, spoilt=1, window=block.window_size))
        steps: list[Step] = [SkipBlank(parts)]
        for stage in trunk.stages[2:]:
            steps += [_merge(stage.downsample, dtype), *(_attention_block(block, dtype) for block in stage.blocks)]
        steps += [Tensor.float, _conv(neck[0]), _layer_norm(neck[1]), _conv(neck[2]), _layer_norm(neck[3])]
        self._run = _chain(*steps)

    @staticmethod
    def supports(sam: Sam) -> bool:
        """Whether this machine and model can be served."""
        return sam.device.type == "cpu" and next(sam.parameters()).dtype == torch.float32 and has_onednn()

    def fits(self, sam: Sam, dtype: torch.dtype) -> bool:
        """Whether the packed weights are still those of the model, in the precision wanted."""
        return self._dtype == dtype and self._fingerprint == fingerprint(sam.image_encoder)

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, 3, 1024, 1024) normalised pixels -> image embeddings (B, 256, 64, 64)."""
        # One at a time: a batch is no quicker on a CPU, and larger blocks of memory make it slower.
        return torch.cat([self._run(image.unsqueeze(0)).contiguous() for image in pixels])


# Each of these takes and gives (1, C, H, W) with channels last in memory.


def _conv(module: nn.Module, dtype: torch.dtype = torch.float32, *, gelu: bool = False) -> Step:
    """A convolution, its batch normalisation folded in and GELU behind it if wanted."""
    conv = module.fuse() if hasattr(module, "fuse") else module
    if conv.kernel_size == (1, 1) and conv.stride == (1, 1):  # a product, sooner as one
        product = packed_linear(conv.weight.flatten(1), conv.bias, dtype, gelu=gelu)
        return lambda x: product(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    arguments = (conv.padding, conv.stride, conv.dilation, conv.groups)
    weight = torch.ops.mkldnn._reorder_convolution_weight(conv.weight.detach().to(dtype), *arguments)
    bias = None if conv.bias is None else conv.bias.detach().to(dtype)
    activation = GELU if gelu else NO_ACTIVATION
    return lambda x: torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *arguments, *activation)


def _layer_norm(norm: nn.Module) -> Step:
    """Layer normalisation over channels."""

    def run(x: Tensor) -> Tensor:
        rows = x.permute(0, 2, 3, 1)
        return F.layer_norm(rows, rows.shape[-1:], norm.weight, norm.bias, norm.eps).permute(0, 3, 1, 2)

    return run


def _chain(*steps: Step) -> Step:
    def run(x: Tensor) -> Tensor:
        for step in steps:
            x = step(x)
        return x

    return run


def _in_strips(step: Step, *, stride: int) -> Step:
    """Work in strips of rows of the result, each with the neighbour above and below that 3 x 3 kernels look at."""

    def run(x: Tensor) -> Tensor:
        height, out = x.shape[2] // stride, None
        if height <= SMALL_MAP_ROWS:
            return step(x)
        for start in range(0, height, STRIP_ROWS):
            stop = min(start + STRIP_ROWS, height)
            first, last = max(start - 1, 0), min(stop + 1, height)
            strip = step(x[:, :, stride * first : stride * last])
            if out is None:  # only the step knows how many channels and columns it makes
                shape = (*strip.shape[:2], height, strip.shape[3])
                out = torch.empty(shape, dtype=strip.dtype, memory_format=torch.channels_last)
            out[:, :, start:stop] = strip[:, :, start - first : stop - first]
        return out

    return run


def _merge(module: PatchMerging, dtype: torch.dtype) -> Step:
    """Fewer rows and columns, more channels."""
    first, middle, last = module.conv1, module.conv2, module.conv3
    convolutions = _conv(first, dtype, gelu=True), _conv(middle, dtype, gelu=True), _conv(last, dtype)
    return _in_strips(_chain(*convolutions), stride=middle.conv.stride[0])


def _inverted_bottleneck(block: MBConv, dtype: torch.dtype) -> Step:
    """Widen, convolve each channel, narrow, add."""
    widen, depthwise = _conv(block.conv1, dtype, gelu=True), _conv(block.conv2, dtype, gelu=True)
    narrow = _conv(block.conv3, dtype)
    return lambda x: F.gelu(narrow(depthwise(widen(x))) + x)


def _attention_block(block: TinyVitBlock, dtype: torch.dtype) -> Step:
    """Attention within windows, a convolution of each channel, and the feed-forward half."""
    attention = WindowAttention(block.attn, block.window_size, dtype)
    convolve, mlp = _conv(block.local_conv, dtype), block.mlp
    widen = packed_linear(mlp.fc1.weight, mlp.fc1.bias, dtype, gelu=True)
    narrow = packed_linear(mlp.fc2.weight, mlp.fc2.bias, dtype)

    def run(x: Tensor) -> Tensor:
        attention.add_to(x.permute(0, 2, 3, 1)[0])  # in place: nobody reads the map again as it was
        rows = convolve(x).permute(0, 2, 3, 1)
        normed = mlp.norm(rows)
        for strip, normed_strip in zip(rows.split(STRIP_ROWS, dim=1), normed.split(STRIP_ROWS, dim=1), strict=True):
            strip += narrow(widen(normed_strip))
        return rows.permute(0, 3, 1, 2)

    return run
