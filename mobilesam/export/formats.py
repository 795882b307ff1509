"""`SAM.export`: formats by name."""

import warnings
from pathlib import Path
from typing import Any

import torch

from mobilesam.errors import ExportError
from mobilesam.export.graphs import Decoder, Encoder
from mobilesam.export.onnx_files import ExportedPair, example, export_onnx
from mobilesam.modeling import Sam
from mobilesam.packages import require


def export_torchscript(sam: Sam, folder: str | Path | None = None) -> ExportedPair:
    """Trace encoder and decoder, with the inputs and outputs of the "mobilesam" ONNX pair, for `torch.jit.load`.

    They run on the device the model is on.
    """
    folder = Path(folder or "mobile_sam_torchscript")
    folder.mkdir(parents=True, exist_ok=True)
    graphs = Encoder(sam), Decoder(sam)
    paths = ExportedPair(folder / "encoder.torchscript", folder / "decoder.torchscript")
    for graph, inputs, path in zip(graphs, example(*graphs), paths, strict=True):
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on window sizes that are the same for every image
            traced = torch.jit.trace(graph, tuple(x.to(sam.device) for x in inputs))
            traced.save(path)
    return paths


def export_openvino(sam: Sam, folder: str | Path | None = None) -> ExportedPair:
    """Write OpenVINO's `.xml` and `.bin` of the "mobilesam" ONNX pair, in float32.

    OpenVINO works in bfloat16 where the processor has it; compile with `{"INFERENCE_PRECISION_HINT": "f32"}` for the
    model's own masks.
    """
    openvino = require("openvino")
    folder = Path(folder or "mobile_sam_openvino")
    paths = []
    for path in export_onnx(sam, folder):
        openvino.save_model(openvino.Core().read_model(path), path.with_suffix(".xml"), compress_to_fp16=False)
        path.unlink()
        paths.append(path.with_suffix(".xml"))
    return ExportedPair(*paths)


FORMATS = {"onnx": export_onnx, "torchscript": export_torchscript, "openvino": export_openvino}


def export(sam: Sam, format: str = "onnx", **options: Any) -> ExportedPair:
    """Export in a format by name, with the options of `export_onnx`, `export_torchscript` or `export_openvino`."""
    if format not in FORMATS:
        raise ExportError(f"format must be one of {', '.join(FORMATS)}, got {format!r}.")
    return FORMATS[format](sam, **options)
