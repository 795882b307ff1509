"""What a job finds in its field and keeps: corrected, accepted, hidden, drawn by hand, or not its own."""

import fiftyone as fo
import numpy as np
import pytest
from job_calls import BOXES, counts, label, raw
from PIL import Image
from scenes import LEFT, RIGHT, ellipse_mask, full_mask, iou

from fiftyone_mobilesam.review import Review
from mobilesam import FieldError


def decision_of(detection):
    return detection.get_attribute_value("review", None)


def test_labels_that_no_job_wrote_are_not_replaced_unless_asked_for(model, pair):
    pair.limit(2).apply_model(model, label_field="masks", prompt_field="detections")
    before = raw(pair)
    with pytest.raises(FieldError, match=r"where 2 of 3 samples have labels that no job wrote.*overwrite=True"):
        label(pair)
    assert raw(pair) == before
    assert not pair.list_runs()
    assert counts(label(pair, overwrite=True)) == (3, 0, 0)
    assert counts(label(pair)) == (0, 3, 0)


@pytest.mark.parametrize("where", ["database", "disk", "in place"])
def test_what_was_corrected_by_hand_stays_while_its_prompt_does(pair, tmp_path, where):
    field = "detections" if where == "in place" else "masks"
    options = {"disk": {"output_dir": tmp_path / "out"}, "in place": {"in_place": True}}.get(where, {})
    label(pair, label_field=field, **options)
    sample = pair.first()
    corrected, other = sample[field].detections
    if where == "disk":
        Image.new("L", (8, 8), 255).save(corrected.mask_path)
    else:
        corrected.mask = np.ones((8, 8), dtype=bool)
    sample.detections.detections[1].bounding_box = list(BOXES[0])
    sample.save()
    assert counts(label(pair, label_field=field, **options)) == (1, 2, 0)
    kept, redone = pair.first()[field].detections
    assert (kept.id, redone.id) == (corrected.id, other.id)
    mask = np.asarray(Image.open(kept.mask_path)) if where == "disk" else kept.mask
    assert mask.shape == (8, 8)
    assert mask.all()
    assert iou(full_mask(redone), ellipse_mask(*LEFT)) > 0.97
    assert counts(label(pair, label_field=field, **options)) == (0, 3, 0)


def test_a_job_on_a_view_leaves_the_labels_of_hidden_prompts(pair):
    label(pair)
    sample = pair.first()
    sample.masks.detections[0].mask = np.ones((8, 8), dtype=bool)  # of "a", corrected by hand
    sample.masks.detections.append(fo.Detection(label="drawn", bounding_box=[0, 0, 0.1, 0.1]))
    sample.save()
    before = raw(pair)
    shown = pair.filter_labels("detections", fo.ViewField("label") == "b", only_matches=False)
    assert counts(label(shown, job="view")) == (0, 3, 0)
    assert raw(pair) == before
    assert counts(label(shown, job="view", clip=False)) == (3, 0, 0)
    found = {detection.label: detection.mask for detection in pair.first().masks.detections}
    assert found.keys() == {"a", "b", "drawn"}
    assert found["a"].shape == (8, 8)
    assert found["b"].shape != (8, 8)
    before = raw(pair)
    assert counts(label(pair, clip=False)) == (2, 1, 0)  # "a" was made with other settings
    assert [d.label for d in pair.first().masks.detections] == ["a", "b", "drawn"]
    assert pair.first().masks.detections[0].mask.shape != (8, 8)

    pair.set_values("masks", [fo.Detections.from_dict(value) for value in before])
    sample = pair.first()
    sample.detections.detections.pop(0)  # now there is what the view has shown, and "a" is to go
    sample.save()
    label(pair, clip=False)
    assert [d.label for d in pair.first().masks.detections] == ["b", "drawn"]


def test_another_prompt_field_does_not_take_over(pair):
    label(pair)
    pair.clone_sample_field("detections", "others")
    with pytest.raises(FieldError, match="which job 'label' fills from detections"):
        label(pair, "others", job="other")
    # The same boxes with the same ids: the same masks. Other boxes are done.
    assert counts(label(pair, "others", job="other", overwrite=True)) == (0, 3, 0)
    sample = pair.first()
    sample.others.detections[0].bounding_box = list(BOXES[1])
    sample.save()
    assert counts(label(pair, "others", job="other", overwrite=True)) == (1, 2, 0)


def test_an_accepted_mask_stays_with_other_options_and_a_rejected_one_does_not(pair):
    label(pair)
    review = Review(pair, "masks")
    for mask, decision in zip(review.worst_first(), ("accepted", "rejected"), strict=False):
        review.decide(review.load(mask), decision)
    before = {d.id: d for sample in pair for d in sample.masks.detections}
    [accepted] = [d.id for d in before.values() if decision_of(d) == "accepted"]
    assert counts(label(pair, clip=False, confidence="predicted_iou")) == (3, 0, 0)
    after = {d.id: d for sample in pair for d in sample.masks.detections}
    assert after.keys() == before.keys()
    assert after[accepted] == before[accepted]
    others = [d for d in after.values() if d.id != accepted]
    assert all(d.confidence == d["predicted_iou"] and decision_of(d) is None for d in others)
    sample = pair.select_labels(ids=[accepted], fields="masks").first()
    prompt_id = after[accepted]["prompt_id"]
    [prompt] = [d for d in pair[sample.id].detections.detections if d.id == prompt_id]
    pair.set_label_values("detections.detections.bounding_box", {prompt.id: list(BOXES[1])})
    label(pair, clip=False, confidence="predicted_iou")
    [redone] = [d for d in pair[sample.id].masks.detections if d.id == accepted]
    assert decision_of(redone) is None


def test_in_place_fills_what_a_view_shows(pair):
    shown = pair.filter_labels("detections", fo.ViewField("label") == "b")
    assert counts(label(shown, label_field="detections", in_place=True)) == (1, 0, 0)
    pair.reload()
    a, b = pair.first().detections.detections
    assert a.mask is None
    assert iou(full_mask(b), ellipse_mask(*RIGHT)) > 0.97
    assert counts(label(shown, label_field="detections", in_place=True)) == (0, 1, 0)
    for expected in ((2, 1, 0), (0, 3, 0)):
        assert counts(label(pair, label_field="detections", in_place=True)) == expected
    assert all(detection["mask"] for detection in raw(pair, "detections")[0]["detections"])


def test_an_accepted_or_tagged_mask_in_place_is_not_redone(pair):
    pair = pair.limit(2)
    how = {"label_field": "detections", "in_place": True}
    label(pair, **how)
    review = Review(pair, "detections")
    accepted, tagged, *_ = (review.load(mask) for mask in review.worst_first())
    review.decide(accepted, "accepted")
    sample = pair[tagged.ref.sample_id]
    next(d for d in sample.detections.detections if d.id == tagged.ref.label_id).tags.append("look")
    sample.save()
    before = raw(pair, "detections")
    assert counts(label(pair, **how)) == (0, 2, 0)
    assert raw(pair, "detections") == before
    kept = accepted.label.mask
    assert counts(label(pair, **how, min_region_area=10_000_000)) == (2, 0, 0)  # other options
    found = {d.id: d for sample in pair for d in sample.detections.detections}
    assert (found[accepted.ref.label_id].mask == kept).all()
    assert decision_of(found[accepted.ref.label_id]) == "accepted"
    assert counts(label(pair, **how, min_region_area=10_000_000)) == (0, 2, 0)
