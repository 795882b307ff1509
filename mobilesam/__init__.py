"""MobileSAM in plain PyTorch: arrays in, arrays out."""

from mobilesam import weights
from mobilesam._version import __version__
from mobilesam.automatic_mask_generator import SamAutomaticMaskGenerator
from mobilesam.build import (
    build_sam,
    build_sam_vit_b,
    build_sam_vit_h,
    build_sam_vit_l,
    build_sam_vit_t,
    load_model,
    sam_model_registry,
)
from mobilesam.errors import (
    CheckpointError,
    DownloadError,
    FieldError,
    ImageError,
    MissingPackageError,
    MobileSamError,
    NoImageSetError,
    PromptError,
    UnknownModelError,
)
from mobilesam.masks import MaskCrop
from mobilesam.model import SAM, MobileSAM
from mobilesam.modeling import Sam
from mobilesam.predictor import ImageEmbedding, SamPredictor
from mobilesam.prompts import Prompt, make_prompts
from mobilesam.results import Boxes, Masks, Results
from mobilesam.transforms import ResizeLongestSide

__all__ = [
    "SAM",
    "Boxes",
    "CheckpointError",
    "DownloadError",
    "FieldError",
    "ImageEmbedding",
    "ImageError",
    "MaskCrop",
    "Masks",
    "MissingPackageError",
    "MobileSAM",
    "MobileSamError",
    "NoImageSetError",
    "Prompt",
    "PromptError",
    "ResizeLongestSide",
    "Results",
    "Sam",
    "SamAutomaticMaskGenerator",
    "SamPredictor",
    "UnknownModelError",
    "__version__",
    "build_sam",
    "build_sam_vit_b",
    "build_sam_vit_h",
    "build_sam_vit_l",
    "build_sam_vit_t",
    "load_model",
    "make_prompts",
    "sam_model_registry",
    "weights",
]
