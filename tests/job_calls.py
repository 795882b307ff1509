"""A job called as most tests of jobs do, and what it wrote."""

from scenes import LEFT, RIGHT, ellipse_box

import fiftyone_mobilesam as fom

BOXES = ellipse_box(*LEFT), ellipse_box(*RIGHT)


def label(samples, prompt_field="detections", label_field="masks", **keywords):
    return fom.label(samples, prompt_field, label_field, **keywords)


def raw(samples, field="masks"):
    """Return a field of all samples as the database holds it."""
    return [doc.get(field) for doc in samples._root_dataset._sample_collection.find()]


def counts(report):
    return report.done, report.up_to_date, report.failed
