"""Where scripts of the original look for its image encoder, which is not here."""

from typing import Any

from mobilesam.errors import UnknownModelError

ELSEWHERE = (
    "For vit_b, vit_l and vit_h use the segment_anything package: SamPredictor and SamAutomaticMaskGenerator are "
    "called alike there."
)


class ImageEncoderViT:
    """The encoder of SAM's larger models: it can be imported and says at its first use what is here instead."""

    def __init__(self, *_: Any, **__: Any):
        raise UnknownModelError(f"image_encoder must be TinyViT, MobileSAM's, got ImageEncoderViT. {ELSEWHERE}")
