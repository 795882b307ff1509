"""Weight files and the tensors in them. Torch is loaded by what handles tensors, not before."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from mobilesam.errors import CheckpointError, reason_of
from mobilesam.files import replacing

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_BYTES = 1 << 20
BUNDLED = Path(__file__).parents[1] / "assets" / "mobile_sam.safetensors"
NAMES = ("mobile_sam.pt", "mobile_sam.pth", "mobile_sam.safetensors")

# TinyViT's classifier: upstream's files carry it, segmentation never reads it, the bundled file leaves it out.
UNUSED_SHAPES = {
    "image_encoder.norm_head.weight": (320,),
    "image_encoder.norm_head.bias": (320,),
    "image_encoder.head.weight": (1000, 320),
    "image_encoder.head.bias": (1000,),
}


def resolve(weights: str | Path) -> Path:
    """Return the file that `weights` names: that file if there is one, else the bundled weights for their own names.

    Raises:
        CheckpointError: no such file.
    """
    path = Path(weights).expanduser()
    if path.is_file():
        return path
    if str(weights) in NAMES:
        return BUNDLED
    raise CheckpointError(
        f"weights must be a file or one of {', '.join(NAMES)}, got {str(weights)!r}, which does not exist. "
        'Use "mobile_sam.pt" for the bundled weights.'
    )


def absolute_weights(weights: str | Path) -> str:
    """Return what names the same weights from any folder: an absolute path, or the name of the bundled ones."""
    path = Path(weights).expanduser()
    return str(path.absolute()) if path.is_file() else str(weights)


def load_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict in upstream's layout from a `.safetensors`, `.pt` or `.pth` file, onto the CPU.

    A dict nested under "model" or "state_dict" is unwrapped and a "module." prefix is taken off. Pickles are read with
    `weights_only=True`: a file that wants to run code is refused.

    Raises:
        CheckpointError: the file cannot be read, or holds something else than named tensors.
    """
    import torch
    from safetensors.torch import load_file

    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise a dozen kinds, and the next line names each
        reason = reason_of(error).split("\n", 1)[0]
        raise CheckpointError(
            f"weights must be a state dict of tensors, got {str(path)!r}, which cannot be read "
            f"({reason}). Save it again with torch.save(model.state_dict(), path)."
        ) from error
    for wrapper in ("model", "state_dict"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(
            f"weights must be a state dict of tensors, got {type(state).__name__} in {str(path)!r}. "
            "Save it again with torch.save(model.state_dict(), path)."
        )
    return {key.removeprefix("module."): value for key, value in state.items()}


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_state(state: dict[str, Tensor]) -> str:
    """Return the SHA-256 of tensors: that of the safetensors file without metadata that holds them."""
    from safetensors.torch import save

    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    return hashlib.sha256(save(tensors)).hexdigest()


def used_tensors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a state dict that the model uses: all but those of TinyViT's classifier."""
    return {key: value for key, value in state.items() if key not in UNUSED_SHAPES}


def check_layout(state: dict[str, Tensor], expected: dict[str, Tensor], *, source: str) -> None:
    """Check names and shapes against a model's own state dict.

    Raises:
        CheckpointError: naming what is missing, unexpected or of another shape.
    """
    names = used_tensors(state).keys()
    problems = {
        "missing": sorted(expected.keys() - names),
        "unexpected": sorted(names - expected.keys()),
        "of another shape": sorted(k for k in names & expected.keys() if state[k].shape != expected[k].shape),
    }
    found = [
        f"{len(keys)} {kind} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for kind, keys in problems.items()
        if keys
    ]
    if found:
        raise CheckpointError(
            f"weights must be MobileSAM's (vit_t), got {source} with tensors {'; '.join(found)}. "
            "Checkpoints of vit_b, vit_l, vit_h and of other architectures do not fit."
        )


def save_checkpoint(state: dict[str, Tensor], path: str | Path) -> None:
    """Write a state dict as a `.pt` file that upstream's own code loads strictly: 439 keys, the unused ones zero."""
    import torch

    unused = {key: torch.zeros(shape) for key, shape in UNUSED_SHAPES.items()}
    with replacing(path) as unfinished, open(unfinished, "wb") as file:  # given a path, torch writes its name into it
        torch.save({**unused, **{key: value.detach().cpu() for key, value in state.items()}}, file)
