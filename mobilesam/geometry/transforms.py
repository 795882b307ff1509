"""Ultralytics' maps between the frames of `frames.py`, and both kinds by name.

`ResizeLongestSide` does what the original SAM does and is the default. `UltralyticsLetterbox` reproduces Ultralytics,
which resizes, pads and upscales a little differently.
"""

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mobilesam.geometry.frames import LOW_RES, ResizeLongestSide, bilinear_resample


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

    def apply_image_on(self, image: np.ndarray, device: torch.device) -> Tensor:
        """Do what `apply_image` does on the CPU and give it to a device."""
        return torch.from_numpy(self.apply_image(image)).to(device)

    def apply_image_torch(self, image: Tensor) -> Tensor:
        """Resize without antialiasing. (B, C, H, W) float -> (B, C, h, w)."""
        return F.interpolate(image, self.input_hw(image.shape[-2:]), mode="bilinear")

    def padded_pixels(self, image: Tensor) -> Tensor:
        """Pad a resized (..., 3, h, w) image with gray to (..., 3, 1024, 1024), before normalisation."""
        side = self.target_length
        return F.pad(image, (0, side - image.shape[-1], 0, side - image.shape[-2]), value=self.PAD_VALUE)

    def upscale_arrays(self, original_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return rows (H, 256) and columns (W, 256) of one bilinear step from the low-res frame to the image."""
        spans = [inner * LOW_RES / self.target_length for inner in self.input_hw(original_hw)]
        # Where a span ends inside a cell Ultralytics samples the uncropped grid, on both axes.
        exact = all(span == int(span) for span in spans)
        identity = np.eye(LOW_RES)
        return tuple(
            bilinear_resample(identity, size, span=span, last=int(span) - 1 if exact else None).astype(np.float32)
            for size, span in zip(original_hw, spans, strict=True)
        )

    def _scale(self, original_size: tuple[int, ...]) -> float:
        return self.target_length / max(original_size[:2])

    def _scale_xy(self, original_size: tuple[int, ...]) -> np.ndarray:
        return np.full(2, self._scale(original_size))


TRANSFORMS = {"sam": ResizeLongestSide, "ultralytics": UltralyticsLetterbox}
