"""The original SAM's maps between the three frames.

- original frame: pixels of the image, (H, W)
- input frame: the image resized to long side 1024, padded right and bottom to 1024 x 1024
- low-res frame: the decoder's 256 x 256 grid over the input frame

Arrays need numpy and Pillow alone, as `runtime.py` does without torch. `transforms.py` has Ultralytics' maps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LOW_RES = 256
# A mask prompt is logits. A binary mask becomes these, about the size of a confident answer of the decoder.
BINARY_MASK_LOGIT = 10.0


@dataclass(frozen=True, eq=False)
class ImageEmbedding:
    """An encoded image: all that is needed to decode masks in it.

    Attributes:
        features: (1, 256, 64, 64), on the model's device; an array if it comes from `OnnxPredictor`.
        original_hw: size of the image.
        input_hw: its size in the input frame, without padding.
        pixels: the image itself, (H, W, 3) uint8 RGB, where it is known: `quality="best"` looks at parts of it again.
    """

    features: Tensor | np.ndarray
    original_hw: tuple[int, int]
    input_hw: tuple[int, int]
    pixels: np.ndarray | None = None


class ResizeLongestSide:
    """The original SAM's maps under its names: the image is resized so that its long side is `target_length`.

    Source: the interface and arithmetic of Segment Anything's `utils/transforms.py`.
    """

    def __init__(self, target_length: int = 1024):
        self.target_length = target_length

    @staticmethod
    def get_preprocess_shape(oldh: int, oldw: int, long_side_length: int) -> tuple[int, int]:
        """Return (h, w) in the input frame, without padding, of an image of size (oldh, oldw)."""
        scale = long_side_length / max(oldh, oldw)
        return max(1, int(oldh * scale + 0.5)), max(1, int(oldw * scale + 0.5))

    def input_hw(self, original_hw: tuple[int, ...]) -> tuple[int, int]:
        """Return (h, w) in the input frame, without padding, of an image of size `original_hw`."""
        return self.get_preprocess_shape(original_hw[0], original_hw[1], self.target_length)

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        """Resize with antialiasing. (H, W, 3) uint8 -> (h, w, 3) uint8."""
        height, width = self.input_hw(image.shape[:2])
        return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))

    def apply_image_on(self, image: np.ndarray, device: torch.device) -> Tensor:
        """Do what `apply_image` does, to the bit, on a device. (H, W, 3) uint8 -> (h, w, 3) uint8."""
        import torch

        from mobilesam.geometry import pillow_resize

        if device.type == "cuda" and pillow_resize.knows(image.shape):
            return pillow_resize.resize(torch.from_numpy(image).to(device), self.input_hw(image.shape))
        return torch.from_numpy(self.apply_image(image)).to(device)

    def apply_coords(self, coords: np.ndarray, original_size: tuple[int, ...]) -> np.ndarray:
        """Map points to the input frame. (..., 2) xy original pixels -> (..., 2) float64 xy input pixels."""
        return np.asarray(coords, dtype=np.float64) * self._scale_xy(original_size)

    def apply_boxes(self, boxes: np.ndarray, original_size: tuple[int, ...]) -> np.ndarray:
        """Map boxes to the input frame. (B, 4) xyxy original pixels -> (B, 4) float64 xyxy input pixels."""
        return self.apply_coords(np.asarray(boxes).reshape(-1, 2, 2), original_size).reshape(-1, 4)

    def apply_image_torch(self, image: Tensor) -> Tensor:
        """Resize with antialiasing. (B, C, H, W) float -> (B, C, h, w); within 2 grey levels of `apply_image`."""
        from torch.nn.functional import interpolate

        return interpolate(image, self.input_hw(image.shape[-2:]), mode="bilinear", antialias=True)

    def apply_coords_torch(self, coords: Tensor, original_size: tuple[int, ...]) -> Tensor:
        """`apply_coords` for tensors: (..., 2) -> (..., 2) float32."""
        coords = coords.float()
        return coords * coords.new_tensor(self._scale_xy(original_size))

    def apply_boxes_torch(self, boxes: Tensor, original_size: tuple[int, ...]) -> Tensor:
        """`apply_boxes` for tensors: (B, 4) -> (B, 4) float32."""
        return self.apply_coords_torch(boxes.reshape(-1, 2, 2), original_size).reshape(-1, 4)

    def padded_pixels(self, image: Tensor) -> Tensor:
        """Pad a resized (..., 3, h, w) image where that is done before normalisation: not in the original."""
        return image

    def apply_mask(self, mask: np.ndarray) -> np.ndarray:
        """Turn a mask of the original image into a mask prompt. (H, W) bool -> (1, 256, 256) float32 logits."""
        height, width = self.input_hw(mask.shape)
        scale = LOW_RES / self.target_length
        height, width = max(1, round(height * scale)), max(1, round(width * scale))
        share = Image.fromarray(mask.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
        logits = np.full((1, LOW_RES, LOW_RES), -BINARY_MASK_LOGIT, np.float32)
        logits[0, :height, :width] = (2 * np.asarray(share) - 1) * BINARY_MASK_LOGIT
        return logits

    def upscale_arrays(self, original_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the map from the low-res frame to the original frame as two matrices.

        Two bilinear steps (256 to 1024, padding cut off, to the image) are one linear map along each axis, so
        `rows @ low_res_logits @ columns.T` gives what two interpolations of the whole image give, for whichever rows
        and columns are wanted.

        Returns:
            rows (H, 256) and columns (W, 256), float32.
        """
        to_input = bilinear_resample(np.eye(LOW_RES), self.target_length)
        return tuple(
            bilinear_resample(to_input[:inner], size).astype(np.float32)
            for size, inner in zip(original_hw, self.input_hw(original_hw), strict=True)
        )

    def upscale_matrices(self, original_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """`upscale_arrays` as tensors: rows (H, 256) and columns (W, 256), float32."""
        import torch

        return tuple(torch.from_numpy(matrix) for matrix in self.upscale_arrays(original_hw))

    def _scale_xy(self, original_size: tuple[int, ...]) -> np.ndarray:
        height, width = self.input_hw(original_size)
        return np.array([width / original_size[1], height / original_size[0]])


def bilinear_resample(
    samples: np.ndarray, out_size: int, *, span: float | None = None, last: int | None = None
) -> np.ndarray:
    """Resample along the first axis as `F.interpolate(mode="bilinear", align_corners=False)` does.

    (N, ...) -> (out_size, ...). The first `span` of the input, in samples, is stretched over the output, and no sample
    after the index `last` is read. Default: all of it.
    """
    span = len(samples) if span is None else span
    last = len(samples) - 1 if last is None else last
    # In float32, as torch does: the rounding of a position moves a steep logit by 1e-4, and the masks must be the same.
    position = (np.arange(out_size, dtype=np.float32) + np.float32(0.5)) * np.float32(span / out_size) - np.float32(0.5)
    position = position.clip(0, last)
    lower = np.floor(position).astype(np.int64)
    upper = np.minimum(lower + 1, last)
    weight = (position - lower.astype(np.float32)).astype(samples.dtype)[:, None]
    return samples[lower] * (1 - weight) + samples[upper] * weight
