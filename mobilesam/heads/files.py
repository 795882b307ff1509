"""The fitted heads: one file, and the question whether they are for these weights."""

from dataclasses import dataclass, field
from functools import lru_cache

from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from mobilesam.heads.inherited import BEST, InheritedHead
from mobilesam.heads.inherited import KINDS as INHERITED_KINDS
from mobilesam.heads.mask_head import MaskHead
from mobilesam.heads.quality_head import QualityHead
from mobilesam.modeling import Sam
from mobilesam.weights import HEADS, sha256_of_state

# Kinds of masks whose quality is known, each with its own fit. Masks of any other are of unknown quality.
KINDS = ("box fast", BEST, "points")


@dataclass(frozen=True, eq=False)
class Heads:
    """What was fitted for the tokens of one decoder; nothing for another one's."""

    mask: MaskHead | None = None
    quality: dict[str, QualityHead | InheritedHead] = field(default_factory=dict)  # by kind, of `KINDS`


def weights_of_tokens(sam: Sam) -> str:
    """Name the weights that the decoder's tokens depend on.

    The encoder's trunk is left out: its batch norms are folded in the bundled file and are not in upstream's own.
    """
    parts = {"prompt": sam.prompt_encoder, "decoder": sam.mask_decoder, "neck": sam.image_encoder.neck}
    return sha256_of_state({f"{name}.{key}": x for name, part in parts.items() for key, x in part.state_dict().items()})


def heads_for(sam: Sam) -> Heads:
    """Return the bundled heads on the model's device, those that it inherits, or none for other weights."""
    if (lender := lender_of(sam)) is None:
        return Heads()
    heads = read_heads(_tensors(), sam.device)
    if lender == weights_of_tokens(sam):
        return heads
    lines = {**dict.fromkeys(INHERITED_KINDS, sam.inherits), BEST: sam.inherits.get(BEST)}
    found = {kind: (one["offset"], one["slope"]) for kind, one in lines.items() if one is not None and "slope" in one}
    return Heads(None, {kind: InheritedHead(heads.quality[kind], *line) for kind, line in found.items()})


def lender_of(sam: Sam) -> str | None:
    """Return the `weights_of_tokens` whose heads a model has, its own or those that it inherits from; None for none."""
    if not HEADS.is_file():
        return None
    with safe_open(HEADS, "pt") as file:
        fitted_for = file.metadata()["weights"]
    weights, note = weights_of_tokens(sam), sam.inherits
    known = isinstance(note, dict) and note.keys() >= {"weights", "fitted_for"}
    inherits = known and (note["weights"], note["fitted_for"]) == (weights, fitted_for)
    return fitted_for if inherits or weights == fitted_for else None


def read_heads(state: dict[str, Tensor], device: object = "cpu") -> Heads:
    """Build heads from the tensors of a file."""

    def load(head: MaskHead | QualityHead, prefix: str) -> MaskHead | QualityHead:
        head.load_state_dict({k.removeprefix(prefix): x for k, x in state.items() if k.startswith(prefix)})
        return head.to(device).eval().requires_grad_(False)

    kinds = [kind for kind in KINDS if any(key.startswith(f"quality.{kind}.") for key in state)]
    has_mask = any(key.startswith("mask.") for key in state)
    return Heads(
        load(MaskHead(), "mask.") if has_mask else None,
        {kind: load(QualityHead(), f"quality.{kind}.") for kind in kinds},
    )


def tensors_of(heads: Heads) -> dict[str, Tensor]:
    """Return the tensors of heads, as a file holds them."""
    parts = {} if heads.mask is None else {"mask": heads.mask}
    parts |= {f"quality.{kind}": head for kind, head in heads.quality.items()}
    return {f"{name}.{key}": x.contiguous() for name, part in parts.items() for key, x in part.state_dict().items()}


@lru_cache(maxsize=1)
def _tensors() -> dict[str, Tensor]:
    return load_file(HEADS)
