"""`fom.calibrate`: `mask_quality` of a field, fitted again on the masks of it that a person checked."""

import fiftyone as fo
import numpy as np
from fiftyone.core.collections import SampleCollection

from fiftyone_mobilesam.fields import labels_path
from fiftyone_mobilesam.keep import AS_MADE
from fiftyone_mobilesam.quality.accept import checked_ious, quality_table
from fiftyone_mobilesam.quality.evaluate import declare, evaluate
from mobilesam.quality.recalibration import Recalibration, recalibrate


def calibrate(samples: SampleCollection, label_field: str, ground_truth_field: str) -> Recalibration:
    """Correct the `mask_quality` of all masks of a field by those that a person checked.

    The bundled estimate was fitted on photographs. On other images it orders masks well and can be off by a constant,
    which differs by class. If the correction is better on images that it was not fitted on, it is written, and the
    estimate as it was made is kept in `mask_quality_as_made`, from which the next call starts.

    Args:
        samples: a dataset or view of images.
        label_field: field of Detections with masks and their `mask_quality`.
        ground_truth_field: field of Detections with a person's masks of 50 or more of them.

    Returns:
        What it was fitted on and what it is worth: `print(it)`, `it.plot("reliability.png")`.

    Raises:
        FieldError: a field without masks, or without `mask_quality`.
        NotEnoughTruthError: fewer than 50 masks were checked.
    """
    found = checked_ious(evaluate(samples, label_field, ground_truth_field))
    table = quality_table(samples, label_field)
    now, made = (np.array(table[name], dtype=float) for name in ("mask_quality", AS_MADE))
    made = np.where(np.isnan(made), now, made)
    signals = np.array([table["predicted_iou"], table["stability_score"]], dtype=float).T
    classes, images = (np.array([str(value) for value in table[name]]) for name in ("label", "sample_id"))
    true = np.array([found.get(label_id, np.nan) for label_id in table["id"]])
    checked = ~np.isnan(true)
    result = recalibrate(*(column[checked] for column in (made, signals, true, classes, images)))
    if result.kept:
        path = labels_path(samples, label_field)
        declare(samples, f"{path}.{AS_MADE}", fo.FloatField)
        told = result.apply(made, signals, classes)
        for name, values in (("mask_quality", told), (AS_MADE, made)):
            samples.set_label_values(f"{path}.{name}", dict(zip(table["id"], values.tolist(), strict=True)))
    return result
