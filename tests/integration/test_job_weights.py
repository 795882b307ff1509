"""A job that is called again with other weights: it makes its masks again, but not those that were accepted."""

import pytest
from job_calls import counts, label
from trained import write_trained

from fiftyone_mobilesam.review import Review


def by_id(samples):
    return {d.id: d for sample in samples for d in sample.masks.detections}


@pytest.mark.parametrize("door", ["another file", "the same file with other contents"])
def test_new_weights_make_all_masks_again_that_were_not_accepted(pair, sam, tmp_path, door):
    ours = tmp_path / "ours.safetensors"
    before = "mobile_sam.pt" if door == "another file" else write_trained(sam, ours, by=1.01)
    label(pair, weights=before)
    review = Review(pair, "masks")
    for mask, decision in zip(review.worst_first(), ("accepted", "rejected"), strict=False):
        review.decide(review.load(mask), decision)
    old = by_id(pair)
    [accepted] = [d.id for d in old.values() if d.get_attribute_value("review", None) == "accepted"]

    write_trained(sam, ours)
    assert counts(label(pair, weights=ours)) == (3, 0, 0)
    new = by_id(pair)
    assert new.keys() == old.keys()
    assert new[accepted] == old[accepted]
    others = old.keys() - {accepted}
    assert len(others) == 2
    assert all(new[one]["predicted_iou"] != old[one]["predicted_iou"] for one in others)
    assert all(new[one].get_attribute_value("review", None) is None for one in others)
    assert counts(label(pair, weights=ours)) == (0, 3, 0)
