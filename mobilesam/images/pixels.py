"""Pixels in memory, of any kind, to RGB. Files are read in `files.py`."""

from typing import Any

import numpy as np
from PIL import Image, ImageOps

from mobilesam.errors import ImageError

BIT_DEPTHS = (8, 10, 12, 14, 16)


def to_rgb(image: Any, *, array_format: str = "RGB") -> np.ndarray:
    """Convert an image in memory.

    Args:
        image: a PIL image (its EXIF orientation is applied), an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of
            uint8, bool, uint16 or floats in [0, 255], or a torch tensor (3, H, W), uint8 or floats in [0, 1].
        array_format: "RGB" or "BGR", the order of an array's channels. Tensors and PIL images are RGB.

    Returns:
        (H, W, 3) uint8 RGB, contiguous.

    Raises:
        ImageError: another shape or type, an empty image, or floats whose range is not clear.
    """
    if array_format not in ("RGB", "BGR"):
        raise ImageError(f'array_format must be "RGB" or "BGR", got {array_format!r}.')
    if isinstance(image, Image.Image):
        return _pil_to_rgb(ImageOps.exif_transpose(image))
    if hasattr(image, "detach"):
        return array_to_rgb(_tensor_to_array(image))
    array = np.asarray(image)
    channels = array.shape[2] if array.ndim == 3 else None
    if array.ndim not in (2, 3) or channels not in (None, 1, 3, 4) or 0 in array.shape:
        raise ImageError(
            f"image must have shape (H, W, 3), (H, W, 4), (H, W, 1) or (H, W), got {array.shape}. "
            "Channels come last; pass several images as a list."
        )
    if channels in (3, 4) and array_format == "BGR":
        array = array[..., 2::-1]
    return array_to_rgb(array)


def _pil_to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):
        return array_to_rgb(np.asarray(image))
    if image.mode == "F":
        return array_to_rgb(spread_unit_floats(np.asarray(image)))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns if it must drop a palette's transparency in one step
    return np.array(image.convert("RGB"))


def spread_unit_floats(array: np.ndarray) -> np.ndarray:
    """Bring the pixels of a float file from [0, 1] to [0, 255]; others stay as they are."""
    return array * 255 if array.dtype.kind == "f" and array.max() <= 1 else array


def _tensor_to_array(tensor: Any) -> np.ndarray:
    array = tensor.detach().cpu().numpy()
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim != 3 or array.shape[0] != 3 or 0 in array.shape:
        raise ImageError(f"A tensor image must have shape (3, H, W), got {array.shape}. Permute its dimensions.")
    if array.dtype.kind == "f":
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise ImageError(
                "A float tensor image must be in [0, 1], got other values. Divide it by 255, do not normalise."
            )
        array = array * 255
    return array.transpose(1, 2, 0)


def array_to_rgb(array: np.ndarray) -> np.ndarray:
    """Bring an array of any depth to 8 bits and three channels."""
    if array.ndim == 2:
        array = array[..., None]
    array = array[..., :1] if array.shape[-1] in (1, 2) else array[..., :3]
    array = _to_uint8(array)
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


def _to_uint8(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.dtype.kind in "iu":
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= 2**16:
            raise ImageError(f"An integer image must be in [0, 65535], got {low} to {high}. Scale it to 8 bits.")
        bits = next(bits for bits in BIT_DEPTHS if high < 2**bits)
        return (array.astype(np.uint16) >> (bits - 8)).astype(np.uint8)
    if array.dtype.kind != "f":
        raise ImageError(f"image must be of integers or floats, got {array.dtype}. Pass uint8.")
    if not np.isfinite(array).all() or array.min() < 0 or array.max() > 255:
        raise ImageError("A float image must be in [0, 255], got other or NaN values. Pass uint8.")
    if array.max() <= 1:
        raise ImageError("A float image must be in [0, 255], got [0, 1]. Multiply it by 255, or pass uint8.")
    return array.round().astype(np.uint8)
