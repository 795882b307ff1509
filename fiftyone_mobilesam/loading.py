"""Reading images in FiftyOne's DataLoader workers. Never raises: a file that cannot be read costs only itself.

Nothing here holds the network, so a worker starts quickly whether it is forked or spawned.
"""

from dataclasses import dataclass

import numpy as np
from fiftyone.utils.torch import GetItem

from mobilesam.errors import MobileSamError
from mobilesam.images import read_image


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """The pixels (H, W, 3) uint8 RGB of a file, or the reason why there are none."""

    pixels: np.ndarray | None
    failure: str | None = None


def load(filepath: str) -> LoadedImage:
    """Read an image file: EXIF orientation applied, any mode and bit depth."""
    try:
        return LoadedImage(read_image(filepath))
    except MobileSamError as error:
        return LoadedImage(None, str(error))
    except Exception as error:  # an unforeseen one must not cost the other images of the batch either
        return LoadedImage(None, f"{type(error).__name__}: {error}")


class ImageLoader(GetItem):
    """What FiftyOne's workers call for each sample."""

    @property
    def required_keys(self) -> list[str]:
        """The sample fields a worker needs."""
        return ["filepath"]

    def __call__(self, d: dict) -> LoadedImage:
        """Read the image of one sample."""
        return load(d["filepath"])


def as_list(batch: list[LoadedImage]) -> list[LoadedImage]:
    """Collate a batch: images of different sizes stay a list."""
    return batch
