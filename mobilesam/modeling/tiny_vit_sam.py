"""Image -> image embedding: timm's TinyViT trunk, SAM's neck, upstream's parameter names.

The trunk is `timm.models.tiny_vit.TinyVit` built directly (timm's model registry stays as it is), with two
changes: the last merge keeps its resolution, as in MobileSAM, and the classifier, which nobody reads, is not built.

Source: the architecture of MobileSAM's `tiny_vit_sam.py` and of SAM's image encoder neck.
"""

import re
from collections.abc import Sequence
from typing import Any

from timm.models.tiny_vit import Attention, TinyVit
from torch import Tensor, nn

from mobilesam.errors import UnknownModelError
from mobilesam.layout import UNUSED_SHAPES
from mobilesam.modeling.common import LayerNorm2d

# timm's parameter name -> upstream's. The table is applied from top to bottom, every rule once.
TO_UPSTREAM = (
    (r"^patch_embed\.conv1\.", "patch_embed.seq.0."),
    (r"^patch_embed\.conv2\.", "patch_embed.seq.2."),
    # Upstream merges at the end of a layer, timm at the start of the next stage.
    (r"^stages\.(\d+)\.downsample\.", lambda m: f"layers.{int(m[1]) - 1}.downsample."),
    (r"^stages\.", "layers."),
    (r"\.conv\.weight$", ".c.weight"),
)
# What MobileSAM's TinyViT is. With other values it would be a network that no weights are for.
ARCHITECTURE = {
    "img_size": 1024,
    "in_chans": 3,
    "embed_dims": (64, 128, 160, 320),
    "depths": (2, 2, 6, 2),
    "num_heads": (2, 4, 5, 10),
    "window_sizes": (7, 7, 14, 7),
    "mlp_ratio": 4.0,
    "mbconv_expand_ratio": 4.0,
    "local_conv_size": 3,
}
OUT_CHANS = 256


def upstream_name(key: str) -> str:
    """Return upstream's name of a parameter of the trunk."""
    for pattern, replacement in TO_UPSTREAM:
        key = re.sub(pattern, replacement, key)
    return key


class TinyViT(nn.Module):
    """TinyViT-5M trunk and SAM neck, with the arguments of upstream's class.

    `state_dict` gives upstream's layout, the classifier's tensors as zeros, and `load_state_dict` takes it, with these
    or without.

    Args:
        drop_rate: dropout after the projections, while training.
        drop_path_rate: stochastic depth, while training.
        use_checkpoint: computes activations again in the backward pass, for less memory.
        num_classes: of the classifier, which is not built.
        layer_lr_decay: upstream notes it on the parameters for a trainer of its own; not used here.

    The others must have their defaults, which are MobileSAM's.

    Raises:
        UnknownModelError: they have not.
    """

    def __init__(
        self,
        img_size: int = ARCHITECTURE["img_size"],
        in_chans: int = ARCHITECTURE["in_chans"],
        num_classes: int = 1000,
        embed_dims: Sequence[int] = ARCHITECTURE["embed_dims"],
        depths: Sequence[int] = ARCHITECTURE["depths"],
        num_heads: Sequence[int] = ARCHITECTURE["num_heads"],
        window_sizes: Sequence[int] = ARCHITECTURE["window_sizes"],
        mlp_ratio: float = ARCHITECTURE["mlp_ratio"],
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        use_checkpoint: bool = False,
        mbconv_expand_ratio: float = ARCHITECTURE["mbconv_expand_ratio"],
        local_conv_size: int = ARCHITECTURE["local_conv_size"],
        layer_lr_decay: float = 0.8,
    ):
        super().__init__()
        given = locals()
        for name, expected in ARCHITECTURE.items():
            value = tuple(given[name]) if isinstance(expected, tuple) else given[name]
            if value != expected:
                raise UnknownModelError(f"{name} must be {expected}, MobileSAM's, got {value}. Leave it out.")
        self.img_size = img_size
        self.trunk = TinyVit(
            **{name: value for name, value in ARCHITECTURE.items() if name != "img_size"},
            proj_drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
            use_checkpoint=use_checkpoint,
            num_classes=0,
            global_pool="",
        )
        self.trunk.head = nn.Identity()
        self.trunk.stages[3].downsample.conv2.conv.stride = (1, 1)  # stride 16, not 32: a 64 x 64 embedding
        self.neck = nn.Sequential(
            nn.Conv2d(320, OUT_CHANS, kernel_size=1, bias=False),
            LayerNorm2d(OUT_CHANS),
            nn.Conv2d(OUT_CHANS, OUT_CHANS, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(OUT_CHANS),
        )
        self.register_load_state_dict_pre_hook(_from_upstream)
        self.register_load_state_dict_post_hook(forget_attention_biases)
        self.register_state_dict_post_hook(_to_upstream)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 1024, 1024) normalised pixels -> (B, 256, 64, 64) image embeddings."""
        return self.neck(self.trunk.forward_features(x))


def _from_upstream(module: TinyViT, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    for name in UNUSED_SHAPES:
        state_dict.pop(prefix + name, None)
    for name in module.trunk.state_dict():
        if (key := prefix + upstream_name(name)) in state_dict:
            state_dict[f"{prefix}trunk.{name}"] = state_dict.pop(key)


def _to_upstream(module: TinyViT, state_dict: dict[str, Tensor], prefix: str, _: Any) -> None:
    for name, shape in UNUSED_SHAPES.items():
        state_dict[prefix + name] = module.neck[0].weight.new_zeros(shape)
    for name in module.trunk.state_dict():
        state_dict[prefix + upstream_name(name)] = state_dict.pop(f"{prefix}trunk.{name}")


def forget_attention_biases(module: nn.Module, _: Any = None) -> None:
    """Let attention biases be gathered anew, after weights were loaded or changed their type.

    timm gathers each once and keeps it, so new weights would meet old biases. The same mistake makes upstream's builder
    wrong until `.eval()` is called a second time.
    """
    for block in module.modules():
        if isinstance(block, Attention):
            block.attention_bias_cache = {}
