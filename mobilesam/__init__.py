"""MobileSAM in plain PyTorch: arrays in, arrays out."""

from importlib import import_module
from typing import Any

from mobilesam import errors
from mobilesam._version import __version__

# Module -> the public names in it. Loaded at first use, so that `mobilesam.runtime` works without torch.
_NAMES = {
    "automatic_mask_generator": ["SamAutomaticMaskGenerator"],
    "build_sam": ["build_sam", *(f"build_sam_vit_{size}" for size in "bhlt"), "load_model", "sam_model_registry"],
    "embedding_cache": ["EmbeddingCache"],
    "errors": [name for name in vars(errors) if name.endswith("Error")],
    "export": ["export_onnx"],
    "front.model": ["SAM", "MobileSAM"],
    "front.predictor": ["Predictor"],
    "front.results": ["Boxes", "Masks", "Results"],
    "geometry": ["ImageEmbedding", "MaskCrop"],
    "geometry.transforms": ["ResizeLongestSide"],
    "modeling": ["Sam"],
    "predictor": ["SamPredictor"],
    "prompts": ["Prompt", "make_prompts"],
    "runtime": ["OnnxPredictor"],
    "weights": ["weights"],
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mobilesam' has no attribute {name!r}")
    home = import_module(f"mobilesam.{_HOMES[name]}")
    value = home if name == _HOMES[name] else getattr(home, name)  # `build_sam` is a module, and can be called
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
