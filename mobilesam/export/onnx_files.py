"""Trace a pair of graphs to ONNX, compare it with the model, and keep it if they agree."""

import copy
import json
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mobilesam._version import __version__
from mobilesam.errors import ExportError
from mobilesam.export.agreement import Agreement, measure
from mobilesam.export.graphs import SIGNATURES, Graph, Signature
from mobilesam.export.precision import to_fp16, to_int8
from mobilesam.files import replacing
from mobilesam.modeling import Sam
from mobilesam.packages import require
from mobilesam.weights import sha256_of_state, used_tensors

OPSET = 17
# Least mean IoU with the model's masks. Measured on the bundled weights: fp32 1, fp16 0.9998, int8 0.9956.
PRECISIONS = {"fp32": 0.9999, "fp16": 0.995, "int8": 0.98}
SMALLER = {"fp16": to_fp16, "int8": to_int8}
# Of low-res logits in fp32. Measured: 3.7e-4 with AVX-512, 1.2e-3 with AVX2.
MAX_LOGITS_DIFFERENCE = 5e-3


class ExportedPair(NamedTuple):
    """Paths of the two files."""

    encoder: Path
    decoder: Path


def export_onnx(
    sam: Sam,
    folder: str | Path | None = None,
    *,
    signature: str = "mobilesam",
    precision: str = "fp32",
    min_iou: float | None = None,
    return_single_mask: bool = True,
) -> ExportedPair:
    """Write an encoder and a decoder, compare them with the model in ONNX Runtime, and keep them if they agree.

    Names, shapes and meaning of inputs and outputs, preprocessing, agreement, version, licence and the SHA-256 of the
    weights are in the files' metadata. See `docs/export.md`.

    Args:
        sam: the model, on any device.
        folder: where to write. Default: a folder named after the signature and precision, in the current one.
        signature: "mobilesam" for many images and many prompts in a call; "sam" for the original's `SamOnnxModel`,
            which AnyLabeling and samexporter call; "fiftyone" for the pair that the FiftyOne App annotates with.
        precision: "fp32"; "fp16" for half the size; "int8" for weights of linear layers in 8 bits, a third of
            the size.
        min_iou: least mean IoU of the exported model's masks with the model's. Default: 0.9999, 0.995 in fp16, 0.98 in
            int8.
        return_single_mask: of "sam": one mask a prompt, or all four. Clients of it paint all masks that they get.

    Returns:
        The paths of the encoder and of the decoder.

    Raises:
        ExportError: an unknown signature or precision; or the exported model does not agree, and nothing is written.
        MissingPackageError: onnx or onnxruntime is not installed.
    """
    for name, value, known in (("signature", signature, SIGNATURES), ("precision", precision, PRECISIONS)):
        if value not in known:
            raise ExportError(f"{name} must be one of {', '.join(known)}, got {value!r}.")
    if not return_single_mask and signature != "sam":
        raise ExportError(f'return_single_mask=False must go with signature="sam", got {signature!r}. Leave it out.')
    onnx, _ = require("onnx"), require("onnxruntime")
    convention = SIGNATURES[signature]
    sam = copy.deepcopy(sam).cpu().float().eval()
    encoder = convention.encoder(sam)
    decoder = convention.decoder(sam, **({} if return_single_mask else {"return_single_mask": False}))
    with tempfile.TemporaryDirectory() as scratch:
        pair = ExportedPair(Path(scratch) / "encoder.onnx", Path(scratch) / "decoder.onnx")
        _trace_pair(encoder, decoder, pair)
        if precision in SMALLER:
            for path in pair:
                SMALLER[precision](path)
        agreement = measure(encoder, decoder, convention.logits, session_run(pair.encoder), session_run(pair.decoder))
        _check(agreement, precision, PRECISIONS[precision] if min_iou is None else min_iou)
        facts = _facts(sam, signature, precision, agreement)
        for graph, path in zip((encoder, decoder), pair, strict=True):
            _describe(onnx, path, graph, facts)
        return _keep(pair, Path(folder or f"mobile_sam_{signature}_{precision}"), convention)


