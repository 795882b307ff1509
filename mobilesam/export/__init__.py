"""MobileSAM as files for other programs: ONNX, TorchScript, OpenVINO."""

from mobilesam.export.formats import FORMATS, export, export_openvino, export_torchscript
from mobilesam.export.onnx_files import OPSET, PRECISIONS, ExportedPair, export_onnx
