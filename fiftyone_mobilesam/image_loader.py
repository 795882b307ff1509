"""What FiftyOne's workers, or those of a loop of your own, read of a sample: its image, and prompts if named."""

from dataclasses import dataclass, field

import fiftyone as fo
from fiftyone.utils.torch import GetItem

from fiftyone_mobilesam.engine.item import Item, LoadedImage
from fiftyone_mobilesam.engine.reader import Reader
from fiftyone_mobilesam.options import PROMPT_FIELDS


@dataclass(frozen=True, eq=False)
class PromptedImage(LoadedImage):
    """An image that brings its prompts along: what its sample's prompt fields hold, by name of the option."""

    filepath: str = ""
    labels: dict[str, fo.Label | None] = field(default_factory=dict)


class ImageLoader(GetItem):
    """What FiftyOne's workers call for each sample. It holds no network, so a worker starts quickly.

    Args:
        field_mapping: the fields of a dataset by what they are: "filepath", and the prompt fields by the names of the
            options, `{"prompt_field": "detections"}`. Images then bring their prompts along.

    Raises:
        ValueError: an unknown key.
    """

    def __init__(self, field_mapping: dict[str, str] | None = None):
        self._prompts: tuple[str, ...] = ()
        super().__init__(field_mapping=field_mapping)

    @property
    def required_keys(self) -> list[str]:
        """What a worker needs of a sample."""
        return ["filepath", *self._prompts]

    @property
    def field_mapping(self) -> dict[str, str]:
        """The sample fields that a worker needs, by key."""
        return self._field_mapping

    @field_mapping.setter
    def field_mapping(self, value: dict[str, str] | None) -> None:
        known = ("filepath", *PROMPT_FIELDS)
        if unknown := sorted(set(value or {}) - set(known)):
            raise ValueError(
                f"field_mapping must have keys among {', '.join(known)}, got {', '.join(unknown)}. Check the spelling."
            )
        self._prompts = tuple(name for name in PROMPT_FIELDS if name in (value or {}) or name in self._prompts)
        self._field_mapping = self._field_mapping | (value or {})

    def __call__(self, d: dict) -> LoadedImage:
        """Read the image of one sample. Never raises: an error would cost the other images of the batch."""
        image = Reader().read(Item(key="", image=d["filepath"]))
        if not self._prompts:
            return image
        return PromptedImage(image.pixels, image.failure, d["filepath"], {name: d[name] for name in self._prompts})