def session_run(path: Path):
    """Return a function that runs an ONNX file in ONNX Runtime, on tensors in the order of its inputs."""
    onnxruntime = require("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        feed = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        return [torch.from_numpy(output) for output in session.run(None, feed)]

    return run


def example(encoder: Graph, decoder: Graph) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return inputs of both graphs to trace with: two prompts where their number is free, since one would be fixed."""
    image = np.zeros((48, 64, 3), np.uint8)
    inputs = encoder.feed(image)
    free = decoder.dynamic_axes.get("point_coords", {})
    encoded = tuple(torch.zeros(1, *((256, 64, 64) if i == 0 else (1, 1, 1))) for i in range(len(encoder.outputs)))
    prompts = 2 if 0 in free else 1
    coords, labels = torch.full((prompts, 3, 2), 100.0), torch.ones(prompts, 3)
    return inputs, decoder.feed(encoded, coords, labels, image.shape[:2])


def _trace_pair(encoder: Graph, decoder: Graph, pair: ExportedPair) -> None:
    for graph, inputs, path in zip((encoder, decoder), example(encoder, decoder), pair, strict=True):
        with warnings.catch_warnings():
            # The exporter's remarks on its successor, and on window sizes that are the same for every image.
            warnings.simplefilter("ignore")
            # The tracing exporter: the newer one wants another package and branches where prompts differ.
            torch.onnx.export(
                graph,
                inputs,
                path,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_axes=graph.dynamic_axes,
                opset_version=OPSET,
                dynamo=False,
            )


def _check(agreement: Agreement, precision: str, min_iou: float) -> None:
    if agreement.iou_mean < min_iou:
        raise ExportError(
            f"The {precision} model must agree with the model with a mean IoU of at least {min_iou}, got "
            f"{agreement.iou_mean:.4f} (least {agreement.iou_min:.4f}) over {agreement.masks} masks. "
            'Nothing was written. Export in precision="fp32", or accept less with min_iou.'
        )
    if precision == "fp32" and agreement.logits_max_difference > MAX_LOGITS_DIFFERENCE:
        raise ExportError(
            f"The logits of the exported model must be within {MAX_LOGITS_DIFFERENCE} of the model's, got a difference "
            f"of {agreement.logits_max_difference:.2g}. Nothing was written. Report your versions of torch and onnx."
        )


def _facts(sam: Sam, signature: str, precision: str, agreement: Agreement) -> dict[str, str]:
    preprocessing = {
        "colour": "RGB",
        "mean": [round(x, 4) for x in sam.pixel_mean.flatten().tolist()],
        "std": [round(x, 4) for x in sam.pixel_std.flatten().tolist()],
        "long_side": 1024,
        "padding": "zeros after normalisation, right and bottom",
        "by_the_caller": SIGNATURES[signature].preprocessing,
    }
    rounded = {name: round(value, 5) for name, value in agreement._asdict().items()}
    rounded["logits_max_difference"] = float(f"{agreement.logits_max_difference:.3g}")
    return {
        "project": "mobilesam",
        "version": __version__,
        "licence": "Apache-2.0",
        "signature": signature,
        "precision": precision,
        "opset": str(OPSET),
        "weights_sha256": sha256_of_state(used_tensors(sam.state_dict())),
        "agreement": json.dumps(rounded),
        "preprocessing": json.dumps(preprocessing),
    }


def _describe(onnx, path: Path, graph: Graph, facts: dict[str, str]) -> None:
    """Write facts, and what inputs and outputs are, into a file's metadata."""
    model = onnx.load(path)
    model.doc_string = type(graph).__doc__
    tensors = {f"tensor:{name}": meaning for name, meaning in {**graph.inputs, **graph.outputs}.items()}
    onnx.helper.set_model_props(model, {**facts, **tensors})
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _keep(pair: ExportedPair, folder: Path, convention: Signature) -> ExportedPair:
    folder.mkdir(parents=True, exist_ok=True)
    kept = ExportedPair(folder / convention.encoder_file, folder / "decoder.onnx")
    for source, destination in zip(pair, kept, strict=True):
        with replacing(destination) as unfinished:
            shutil.move(source, unfinished)  # to another file system it copies
    return kept
