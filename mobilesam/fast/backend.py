"""Which code runs the network, plain or fast, and in which precision."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from mobilesam.answers import ALL_ANSWERS, CANDIDATES, SINGLE_ANSWER, Decoded
from mobilesam.fast.decoder import FastDecoder
from mobilesam.fast.encoder import FastEncoder
from mobilesam.fast.gpu_encoder import GpuEncoder
from mobilesam.fast.heap import keep_heap
from mobilesam.fast.image_tokens import SharedTokens
from mobilesam.fast.products import fingerprint
from mobilesam.geometry.masks import WHOLE_TILE, Tile
from mobilesam.heads.mask_head import MaskHead
from mobilesam.modeling import Sam
from mobilesam.weights import sha256_of_state, used_tensors

PRECISIONS = ("fp32", "bf16", "auto")
Encoder = FastEncoder | GpuEncoder
_PACKED: WeakKeyDictionary[Sam, FastEncoder] = WeakKeyDictionary()  # as long as the model lives
Device = str | torch.device | int | Sequence | None  # as `named_device` reads it


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the processor or GPU has instructions for products of bfloat16. Without, it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in names)


def named_device(device: Device) -> torch.device | None:
    """Read a device as people write it: "cpu", "cuda:0", "mps", 0, "0", [0]; None for None and "", which name none.

    Raises:
        ValueError: something else, or several devices.
    """
    name = device[0] if isinstance(device, (list, tuple)) and len(device) == 1 else device
    if name is None or isinstance(name, torch.device):
        return name
    text = str(name).strip().lower()
    try:
        return torch.device(f"cuda:{text}" if text.isdigit() else text) if text else None
    except RuntimeError as error:
        raise ValueError(f'device must be one, such as "cpu", "cuda:0" or 0, got {device!r}. Name one.') from error


def chosen_device(device: Device = None) -> torch.device:
    """Return the device that was named, else CUDA if there is a GPU, else the CPU."""
    return named_device(device) or torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resolve_precision(precision: str, device: Device = None) -> str:
    """Return what a precision comes to on a device, "fp32" or "bf16"; another one is a `ValueError`."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}.")
    return "bf16" if precision != "fp32" and multiplies_bfloat16(chosen_device(device)) else "fp32"


def _encoder_for(sam: Sam, dtype: torch.dtype) -> Encoder | None:
    """Return the fast encoder that takes the model here; on a CPU all backends of a model have the same."""
    if GpuEncoder.supports(sam):
        return GpuEncoder(sam, dtype)
    if not FastEncoder.supports(sam):
        return None
    keep_heap()
    packed = _PACKED.get(sam)
    if packed is None or not packed.fits(sam, dtype):
        packed = _PACKED[sam] = FastEncoder(sam, dtype)
    return packed


