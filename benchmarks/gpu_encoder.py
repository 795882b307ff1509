"""What would make the encoder quicker on a GPU: precisions, channels last, a CUDA graph, `torch.compile`.

    python benchmarks/gpu_encoder.py --batches 1 32

Milliseconds for a batch of random pixels, and how far the embedding is from the float32 one. Compiling takes half a
minute a batch size; `--no-compile` leaves it out.
"""

import argparse
import copy
from collections.abc import Callable
from functools import partial

import torch
from gpu import timed
from report import table
from torch import Tensor

from mobilesam import load_model
from mobilesam.modeling import Sam

WARM_UP = 3  # calls before a graph is recorded, in which libraries choose their kernels


def recorded(function: Callable[[Tensor], Tensor], pixels: Tensor) -> Callable[[Tensor], Tensor]:
    """Record what a function does on a GPU, and return what replays it: it reads `pixels` and ignores its argument."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM_UP):
            function(pixels)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        features = function(pixels)

    def replay(_: Tensor) -> Tensor:
        graph.replay()
        return features

    return replay


def encoder(sam: Sam, dtype: torch.dtype, memory_format: torch.memory_format) -> Callable[[Tensor], Tensor]:
    """Return the plain encoder in a precision and an order in memory."""
    model = copy.deepcopy(sam).to(dtype=dtype, memory_format=memory_format)
    return lambda pixels: model.encode_image(pixels.to(dtype, memory_format=memory_format))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("this needs a GPU that torch can use, got none.")
    device = torch.device("cuda")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    sam = load_model(device=device)
    plain, last = torch.contiguous_format, torch.channels_last
    variants = {
        "float32 in TF32": encoder(sam, torch.float32, plain),
        "bf16": encoder(sam, torch.bfloat16, plain),
        "fp16": encoder(sam, torch.float16, plain),
        "bf16, channels last": encoder(sam, torch.bfloat16, last),
        "fp16, channels last": encoder(sam, torch.float16, last),
    }
    if args.compile:
        variants["bf16, channels last, compiled"] = torch.compile(encoder(sam, torch.bfloat16, last))
    rows = []
    with torch.no_grad():
        inputs = {batch: torch.randn(batch, 3, 1024, 1024, device=device) for batch in args.batches}
        wanted = sam.encode_image(inputs[args.batches[0]])
        for name, run in variants.items():
            for graph in (False, True):
                cells = []
                for pixels in inputs.values():
                    job = partial(recorded(run, pixels) if graph else run, pixels)
                    cells.append(f"{timed(job, device, args.repeats)[1]:.1f}")
                found = run(inputs[args.batches[0]]).float()
                error = float((found - wanted).norm() / wanted.norm())
                rows.append([name + (", CUDA graph" if graph else ""), *cells, f"{error:.3f}"])
                print(rows[-1], flush=True)
    print(table(["median ms for", *map(str, args.batches), "relative error"], rows))
    print(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
