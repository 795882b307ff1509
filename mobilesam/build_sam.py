"""Put the model together and load weights into it."""

import copy
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import torch

from mobilesam import weights as weight_files
from mobilesam.errors import UnknownModelError
from mobilesam.fast.backend import chosen_device
from mobilesam.modeling import MaskDecoder, PromptEncoder, Sam, TinyViT, TwoWayTransformer
from mobilesam.modeling.image_encoder import ELSEWHERE
from mobilesam.selftest import self_test

EMBED_DIM = 256


def build_sam_vit_t(checkpoint: str | Path | None = None) -> Sam:
    """Build MobileSAM in eval mode, as the original's registry does.

    Args:
        checkpoint: a file in upstream's layout, "mobile_sam.pt" for the bundled weights, or None for random ones.

    Raises:
        CheckpointError: the file is missing, unreadable, or of another model.
    """
    encoder = TinyViT()
    sam = Sam(
        image_encoder=encoder,
        prompt_encoder=PromptEncoder(
            embed_dim=EMBED_DIM,
            image_embedding_size=(64, 64),
            input_image_size=(encoder.img_size, encoder.img_size),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            transformer=TwoWayTransformer(depth=2, embedding_dim=EMBED_DIM, num_heads=8, mlp_dim=2048),
            transformer_dim=EMBED_DIM,
        ),
    )
    if checkpoint is not None:
        load_weights(sam, checkpoint)
    return sam.eval()


def load_weights(sam: Sam, checkpoint: str | Path) -> None:
    """Put the weights of a file into a model, and what their model card says of them.

    Raises:
        CheckpointError: the file is missing, unreadable, or of another model.
    """
    path = weight_files.resolve(checkpoint)
    state = weight_files.load_state_dict(path)
    weight_files.check_layout(state, sam.state_dict(), source=str(path))
    sam.load_state_dict(state)
    card = weight_files.read_card(path) or {}
    sam.inherits, sam.fine_tuned = card.get("mask_quality"), str(card.get("made_with")).startswith("mobilesam")


def before_training(sam: Sam) -> Sam:
    """Return a model with the bundled mask decoder where its own was fine-tuned from that, else the model itself.

    The encoders are the same modules in both.
    """
    if not sam.fine_tuned:
        return sam
    bundled, decoder = weight_files.load_state_dict(weight_files.BUNDLED), "mask_decoder."
    rest = {key: x for key, x in weight_files.used_tensors(sam.state_dict()).items() if not key.startswith(decoder)}
    if not all(torch.equal(bundled[key], x.cpu()) for key, x in rest.items()):
        return sam  # fine-tuned from weights that are not here
    before = Sam(sam.image_encoder, sam.prompt_encoder, copy.deepcopy(sam.mask_decoder)).to(sam.device).eval()
    before.mask_decoder.load_state_dict({key.removeprefix(decoder): x for key, x in bundled.items() if key not in rest})
    return before


build_sam = build_sam_vit_t


def _refuse(model_type: str, checkpoint: str | Path | None = None) -> Sam:
    raise UnknownModelError(f'model_type must be "vit_t", MobileSAM, got {model_type!r}. {ELSEWHERE}')


build_sam_vit_b, build_sam_vit_l, build_sam_vit_h = (partial(_refuse, name) for name in ("vit_b", "vit_l", "vit_h"))


class ModelRegistry(dict):
    """Name -> builder, for the models that are here; for any other name an `UnknownModelError` says what to do."""

    def __missing__(self, model_type: str) -> Callable[..., Sam]:
        return _refuse(model_type)


sam_model_registry = ModelRegistry(default=build_sam, vit_t=build_sam_vit_t, mobile_sam=build_sam_vit_t)


def load_model(
    weights: str | Path = "mobile_sam.pt", *, device: str | torch.device | None = None, verify: bool = True
) -> Sam:
    """Build MobileSAM on a device, ready to predict, and test it.

    Args:
        weights: see `mobilesam.weights.resolve`.
        device: where to run. Default: CUDA if there is a GPU, else the CPU.
        verify: run the self-test, one image through the whole model.

    Raises:
        CheckpointError: the weights do not load, or the model fails its self-test on this device.
    """
    sam = build_sam_vit_t(weights).to(chosen_device(device)).requires_grad_(False)
    if verify:
        self_test(sam)
    return sam


class _CallableModule(ModuleType):
    # `mobilesam.build_sam` is the original's name of a function and of this module. Whoever imports the module,
    # anywhere in the process, has Python put it in the function's place, so it must do the same when it is called.
    def __call__(self, checkpoint: str | Path | None = None) -> Sam:
        return build_sam(checkpoint)


sys.modules[__name__].__class__ = _CallableModule
