"""Smaller ONNX files: half precision, and 8-bit weights."""

import logging
from pathlib import Path

from mobilesam.packages import require

# Sums of squares pass the largest half, 65504, and a softmax or norm in half precision is where accuracy goes.
KEPT_OPS = ("ReduceMean", "Pow", "Sqrt", "Div", "LayerNormalization", "Softmax", "Cast", "Range")


def to_fp16(path: Path) -> None:
    """Turn weights and products of an ONNX file into half precision, in place; inputs and outputs stay as they are."""
    onnx, float16 = require("onnx"), require("onnxruntime.transformers.float16")
    model = onnx.load(path)
    converted = float16.convert_float_to_float16(
        model,
        keep_io_types=True,
        op_block_list=[*float16.DEFAULT_OP_BLOCK_LIST, *KEPT_OPS],
        node_block_list=_before_sines(model.graph),
    )
    # The converter leaves its casts at the end; a graph is stored in the order of its computation.
    ordered = require("onnxruntime.transformers.onnx_model").OnnxModel(converted)
    ordered.remove_cascaded_cast_nodes()
    ordered.topological_sort()
    onnx.save(ordered.model, path)


def to_int8(path: Path) -> None:
    """Quantise the weights of linear layers of an ONNX file to 8 bits, in place; activations when they are met."""
    quantization = require("onnxruntime.quantization")
    level = logging.root.manager.disable
    # It advises a preparation, with which the files are half as large again and the least IoU falls from 0.91 to 0.74.
    logging.disable(logging.WARNING)
    try:
        quantization.quantize_dynamic(path, path, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True)
    finally:
        logging.disable(level)


def _before_sines(graph) -> list[str]:
    """Name the nodes that lead to positional encodings: a half has no room for a pixel and its fraction."""
    producers = {output: node for node in graph.node for output in node.output}
    names, todo = set(), [node for node in graph.node if node.op_type in ("Sin", "Cos")]
    while todo:
        node = todo.pop()
        if node.name not in names:
            names.add(node.name)
            todo += [producers[name] for name in node.input if name in producers]
    return sorted(names)
