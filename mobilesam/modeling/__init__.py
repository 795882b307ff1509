"""The network: images and prompts in the input frame -> low-res logits. No image files, no checks."""

from mobilesam.modeling.image_encoder import ImageEncoderViT
from mobilesam.modeling.mask_decoder import MaskDecoder
from mobilesam.modeling.prompt_encoder import PromptEncoder
from mobilesam.modeling.sam import Sam
from mobilesam.modeling.tiny_vit_sam import TinyViT
from mobilesam.modeling.transformer import TwoWayTransformer
