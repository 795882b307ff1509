"""MobileSAM in plain PyTorch: arrays in, arrays out."""

from importlib import import_module
from typing import Any

from mobilesam import errors
from mobilesam._version import __version__

# Public name -> the module it lives in. Loaded at first use, so that `mobilesam.runtime` works without torch.
_HOMES = {
    **{name: "errors" for name in vars(errors) if name.endswith("Error")},
    "SAM": "front.model",
    "Boxes": "front.results",
    "EmbeddingCache": "embedding_cache",
    "ImageEmbedding": "geometry",
    "MaskCrop": "geometry",
    "Masks": "front.results",
    "MobileSAM": "front.model",
    "OnnxPredictor": "runtime",
    "Prompt": "prompts",
    "ResizeLongestSide": "geometry.transforms",
    "Results": "front.results",
    "Sam": "modeling",
    "SamAutomaticMaskGenerator": "automatic_mask_generator",
    "SamPredictor": "predictor",
    "build_sam": "build_sam",
    "build_sam_vit_b": "build_sam",
    "build_sam_vit_h": "build_sam",
    "build_sam_vit_l": "build_sam",
    "build_sam_vit_t": "build_sam",
    "export_onnx": "export",
    "load_model": "build_sam",
    "make_prompts": "prompts",
    "sam_model_registry": "build_sam",
    "weights": "weights",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mobilesam' has no attribute {name!r}")
    home = import_module(f"mobilesam.{_HOMES[name]}")
    value = home if name == "weights" else getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
