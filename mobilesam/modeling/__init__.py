"""The network: images and prompts in the input frame -> low-res logits. No image files, no checks."""

from mobilesam.modeling.image_encoder import ImageEncoder
from mobilesam.modeling.mask_decoder import MaskDecoder
from mobilesam.modeling.prompt_encoder import PromptEncoder
from mobilesam.modeling.sam import Sam
from mobilesam.modeling.transformer import TwoWayTransformer
