"""MobileSAM in plain PyTorch: arrays in, arrays out."""

from importlib import import_module
from typing import Any

from mobilesam._version import __version__

# Public name -> the module it lives in. Loaded at first use, so that `mobilesam.runtime` works without torch.
_HOMES = {
    "SAM": "front.model",
    "AnnotationError": "errors",
    "Boxes": "front.results",
    "CheckpointError": "errors",
    "ConflictError": "errors",
    "DownloadError": "errors",
    "EmbeddingCache": "embedding_cache",
    "ExportError": "errors",
    "FieldError": "errors",
    "ImageEmbedding": "geometry",
    "ImageError": "errors",
    "MaskCrop": "geometry",
    "Masks": "front.results",
    "MissingPackageError": "errors",
    "MobileSAM": "front.model",
    "MobileSamError": "errors",
    "NoImageSetError": "errors",
    "OnnxPredictor": "runtime",
    "Prompt": "prompts",
    "PromptError": "errors",
    "ResizeLongestSide": "geometry.transforms",
    "Results": "front.results",
    "Sam": "modeling",
    "SamAutomaticMaskGenerator": "automatic_mask_generator",
    "SamPredictor": "predictor",
    "UnknownModelError": "errors",
    "UnsupportedError": "errors",
    "build_sam": "build_sam",
    "build_sam_vit_b": "build_sam",
    "build_sam_vit_h": "build_sam",
    "build_sam_vit_l": "build_sam",
    "build_sam_vit_t": "build_sam",
    "export_onnx": "export",
    "load_model": "build_sam",
    "make_prompts": "prompts",
    "sam_model_registry": "build_sam",
}
__all__ = ["__version__", "weights", *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"mobilesam.{_HOMES[name]}"), name)
    elif name == "weights":
        value = import_module("mobilesam.weights")
    else:
        raise AttributeError(f"module 'mobilesam' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
