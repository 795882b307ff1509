"""`fom.compare`: which masks of a field changed against those of another, and by how much."""

from dataclasses import dataclass, field

import fiftyone as fo
import numpy as np
from fiftyone.core.collections import SampleCollection
from fiftyone.core.view import DatasetView

from fiftyone_mobilesam.export.masks import check_masks, exported_images
from fiftyone_mobilesam.fields import labels_path
from fiftyone_mobilesam.quality.evaluate import declare, pairs_of
from mobilesam import FieldError
from mobilesam.quality.metrics import mask_iou

CHANGED = "changed"  # on the labels: 1 - IoU with the mask before
A_LOT = 0.1


@dataclass
class Changes:
    """What a comparison found.

    Attributes:
        label_field, new_field: that were compared.
        changed: by id of the new label, 1 - IoU with the old mask of the same prompt; 1 where there was none.
        gone: number of old masks whose prompt has none now.
        failed: labels whose mask could not be read, and why.
    """

    samples: SampleCollection
    label_field: str
    new_field: str
    changed: dict[str, float] = field(default_factory=dict)
    gone: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)

    def view(self) -> DatasetView:
        """Return the new masks one by one, those that changed most first: `session.view = changes.view()`."""
        return self.samples.to_patches(self.new_field).sort_by(f"{self.new_field}.{CHANGED}", reverse=True)

    def __str__(self) -> str:
        values = np.array(list(self.changed.values()))
        gone = f" {self.gone} old masks have no new one." if self.gone else ""
        if not len(values):
            return f"No mask in {self.new_field!r} could be compared.{gone}"
        much, same = (values > A_LOT).sum(), (values == 0).sum()
        return (
            f"Of {len(values)} masks in {self.new_field!r} and {self.label_field!r}, {much} differ by more than "
            f"{A_LOT:.0%} of their area, {same} not at all; {values.mean():.1%} on average.{gone} "
            f"Look at them with session.view = changes.view(), or sort by {CHANGED!r} in the App."
        )


def compare(samples: SampleCollection, label_field: str, new_field: str) -> Changes:
    """Compare new masks with those of another field, and write on each how much it changed.

    A mask before and after belong together if they are of one prompt. Each label of `new_field` gets `changed`, 1 - IoU
    with the old mask: 0 for the same pixels, 1 for none in common or where there was no mask.

    Args:
        samples: a dataset or view of images.
        label_field: field of Detections with the masks before.
        new_field: field of Detections with the masks after, such as those of new weights.

    Returns:
        What changed: `print(it)`, `session.view = it.view()`.

    Raises:
        FieldError: a field without masks, or not of images.
    """
    if label_field == new_field:
        raise FieldError(f"new_field must be another field than label_field, got {new_field!r} for both.")
    for argument, name in (("label_field", label_field), ("new_field", new_field)):
        check_masks(samples, name, argument)
    found = Changes(samples, label_field, new_field)
    for before, after in zip(*(exported_images(samples, name) for name in (label_field, new_field)), strict=True):
        old = {mask.label.id: mask for mask in before.masks if mask.mask is not None}
        pairs, _ = pairs_of([mask.label for mask in after.masks], list(old.values()))
        for mask in after.masks:
            if mask.mask is None:
                found.failed.append((f"{after.filepath}, label {mask.label.id}", mask.failure))
                continue
            partner, hw = old.get(pairs.get(mask.label.id)), after.original_hw
            iou = 0.0 if partner is None else mask_iou(mask.full(hw), partner.full(hw))
            found.changed[mask.label.id] = 1 - iou
        found.gone += len(old.keys() - set(pairs.values()))
    path = f"{labels_path(samples, new_field)}.{CHANGED}"
    declare(samples, path, fo.FloatField)
    samples.set_label_values(path, found.changed)
    return found