class Backend:
    """Runs the encoder and the decoder of a `Sam` in float32, which may move to another device later.

    `fast` and `precision` are those of `SamPredictor`.
    """

    def __init__(self, sam: Sam, *, fast: bool = False, precision: str = "fp32"):
        resolve_precision(precision, sam.device)  # checks it
        self.sam = sam
        self.fast = fast or precision != "fp32"
        self.precision = precision
        self._encoder: Encoder | None = None
        self._decoder: FastDecoder | None = None
        self._last_image: tuple[FastDecoder, Tensor, int | None, SharedTokens] | None = None
        self._encoder_weights: tuple[list, str] | None = None

    @property
    def dtype(self) -> torch.dtype:
        """Of the large products, on the device the model is on now."""
        if resolve_precision(self.precision, self.sam.device) == "bf16":
            return torch.bfloat16
        if self.precision == "bf16":
            warnings.warn(f"{self.sam.device} does not multiply bfloat16; float32 is used, it is faster.", stacklevel=2)
        return torch.float32

    @property
    def encoder_name(self) -> str:
        """What embeddings of two backends agree by, up to the device's rounding: weights, precision, path."""
        found = fingerprint(self.sam.image_encoder)
        if self._encoder_weights is None or self._encoder_weights[0] != found:
            self._encoder_weights = found, sha256_of_state(used_tensors(self.sam.image_encoder.state_dict()))
        return f"{self._encoder_weights[1]} {self.dtype} {'fast' if self.fast else 'plain'}"

    @torch.no_grad()
    def encode_image(self, pixels: Tensor) -> Tensor:
        """(B, 3, 1024, 1024) normalised pixels -> image embeddings (B, 256, 64, 64) in float32."""
        dtype = self.dtype
        if self.fast:
            if self._encoder is None or not self._encoder.fits(self.sam, dtype):
                self._encoder = _encoder_for(self.sam, dtype)
            if self._encoder is not None:
                return self._encoder(pixels)
        if dtype == torch.float32:
            return self.sam.encode_image(pixels)
        encoder = self.sam.image_encoder
        with torch.autocast(pixels.device.type, dtype):
            features = encoder.trunk.forward_features(pixels)
        return encoder.neck(features.float())

    @torch.no_grad()
    def decoder(self, features: Tensor, best: MaskHead | None = None) -> Callable[..., Decoded]:
        """Return what decodes prompts in an image, given its embedding (1, 256, 64, 64).

        It takes prompt embeddings of `B` prompts, a tile for each, whether there are mask inputs, and the answers that
        are wanted of the decoder's four; with `best` that network's mask is made from all of them.
        """
        fast = self._fast_decoder() if self.fast else None
        image = fast and self._image_side(fast, features)

        def decode(
            embeddings: tuple[Tensor, Tensor], tiles: Sequence[Tile], *, has_mask_input: bool, answers: range
        ) -> Decoded:
            if fast and not has_mask_input:
                found = fast.attend(image, embeddings[0], answers=ALL_ANSWERS if best else answers)
                tokens, vectors, ious = found.tokens, found.vectors, found.iou_predictions
            else:
                decoder, tiles = self.sam.mask_decoder, [WHOLE_TILE] * len(tiles)
                tokens, upscaled = decoder.attend(features, self.sam.prompt_encoder.get_dense_pe(), *embeddings)
                vectors, ious = decoder.vectors(tokens), decoder.iou_prediction_head(tokens[:, 0])
                if not best:
                    vectors, tokens = vectors[:, list(answers)], tokens[:, [0, *(1 + index for index in answers)]]
            bias = vectors.new_zeros(len(vectors))
            if best:
                vectors, bias = best(tokens, vectors)
                vectors = vectors[:, None]
            if fast and not has_mask_input:
                logits = fast.upscale(found.image_tokens, vectors, tiles)
            else:
                logits = (vectors @ upscaled.flatten(2)).unflatten(-1, upscaled.shape[-2:])
            logits = [x + b for x, b in zip(logits, bias, strict=True)] if best else logits
            return Decoded(tiles, logits, ious, tokens)

        return decode

    @torch.no_grad()
    def filtered_decoder(self, features: Tensor) -> Callable[..., Iterator[tuple[Tensor, Tensor]]]:
        """Return what decodes prompts without a mask input in an image and upscales good candidates only.

        It takes prompt embeddings of `B` prompts and the IoU prediction that a candidate must be above, and yields for
        each prompt the candidates that are: low-res logits (K, 256, 256) and IoU predictions (K,).
        """
        fast = self._fast_decoder() if self.fast else None
        image = fast and self._image_side(fast, features)

        @torch.no_grad()
        def decode(
            embeddings: tuple[Tensor, Tensor], pred_iou_thresh: float, *, multimask_output: bool
        ) -> Iterator[tuple[Tensor, Tensor]]:
            if fast:
                answers = CANDIDATES if multimask_output else SINGLE_ANSWER
                found = fast.attend(image, embeddings[0], answers=answers)
                iou = found.iou_predictions[:, list(answers)]
            else:
                logits, iou = self.sam.decode_masks(features, embeddings, multimask_output=multimask_output)
            for i, good in enumerate(iou > pred_iou_thresh):
                if not good.any():
                    yield iou.new_empty(0, 256, 256), iou[i, good]
                elif fast:
                    yield (
                        fast.upscale([found.image_tokens[i]], found.vectors[i, None, good], [WHOLE_TILE])[0],
                        iou[i, good],
                    )
                else:
                    yield logits[i, good], iou[i, good]

        return decode

    def _fast_decoder(self) -> FastDecoder:
        if self._decoder is None or not self._decoder.fits(self.sam):
            self._decoder = FastDecoder(self.sam)
        return self._decoder

    def _image_side(self, fast: FastDecoder, features: Tensor) -> SharedTokens:
        """Return what prompts of an image share; that of the last image is kept, clicks come one by one."""
        version = None if features.is_inference() else features._version
        kept = self._last_image
        if kept is None or kept[0] is not fast or kept[1] is not features or kept[2] != version:
            kept = self._last_image = fast, features, version, fast.image_side(features)
        return kept[-1]
