"""The image of a predictor: encoded by it, handed over whole, or put back attribute by attribute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mobilesam.errors import ImageError, NoImageSetError
from mobilesam.geometry import ImageEmbedding
from mobilesam.geometry.frames import ResizeLongestSide

if TYPE_CHECKING:  # arrays do as well, and then without torch
    from torch import Tensor

    Values = Tensor | np.ndarray

FEATURES_SHAPE = (1, 256, 64, 64)


class KeptImage:
    """Keeps the image to predict in.

    As in the original, `features`, `original_size`, `input_size` and `is_image_set` can be assigned one by one, in any
    order, to put back an embedding that was stored elsewhere. Whether they make an image is checked at its next use.
    Pixels do not come back with them, so `quality="best"` then has no second look at small objects.
    """

    transform: ResizeLongestSide
    _to_features: Callable[[Any], Values]  # to where and what the model computes with

    _image: ImageEmbedding | None = None
    _assigned: dict[str, Any] | None = None  # attribute -> value, what was assigned since `_image`

    def set_image_embedding(self, embedding: ImageEmbedding) -> None:
        """Use an image that was encoded earlier, by `encode_images` or another predictor with the same weights."""
        self._image, self._assigned = embedding, None

    def reset_image(self) -> None:
        """Forget the image."""
        self._image, self._assigned = None, None

    def reset_predictor(self) -> None:
        """`reset_image` by the name that later models of the family have for it."""
        self.reset_image()

    def get_image_embedding(self) -> Values:
        """Return the features of the image, (1, 256, 64, 64)."""
        return self._require_image().features

    @property
    def is_image_set(self) -> bool:
        """Whether there is an image to predict in."""
        return self._get("is_image_set", self._image is not None)

    @is_image_set.setter
    def is_image_set(self, value: bool) -> None:
        self._assign("is_image_set", bool(value))

    @property
    def features(self) -> Values | None:
        """The features of the image, (1, 256, 64, 64), or None. (256, 64, 64) can be assigned as well."""
        return self._get("features", self._image and self._image.features)

    @features.setter
    def features(self, value: Values | None) -> None:
        if value is not None and tuple(np.shape(value)) not in (FEATURES_SHAPE, FEATURES_SHAPE[1:]):
            raise ImageError(
                f"features must have shape {FEATURES_SHAPE}, got {tuple(np.shape(value))}. "
                "Assign those of one image, from get_image_embedding()."
            )
        features = value if value is None else self._to_features(value)
        self._assign("features", features[None] if features is not None and features.ndim == 3 else features)

    @property
    def original_size(self) -> tuple[int, int] | None:
        """(H, W) of the image, or None."""
        return self._get("original_size", self._image and self._image.original_hw)

    @original_size.setter
    def original_size(self, value: Sequence[int] | None) -> None:
        self._assign("original_size", _size("original_size", value))

    @property
    def input_size(self) -> tuple[int, int] | None:
        """(h, w) of the image in the input frame without padding, or None."""
        return self._get("input_size", self._image and self._image.input_hw)

    @input_size.setter
    def input_size(self, value: Sequence[int] | None) -> None:
        self._assign("input_size", _size("input_size", value))

    def _get(self, name: str, otherwise: Any) -> Any:
        return (self._assigned or {}).get(name, otherwise)

    def _assign(self, name: str, value: Any) -> None:
        self._assigned = {**(self._assigned or {}), name: value}

    def _require_image(self) -> ImageEmbedding:
        if self._assigned is not None:
            self._image, self._assigned = self._put_together(), None
        if self._image is None:
            raise NoImageSetError("An image must be set before masks are predicted, got none. Call set_image() first.")
        return self._image

    def _put_together(self) -> ImageEmbedding | None:
        """Make one image of what was assigned and what was there before; None of nothing."""
        parts = {name: getattr(self, name) for name in ("features", "original_size", "input_size")}
        missing = [name for name, value in parts.items() if value is None]
        if len(missing) == len(parts) and not self.is_image_set:
            return None
        missing += [] if self.is_image_set else ["is_image_set = True"]
        if missing:
            raise NoImageSetError(
                "An image must be set before masks are predicted, got one that is put back in part, without "
                f"{', '.join(missing)}. Assign that as well, or call set_image()."
            )
        features, original_hw, input_hw = parts.values()
        if input_hw != (expected := self.transform.input_hw(original_hw)):
            raise ImageError(
                f"input_size must be {expected} for original_size {original_hw}, got {input_hw}. "
                "Assign the features and both sizes of one image."
            )
        same = self._image is not None and features is self._image.features and original_hw == self._image.original_hw
        return ImageEmbedding(features, original_hw, input_hw, self._image.pixels if same else None)


def _size(name: str, value: Sequence[int] | None) -> tuple[int, int] | None:
    if value is None:
        return None
    size = tuple(int(side) for side in value) if np.ndim(value) == 1 else ()
    if len(size) != 2 or min(size) < 1:
        raise ImageError(f"{name} must be two numbers (H, W), got {value!r}. Assign what the predictor had.")
    return size
