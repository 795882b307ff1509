"""How much masks changed, against values computed by hand."""

import fiftyone as fo
import numpy as np
import pytest
from scenes import detections

import fiftyone_mobilesam as fom
from mobilesam import FieldError


def mask(x0, width, **attributes):
    """A full mask, 0.1 high, on columns of an image of 100 x 100."""
    box = [x0 / 100, 0.1, width / 100, 0.1]
    return fo.Detection(label="a", bounding_box=box, mask=np.ones((10, width), dtype=bool), **attributes)


def test_changes_are_those_computed_by_hand_and_lead_the_view(make_dataset):
    prompts = detections([0.1, 0.1, 0.2, 0.2], [0.5, 0.5, 0.1, 0.1], [0, 0, 1, 1])
    first, second, third = (one.id for one in prompts.detections)
    old = [mask(10, 20, prompt_id=first), mask(50, 10, prompt_id=second), mask(0, 10, prompt_id=third)]
    new = [mask(50, 10, prompt_id=second), mask(20, 20, prompt_id=first), fo.Detection(label="a", prompt_id=third)]
    new[2].bounding_box = [0, 0, 1, 1]
    dataset = make_dataset(
        {"boxes": prompts, "masks": fo.Detections(detections=old), "new": fo.Detections(detections=new)}
    )
    changes = fom.compare(dataset, "masks", "new")
    assert list(changes.changed.values()) == pytest.approx([0, 1 - 10 / 30], abs=0.02)
    assert (changes.gone, len(changes.failed)) == (0, 1)
    assert "Of 2 masks in 'new' and 'masks', 1 differ" in str(changes)
    assert changes.view().first().new.id == new[1].id
    assert dataset.values("new.detections.changed")[0][2] is None
    with pytest.raises(FieldError, match="new_field"):
        fom.compare(dataset, "masks", "boxes of nothing")
    with pytest.raises(FieldError, match="another field"):
        fom.compare(dataset, "masks", "masks")
