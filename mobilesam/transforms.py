"""The three frames and the maps between them.

- original frame: pixels of the image, (H, W)
- input frame: the image resized to long side 1024, padded right and bottom to 1024 x 1024
- low-res frame: the decoder's 256 x 256 grid over the input frame

`ResizeLongestSide` does what the original SAM does and is the default. `UltralyticsLetterbox` reproduces Ultralytics,
which resizes, pads and upscales a little differently.
"""

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

LOW_RES = 256
# A mask prompt is logits. A binary mask becomes these, about the size of a confident answer of the decoder.
BINARY_MASK_LOGIT = 10.0


class ResizeLongestSide:
    """The original SAM's maps, under the original's names.

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

    def apply_coords(self, coords: np.ndarray, original_size: tuple[int, ...]) -> np.ndarray:
        """Map points to the input frame. (..., 2) xy original pixels -> (..., 2) float64 xy input pixels."""
        return np.asarray(coords, dtype=np.float64) * self._scale_xy(original_size)

    def apply_boxes(self, boxes: np.ndarray, original_size: tuple[int, ...]) -> np.ndarray:
        """Map boxes to the input frame. (B, 4) xyxy original pixels -> (B, 4) float64 xyxy input pixels."""
        return self.apply_coords(np.asarray(boxes).reshape(-1, 2, 2), original_size).reshape(-1, 4)

    def apply_image_torch(self, image: Tensor) -> Tensor:
        """Resize with antialiasing. (B, C, H, W) float -> (B, C, h, w); within 2 grey levels of `apply_image`."""
        return F.interpolate(image, self.input_hw(image.shape[-2:]), mode="bilinear", antialias=True)

    def apply_coords_torch(self, coords: Tensor, original_size: tuple[int, ...]) -> Tensor:
        """`apply_coords` for tensors: (..., 2) -> (..., 2) float32."""
        return coords.float() * coords.new_tensor(self._scale_xy(original_size), dtype=torch.float32)

    def apply_boxes_torch(self, boxes: Tensor, original_size: tuple[int, ...]) -> Tensor:
        """`apply_boxes` for tensors: (B, 4) -> (B, 4) float32."""
        return self.apply_coords_torch(boxes.reshape(-1, 2, 2), original_size).reshape(-1, 4)

    def apply_mask(self, mask: np.ndarray) -> np.ndarray:
        """Turn a mask of the original image into a mask prompt. (H, W) bool -> (1, 256, 256) float32 logits."""
        height, width = self.input_hw(mask.shape)
        scale = LOW_RES / self.target_length
        low_res_hw = max(1, round(height * scale)), max(1, round(width * scale))
        small = cv2.resize(mask.astype(np.float32), low_res_hw[::-1], interpolation=cv2.INTER_AREA)
        logits = np.full((1, LOW_RES, LOW_RES), -BINARY_MASK_LOGIT, np.float32)
        logits[0, : low_res_hw[0], : low_res_hw[1]] = (2 * small - 1) * BINARY_MASK_LOGIT
        return logits

    def padded_pixels(self, image: Tensor) -> Tensor:
        """Pad a resized (..., 3, h, w) image where that is done before normalisation: not in the original."""
        return image

    def upscale_matrices(self, original_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the map from the low-res frame to the original frame as two matrices.

        Two bilinear steps (256 to 1024, padding cut off, to the image) are one linear map along each axis, so
        `rows @ low_res_logits @ columns.T` gives what two interpolations of the whole image give, for whichever rows
        and columns are wanted.

        Returns:
            rows (H, 256) and columns (W, 256), float32.
        """
        to_input = bilinear_resample(torch.eye(LOW_RES, dtype=torch.float64), self.target_length)
        return tuple(
            bilinear_resample(to_input[:inner], size).float()
            for size, inner in zip(original_hw, self.input_hw(original_hw), strict=True)
        )

    def _scale_xy(self, original_size: tuple[int, ...]) -> np.ndarray:
        height, width = self.input_hw(original_size)
        return np.array([width / original_size[1], height / original_size[0]])


class UltralyticsLetterbox(ResizeLongestSide):
    """Ultralytics' maps: plain bilinear resize, gray padding, one scale for both axes, one upscaling step.

    Source: behaviour observed in Ultralytics 8.4, measured in `tests/parity`.
    """

    PAD_VALUE = 114

    def input_hw(self, original_hw: tuple[int, ...]) -> tuple[int, int]:
        """Return (h, w) in the input frame, halves rounded to even."""
        scale = self._scale(original_hw)
        return max(1, round(original_hw[0] * scale)), max(1, round(original_hw[1] * scale))

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        """Resize without antialiasing. (H, W, 3) uint8 -> (h, w, 3) uint8."""
        height, width = self.input_hw(image.shape[:2])
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)

    def apply_image_torch(self, image: Tensor) -> Tensor:
        """Resize without antialiasing. (B, C, H, W) float -> (B, C, h, w)."""
        return F.interpolate(image, self.input_hw(image.shape[-2:]), mode="bilinear")

    def padded_pixels(self, image: Tensor) -> Tensor:
        """Pad a resized (..., 3, h, w) image with gray to (..., 3, 1024, 1024), before normalisation."""
        side = self.target_length
        return F.pad(image, (0, side - image.shape[-1], 0, side - image.shape[-2]), value=self.PAD_VALUE)

    def upscale_matrices(self, original_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return rows (H, 256) and columns (W, 256) of one bilinear step from the low-res frame to the image."""
        spans = [inner * LOW_RES / self.target_length for inner in self.input_hw(original_hw)]
        # Where a span ends inside a cell Ultralytics samples the uncropped grid, on both axes.
        exact = all(span == int(span) for span in spans)
        identity = torch.eye(LOW_RES, dtype=torch.float64)
        return tuple(
            bilinear_resample(identity, size, span=span, last=int(span) - 1 if exact else None).float()
            for size, span in zip(original_hw, spans, strict=True)
        )

    def _scale(self, original_size: tuple[int, ...]) -> float:
        return self.target_length / max(original_size[:2])

    def _scale_xy(self, original_size: tuple[int, ...]) -> np.ndarray:
        return np.full(2, self._scale(original_size))


TRANSFORMS = {"sam": ResizeLongestSide, "ultralytics": UltralyticsLetterbox}


def bilinear_resample(samples: Tensor, out_size: int, *, span: float | None = None, last: int | None = None) -> Tensor:
    """Resample along the first axis as `F.interpolate(mode="bilinear", align_corners=False)` does.

    Args:
        samples: (N, ...) values.
        out_size: number of samples out.
        span: how much of the input, from its start, is stretched over the output. Default: all of it.
        last: index of the last sample that may be read. Default: the last one.

    Returns:
        (out_size, ...) values.
    """
    span = len(samples) if span is None else span
    last = len(samples) - 1 if last is None else last
    # In float32, as torch does: the rounding of a position moves a steep logit by 1e-4, and the masks must be the same.
    position = (torch.arange(out_size, dtype=torch.float32) + 0.5) * (span / out_size) - 0.5
    position = position.clamp(0, last)
    lower = position.floor().long()
    upper = (lower + 1).clamp(max=last)
    return torch.lerp(samples[lower], samples[upper], (position - lower).to(samples.dtype)[:, None])
