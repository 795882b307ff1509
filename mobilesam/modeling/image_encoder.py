"""Image -> image embedding: timm's TinyViT trunk, SAM's neck, upstream's parameter names.

The trunk is `timm.models.tiny_vit.TinyVit` built directly (timm's model registry stays as it is), with two
changes that MobileSAM makes: the last merge keeps its resolution, and the classifier head is gone.

Source: the architecture of MobileSAM's `tiny_vit_sam.py` and of SAM's image encoder neck.
"""

import re
from typing import Any

from timm.models.tiny_vit import Attention, TinyVit
from torch import Tensor, nn

from mobilesam.modeling.layers import LayerNorm2d

# timm's parameter name -> upstream's. The table is applied from top to bottom, every rule once.
TO_UPSTREAM = (
    (r"^patch_embed\.conv1\.", "patch_embed.seq.0."),
    (r"^patch_embed\.conv2\.", "patch_embed.seq.2."),
    # Upstream merges at the end of a layer, timm at the start of the next stage.
    (r"^stages\.(\d+)\.downsample\.", lambda m: f"layers.{int(m[1]) - 1}.downsample."),
    (r"^stages\.", "layers."),
    (r"\.conv\.weight$", ".c.weight"),
)
# Upstream keeps TinyViT's 1000-class head, which segmentation never uses.
UNUSED_PREFIXES = ("norm_head.", "head.")


def upstream_name(key: str) -> str:
    """Return upstream's name of a parameter of the trunk."""
    for pattern, replacement in TO_UPSTREAM:
        key = re.sub(pattern, replacement, key)
    return key


class ImageEncoder(nn.Module):
    """TinyViT-5M trunk and SAM neck. `state_dict` and `load_state_dict` speak upstream's names."""

    img_size = 1024

    def __init__(self, out_chans: int = 256):
        super().__init__()
        self.trunk = TinyVit(
            embed_dims=(64, 128, 160, 320),
            depths=(2, 2, 6, 2),
            num_heads=(2, 4, 5, 10),
            window_sizes=(7, 7, 14, 7),
            drop_path_rate=0.0,
            num_classes=0,
            global_pool="",
        )
        self.trunk.head = nn.Identity()
        self.trunk.stages[3].downsample.conv2.conv.stride = (1, 1)  # stride 16, not 32: a 64 x 64 embedding
        self.neck = nn.Sequential(
            nn.Conv2d(320, out_chans, kernel_size=1, bias=False),
            LayerNorm2d(out_chans),
            nn.Conv2d(out_chans, out_chans, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(out_chans),
        )
        self.register_load_state_dict_pre_hook(_from_upstream)
        self.register_load_state_dict_post_hook(_forget_attention_biases)
        self.register_state_dict_post_hook(_to_upstream)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 1024, 1024) normalised pixels -> (B, 256, 64, 64) image embeddings."""
        return self.neck(self.trunk.forward_features(x))


def _from_upstream(module: ImageEncoder, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    for name in UNUSED_PREFIXES:
        for key in [key for key in state_dict if key.startswith(prefix + name)]:
            del state_dict[key]
    for name in module.trunk.state_dict():
        if (key := prefix + upstream_name(name)) in state_dict:
            state_dict[f"{prefix}trunk.{name}"] = state_dict.pop(key)


def _to_upstream(module: ImageEncoder, state_dict: dict[str, Tensor], prefix: str, _: Any) -> None:
    for name in module.trunk.state_dict():
        state_dict[prefix + upstream_name(name)] = state_dict.pop(f"{prefix}trunk.{name}")


def _forget_attention_biases(module: nn.Module, _: Any) -> None:
    # timm gathers each attention bias once and keeps it; new weights would otherwise meet old biases. The same
    # mistake makes upstream's builder wrong until `.eval()` is called a second time.
    for block in module.modules():
        if isinstance(block, Attention):
            block.attention_bias_cache = {}
