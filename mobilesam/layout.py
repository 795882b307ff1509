"""What a checkpoint of upstream holds that the model never reads. Knows names and shapes, not tensors."""

from typing import TypeVar

T = TypeVar("T")

# TinyViT's classifier: upstream's class has it, segmentation never reads it, the bundled file leaves it out.
UNUSED_SHAPES = {
    "norm_head.weight": (320,),
    "norm_head.bias": (320,),
    "head.weight": (1000, 320),
    "head.bias": (1000,),
}


def used_tensors(state: dict[str, T]) -> dict[str, T]:
    """Return what the model reads of a state dict, of the whole model or of its image encoder."""
    return {key: value for key, value in state.items() if key.removeprefix("image_encoder.") not in UNUSED_SHAPES}
