"""The model that operators share: loaded once in a process, and released on demand."""

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fiftyone_mobilesam.zoo import MobileSAMModel


@lru_cache(maxsize=1)
def cached_model(device: str | None = None, precision: str = "fp32") -> "MobileSAMModel":
    """Return the model, which is loaded at the first call."""
    from fiftyone_mobilesam import load_model

    return load_model(device=device, precision=precision)


def release_models() -> None:
    """Forget the model."""
    cached_model.cache_clear()
