"""How the picture moves from one image to the next: dense optical flow, and masks that are carried along by it."""

from dataclasses import replace

import cv2
import numpy as np

from mobilesam.geometry import ImageEmbedding
from mobilesam.geometry.frames import BINARY_MASK_LOGIT, LOW_RES

FLOW_SCALE = 2  # pixels of the flow's grey pictures a cell of the low-res frame


class Motion:
    """Where each cell of the low-res frame of an image was in the image before, of the same size.

    Args:
        before, now: embeddings with their `pixels`.

    Source: DIS optical flow (Kroeger et al., 2016), which is OpenCV's.
    """

    def __init__(self, before: ImageEmbedding, now: ImageEmbedding):
        # From this image to the one before, as a cell must know where it came from.
        dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        size = _cells(now)
        flow = cv2.resize(dis.calc(_grey(now), _grey(before), None), size, interpolation=cv2.INTER_AREA) / FLOW_SCALE
        x, y = np.meshgrid(*(np.arange(length, dtype=np.float32) for length in size))
        self._x, self._y = x + flow[..., 0], y + flow[..., 1]

    def carry(self, low_res_logits: np.ndarray) -> np.ndarray:
        """Move (256, 256) float32 low-res logits of the image before along."""
        height, width = self._x.shape
        moved = np.full((LOW_RES, LOW_RES), -BINARY_MASK_LOGIT, np.float32)
        inside = np.ascontiguousarray(low_res_logits[:height, :width])
        moved[:height, :width] = cv2.remap(
            inside, self._x, self._y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=-BINARY_MASK_LOGIT
        )
        return moved


def without_pixels(image: ImageEmbedding) -> ImageEmbedding:
    """Return an embedding with no more pixels than `Motion` looks at, to be kept for long."""
    return replace(image, pixels=_small(image))


def _cells(image: ImageEmbedding) -> tuple[int, int]:
    """Return how many cells of the low-res frame an image covers, (width, height)."""
    height, width = (max(1, round(side / 4)) for side in image.input_hw)
    return width, height


def _grey(image: ImageEmbedding) -> np.ndarray:
    return cv2.cvtColor(_small(image), cv2.COLOR_RGB2GRAY)


def _small(image: ImageEmbedding) -> np.ndarray:
    """Return what flow is computed of, about 512 pixels long; of what is small already, itself."""
    width, height = _cells(image)
    size = (max(16, FLOW_SCALE * width), max(16, FLOW_SCALE * height))  # DIS needs some pixels
    return cv2.resize(image.pixels, size, interpolation=cv2.INTER_AREA)
