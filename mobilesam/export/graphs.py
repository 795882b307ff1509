"""The graphs that are exported: an encoder and a decoder for each calling convention, made of one `Sam`."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mobilesam.geometry.transforms import LOW_RES, ResizeLongestSide
from mobilesam.modeling import Sam
from mobilesam.utils.onnx import SamOnnxModel, decode_all, select_mask

SIDE = 1024
PROMPT_INPUTS = {
    "image_embeddings": "(1 or B, 256, 64, 64) float32",
    "point_coords": "(B, N, 2) float32 xy in the resized image; a box is two points; without one, add (0, 0) last",
    "point_labels": "(B, N) float32: 1 foreground, 0 background, 2 and 3 corners of a box, -1 for the added point",
    "mask_input": "(1 or B, 1, 256, 256) float32, low_res_logits of an earlier call, or zeros",
    "has_mask_input": "(1 or B) float32, 1 to use mask_input, 0 not to",
}
PROMPT_AXES = {
    "image_embeddings": {0: "images"},
    "point_coords": {0: "prompts", 1: "points"},
    "point_labels": {0: "prompts", 1: "points"},
    "mask_input": {0: "masks"},
    "has_mask_input": {0: "masks"},
}


class Graph(nn.Module):
    """What is traced, and what its file says about it."""

    inputs: ClassVar[dict[str, str]]  # names in order, and what they are
    outputs: ClassVar[dict[str, str]]
    dynamic_axes: ClassVar[dict[str, dict[int, str]]] = {}  # those whose length is free, by name of input or output

    def __init__(self, sam: Sam):
        super().__init__()
        self.sam = sam
        self.eval()


class Encoder(Graph):
    """Images of any sizes, resized by the caller; they are normalised and padded here."""

    inputs: ClassVar = {
        "images": "(B, H, W, 3) uint8 RGB, long sides resized to 1024; smaller ones padded at will right and bottom",
        "input_hw": "(B, 2) int64, height and width of each image without padding",
    }
    outputs: ClassVar = {"image_embeddings": "(B, 256, 64, 64) float32"}
    dynamic_axes: ClassVar = {
        "images": {0: "images", 1: "height", 2: "width"},
        "input_hw": {0: "images"},
        "image_embeddings": {0: "images"},
    }

    def forward(self, images: Tensor, input_hw: Tensor) -> Tensor:
        """See `inputs` and `outputs`."""
        pixels = self.sam.preprocess(images.permute(0, 3, 1, 2).float())
        grid = torch.arange(SIDE, device=images.device)
        height, width = input_hw[:, 0, None, None, None], input_hw[:, 1, None, None, None]
        inside = (grid[:, None] < height) & (grid < width)
        return self.sam.encode_image(pixels * inside)

    @staticmethod
    def feed(image: np.ndarray) -> tuple[Tensor, ...]:
        """What a caller feeds for one image (H, W, 3) uint8 RGB."""
        resized = torch.from_numpy(ResizeLongestSide(SIDE).apply_image(image))
        return resized.unsqueeze(0), torch.tensor([resized.shape[:2]])


class Decoder(Graph):
    """Many prompts in one call; the low-res logits of all four masks."""

    inputs: ClassVar = PROMPT_INPUTS
    outputs: ClassVar = {
        "low_res_logits": "(B, 4, 256, 256) float32; mask 0 is for clear prompts, 1 to 3 are candidates for others",
        "iou_predictions": "(B, 4) float32",
    }
    dynamic_axes: ClassVar = {**PROMPT_AXES, "low_res_logits": {0: "prompts"}, "iou_predictions": {0: "prompts"}}

    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """See `inputs` and `outputs`."""
        return decode_all(self.sam, image_embeddings, point_coords, point_labels, mask_input, has_mask_input)

    @staticmethod
    def feed(encoded: tuple[Tensor, ...], coords: Tensor, labels: Tensor, original_hw: Any) -> tuple[Tensor, ...]:
        """What a caller feeds for prompts (B, N, 2) and (B, N), padded, in the input frame."""
        return *encoded, coords, labels, torch.zeros(1, 1, LOW_RES, LOW_RES), torch.zeros(1)


class OriginalEncoder(Graph):
    """One image, resized by the caller, as AnyLabeling and samexporter feed it."""

    inputs: ClassVar = {"input_image": "(H, W, 3) float32 RGB in [0, 255], long side resized to 1024"}
    outputs: ClassVar = Encoder.outputs
    dynamic_axes: ClassVar = {"input_image": {0: "height", 1: "width"}}

    def forward(self, input_image: Tensor) -> Tensor:
        """See `inputs` and `outputs`."""
        return self.sam.encode_image(self.sam.preprocess(input_image.permute(2, 0, 1).unsqueeze(0)))

    @staticmethod
    def feed(image: np.ndarray) -> tuple[Tensor, ...]:
        """What a caller feeds for one image (H, W, 3) uint8 RGB."""
        return (torch.from_numpy(ResizeLongestSide(SIDE).apply_image(image)).float(),)


class OriginalDecoder(Graph):
    """The original's `SamOnnxModel`, with one mask or four."""

    inputs: ClassVar = {**PROMPT_INPUTS, "orig_im_size": "(2) float32, height and width of the image"}
    outputs: ClassVar = {
        "masks": "(B, 1 or 4, height, width) float32 logits",
        "iou_predictions": "(B, 1 or 4) float32",
        "low_res_masks": "(B, 1 or 4, 256, 256) float32 logits",
    }
    dynamic_axes: ClassVar = {
        **PROMPT_AXES,
        "masks": {0: "prompts", 2: "height", 3: "width"},
        "iou_predictions": {0: "prompts"},
        "low_res_masks": {0: "prompts"},
    }

    def __init__(self, sam: Sam, *, return_single_mask: bool = True):
        super().__init__(sam)
        self.original = SamOnnxModel(sam, return_single_mask)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See `inputs` and `outputs`."""
        return self.original(*inputs)

    @staticmethod
    def feed(encoded: tuple[Tensor, ...], coords: Tensor, labels: Tensor, original_hw: Any) -> tuple[Tensor, ...]:
        """What a caller feeds for prompts (B, N, 2) and (B, N), padded, in the input frame."""
        return *Decoder.feed(encoded, coords, labels, original_hw), torch.tensor(original_hw, dtype=torch.float32)


class AppEncoder(Graph):
    """One image, stretched to a square and normalised by FiftyOne's App."""

    inputs: ClassVar = {"image": "(1, 3, 1024, 1024) float32 RGB, stretched and normalised"}
    outputs: ClassVar = {
        "image_embed": "(1, 256, 64, 64) float32",
        "high_res_feats_0": "(1, 1, 1, 1) float32, unused: SAM 2 has such features",
        "high_res_feats_1": "(1, 1, 1, 1) float32, unused",
    }

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `inputs` and `outputs`."""
        embedding = self.sam.encode_image(image)
        return embedding, embedding[:, :1, :1, :1], embedding[:, :1, :1, 1:2]

    @staticmethod
    def feed(image: np.ndarray) -> tuple[Tensor, ...]:
        """What the App feeds for one image (H, W, 3) uint8 RGB."""
        square = np.array(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
        scaled = (square / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        return (torch.from_numpy(scaled.astype(np.float32)).permute(2, 0, 1).unsqueeze(0),)


class AppDecoder(Graph):
    """The clicks of one object in FiftyOne's App -> its mask."""

    inputs: ClassVar = {
        **AppEncoder.outputs,
        "point_coords": "(1, N, 2) float32 xy in the stretched image",
        "point_labels": "(1, N) float32: 1 foreground, 0 background",
        "mask_input": "(1, 1, 256, 256) float32 logits, or zeros",
        "has_mask_input": "(1) float32, 1 to use mask_input, 0 not to",
    }
    outputs: ClassVar = {
        "masks": "(1, 1, 256, 256) float32 logits over the stretched image",
        "iou_predictions": "(1, 1) float32",
    }
    dynamic_axes: ClassVar = {"point_coords": {1: "points"}, "point_labels": {1: "points"}}

    def forward(
        self, image_embed: Tensor, unused_0: Tensor, unused_1: Tensor, coords: Tensor, labels: Tensor, *mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `inputs` and `outputs`."""
        # A tracer drops an input that nobody reads, and the App feeds it all the same.
        image_embed = image_embed + 0 * (unused_0 + unused_1)
        coords = torch.cat([coords, torch.zeros_like(coords[:, :1])], dim=1)
        labels = torch.cat([labels, torch.full_like(labels[:, :1], -1)], dim=1)
        masks, scores = decode_all(self.sam, image_embed, coords, labels, *mask)
        return select_mask(masks, scores, coords.shape[1])

    @staticmethod
    def feed(encoded: tuple[Tensor, ...], coords: Tensor, labels: Tensor, original_hw: Any) -> tuple[Tensor, ...]:
        """What the App feeds for prompts (1, N, 2) and (1, N), padded, in the input frame of an image."""
        input_hw = ResizeLongestSide(SIDE).input_hw(original_hw)
        stretched = coords * torch.tensor([SIDE / input_hw[1], SIDE / input_hw[0]])
        given = labels[0] >= 0
        return Decoder.feed(encoded, stretched[:, given], labels[:, given], original_hw)


@dataclass(frozen=True)
class Signature:
    """A calling convention."""

    encoder: type[Graph]
    decoder: type[Graph]
    logits: str  # the output of the decoder with low-res logits
    preprocessing: str  # what the caller does to an image
    encoder_file: str = "encoder.onnx"


LONG_SIDE = "resize the long side to 1024, bilinear with antialiasing; the graph normalises and pads right and bottom"
SIGNATURES = {
    "mobilesam": Signature(Encoder, Decoder, "low_res_logits", LONG_SIDE),
    "sam": Signature(OriginalEncoder, OriginalDecoder, "low_res_masks", LONG_SIDE),
    # ONNX under a name of ONNX Runtime's own format: the App asks for this one, and its runtime reads both.
    "fiftyone": Signature(
        AppEncoder,
        AppDecoder,
        "masks",
        "stretch to 1024 x 1024, bilinear; normalise: (RGB - mean) / std",
        encoder_file="encoder.with_runtime_opt.ort",
    ),
}
