"""Review: the order, the decisions, what two reviewers at once do, and new masks; on the real database."""

import cv2
import fiftyone as fo
import numpy as np
import pytest
from fiftyone import ViewField as F
from scenes import LEFT, RIGHT, detections, draw_scene, ellipse_box, ellipse_mask, full_mask, iou

import fiftyone_mobilesam as fom
from fiftyone_mobilesam import models
from fiftyone_mobilesam.app.recorded_run import segment
from fiftyone_mobilesam.review import Review, reviewable_fields
from fiftyone_mobilesam.review.retry import RETRIES, read_pixels, retry
from fiftyone_mobilesam.zoo import MobileSAMModel
from mobilesam import ConflictError, FieldError, ImageError, PromptError

BOXES = ellipse_box(*LEFT), ellipse_box(*RIGHT)


def mask(name, **attributes):
    return fo.Detection(label=name, bounding_box=[0.1, 0.1, 0.5, 0.5], mask=np.ones((4, 4), bool), **attributes)


@pytest.fixture
def scored(make_dataset):
    """Masks whose scores are known, in two samples."""
    first = [mask("good", predicted_iou=0.9, stability_score=0.9), mask("odd", predicted_iou=1.3, stability_score=0.5)]
    second = [
        mask("none"),
        mask("bad", predicted_iou=0.4, stability_score=0.9),
        mask("failed", failure="why", predicted_iou=0.99, tags=["mine"]),
    ]
    dataset = make_dataset(*({"masks": fo.Detections(detections=labels)} for labels in (first, second)), {})
    dataset.add_dynamic_sample_fields()
    return dataset


def names(review, show="all"):
    return [review.load(ref).label.label for ref in review.worst_first(show)]


def by_name(review, name):
    return next(review.load(ref) for ref in review.worst_first("all") if review.load(ref).label.label == name)


def stored(dataset, name):
    return next(label for labels in dataset.values("masks.detections") for label in labels or [] if label.label == name)


def test_failures_come_first_then_the_product_of_the_scores(scored):
    assert names(Review(scored, "masks")) == ["failed", "bad", "odd", "good", "none"]
    assert names(Review(scored.match_labels(filter=F("label") == "good").limit(1), "masks")) == ["odd", "good"]
    only_good = scored.filter_labels("masks", F("label") == "good")
    assert names(Review(only_good, "masks")) == ["good"]


def test_one_score_is_enough_for_an_order(make_dataset):
    labels = [mask("better", predicted_iou=0.8), mask("worse", predicted_iou=0.2)]
    dataset = make_dataset({"masks": fo.Detections(detections=labels)})
    dataset.add_dynamic_sample_fields()
    assert names(Review(dataset, "masks")) == ["worse", "better"]


def test_decisions_are_an_attribute_and_a_tag_and_can_be_filtered(scored):
    review = Review(scored, "masks")
    review.decide(by_name(review, "failed"), "rejected")
    review.decide(by_name(review, "good"), "accepted")
    review.decide(by_name(review, "good"), "rejected")
    review.decide(by_name(review, "bad"), "accepted")
    assert stored(scored, "failed").tags == ["mine", "rejected"]
    assert (stored(scored, "good").tags, stored(scored, "good")["review"]) == (["rejected"], "rejected")
    counts = review.counts()
    assert (counts.total, counts.accepted, counts.rejected, counts.undecided, counts.failures) == (5, 1, 2, 2, 1)
    assert names(review, "undecided") == ["odd", "none"]
    assert names(review, "rejected") == ["failed", "good"]
    assert names(review, "failures") == ["failed"]
    assert scored.filter_labels("masks", F("review") == "accepted").values("masks.detections.label") == [["bad"]]
    assert scored.count_label_tags() == {"mine": 1, "rejected": 2, "accepted": 1}


def test_undo_brings_back_what_was_there(scored):
    review, before = Review(scored, "masks"), scored.values("masks.detections.label")
    change = review.decide(by_name(review, "failed"), "rejected")
    review.undo(change)
    assert (stored(scored, "failed").tags, stored(scored, "failed")["review"]) == (["mine"], None)
    change = review.delete(by_name(review, "bad"))
    assert scored.values("masks.detections.label")[1] == ["none", "failed"]
    review.undo(change)
    assert scored.values("masks.detections.label") == before
    assert stored(scored, "bad").mask.shape == (4, 4)
    with pytest.raises(ConflictError):
        review.undo(change)


def test_of_two_reviewers_the_second_is_told(scored):
    mine, theirs = Review(scored, "masks"), Review(scored, "masks")
    seen = by_name(mine, "good")
    theirs.decide(by_name(theirs, "good"), "rejected")
    for step in (lambda: mine.decide(seen, "accepted"), lambda: mine.delete(seen)):
        with pytest.raises(ConflictError, match="Nothing was written"):
            step()
    assert stored(scored, "good")["review"] == "rejected"


def test_a_decision_does_not_overwrite_other_labels_of_the_sample(scored):
    review = Review(scored, "masks")
    seen = by_name(review, "good")
    scored.set_label_values("masks.detections.label", {by_name(review, "odd").ref.label_id: "renamed"})
    review.decide(seen, "accepted")
    assert scored.first().masks.detections[1].label == "renamed"


def test_a_field_or_dataset_that_goes_is_named_and_stays_gone(scored):
    review = Review(scored, "masks")
    seen = by_name(review, "good")
    deleted = review.delete(by_name(review, "bad"))
    scored._sample_collection.update_many({}, {"$unset": {"masks": ""}})  # as another process removes a field
    with pytest.raises(ConflictError):
        review.decide(seen, "accepted")
    with pytest.raises(ConflictError):
        review.undo(deleted)
    with pytest.raises(ConflictError):
        review.load(seen.ref)
    assert scored._sample_collection.count_documents({"masks": {"$ne": None}}) == 0
    scored.delete_sample_field("masks")
    with pytest.raises(FieldError, match="none, run MobileSAM first"):
        Review(scored, "masks")
    view = scored.view()
    fo.delete_dataset(scored.name)
    with pytest.raises(FieldError, match="deleted"):
        Review(view, "masks")


def test_labels_on_frames(make_dataset):
    dataset = make_dataset({"filepath": "nowhere.mp4"})
    sample = dataset.first()
    for number, value in ((1, 0.9), (2, 0.3)):
        label = mask(str(number), predicted_iou=value, prompt_id="0" * 24)
        sample.frames[number] = fo.Frame(masks=fo.Detections(detections=[label]))
    sample.save()
    dataset.add_dynamic_frame_fields()
    assert reviewable_fields(dataset) == ["frames.masks"]
    review = Review(dataset, "frames.masks")
    worst, _ = (review.load(ref) for ref in review.worst_first())
    assert (worst.label.label, worst.frame_number, worst.prompt) == ("2", 2, None)
    review.decide(worst, "rejected")
    assert dataset.count_values("frames.masks.detections.review") == {None: 1, "rejected": 1}
    assert dataset.first().frames[2].masks.detections[0].tags == ["rejected"]


def test_the_patches_of_a_view(scored):
    patches = scored.to_patches("masks").match(F("masks.label").is_in(["good", "bad"]))
    assert names(Review(patches, "masks")) == ["bad", "good"]


@pytest.fixture
def prompted(model, make_dataset):
    """Masks of the two ellipses, from boxes."""
    dataset = make_dataset({"boxes": detections(*BOXES, confidence=0.5, colour="red")})
    dataset.apply_model(model, label_field="masks", prompt_field="boxes", progress=False)
    return dataset


@pytest.mark.parametrize("how", RETRIES)
def test_a_new_mask_replaces_the_old_one_in_place(model, prompted, how):
    review = Review(prompted, "masks")
    seen = by_name(review, "a")
    review.decide(seen, "rejected")
    seen = by_name(review, "a")
    assert seen.prompt_field == "boxes"
    change = retry(review, seen, how, model)
    new, other = (stored(prompted, name) for name in "ab")
    assert (new.id, new["prompt_id"], new["colour"], new.confidence) == (seen.ref.label_id, seen.prompt.id, "red", 0.5)
    assert (new["review"], new.tags) == (None, [])
    assert iou(full_mask(new), ellipse_mask(*LEFT)) > (0.5 if how == "candidate" else 0.9)
    assert iou(full_mask(other), ellipse_mask(*RIGHT)) > 0.97
    review.undo(change)
    assert (full_mask(stored(prompted, "a")) == full_mask(seen.label)).all()
    assert stored(prompted, "a")["review"] == "rejected"


def test_the_candidates_come_round(model, prompted):
    review = Review(prompted, "masks")
    first = by_name(review, "a").label["predicted_iou"]
    scores = []
    for _ in range(4):
        retry(review, by_name(review, "a"), "candidate", model)
        scores.append(stored(prompted, "a")["predicted_iou"])
    assert len({round(score, 6) for score in scores}) == 4
    assert scores[-1] == pytest.approx(first, abs=1e-5)


def test_without_its_prompt_the_mask_is_its_own(model, prompted):
    prompt_ids = prompted.values("masks.detections.prompt_id")
    prompted.delete_sample_field("boxes")
    review = Review(prompted, "masks")
    seen = by_name(review, "a")
    assert seen.prompt is None
    retry(review, seen, "centre", model)
    assert iou(full_mask(stored(prompted, "a")), ellipse_mask(*LEFT)) > 0.9
    assert prompted.values("masks.detections.prompt_id") == prompt_ids


def test_a_mask_that_was_made_without_a_prompt_can_be_tried_again(model, make_dataset):
    label = mask("a", predicted_iou=0.5)
    label.bounding_box = ellipse_box(*LEFT)
    dataset = make_dataset({"masks": fo.Detections(detections=[label])})
    dataset.add_dynamic_sample_fields()
    review = Review(dataset, "masks")
    retry(review, by_name(review, "a"), "centre", model)
    new = stored(dataset, "a")
    assert iou(full_mask(new), ellipse_mask(*LEFT)) > 0.9
    assert (new.id, new.has_field("prompt_id")) == (label.id, False)


def test_a_retry_uses_the_weights_of_the_masks_own_run(model, make_dataset, monkeypatch):
    loaded = []

    def shared_model(*_, weights="mobile_sam.pt", run=None, **__):
        loaded.append(weights)
        return MobileSAMModel(model.predictor, run=run)  # the session's network, not one for each

    monkeypatch.setattr(models, "shared_model", shared_model)
    dataset = make_dataset({"boxes": detections(BOXES[0])}, {"boxes": detections(BOXES[1])})
    segment(dataset[:1], "masks", prompt_field="boxes", weights="mobile_sam_coco.pt")
    segment(dataset[1:], "masks", prompt_field="boxes")
    fom.label(dataset, "boxes", "of_job", job="job", weights="mobile_sam_coco.pt", device="cpu")
    dataset.apply_model(model, label_field="plain", prompt_field="boxes", progress=False)
    loaded.clear()
    for field, expected in (
        ("masks", ["mobile_sam_coco.pt", "mobile_sam.pt"]),  # one for each run
        ("of_job", ["mobile_sam_coco.pt"] * 2),
        ("plain", ["mobile_sam.pt"] * 2),  # no run is recorded
    ):
        review = Review(dataset, field)
        first_last = sorted(review.worst_first("all"), key=lambda ref: dataset.values("id").index(ref.sample_id))
        for ref in first_last:
            retry(review, review.load(ref), "padded")
        assert loaded == expected, field
        loaded.clear()


def test_a_retry_that_cannot_be_keeps_the_old_mask(model, make_dataset):
    label = mask("a", predicted_iou=0.5)
    label.bounding_box = [0.5, 0.5, 0, 0]
    dataset = make_dataset({"masks": fo.Detections(detections=[label])})
    dataset.add_dynamic_sample_fields()
    review = Review(dataset, "masks")
    with pytest.raises(PromptError):
        retry(review, by_name(review, "a"), "padded", model)
    assert stored(dataset, "a").mask.shape == (4, 4)


def test_a_frame_that_the_video_does_not_have_is_an_error_with_a_text(make_dataset, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "a.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 5, (320, 240))
    for _ in range(3):
        writer.write(draw_scene([LEFT, RIGHT])[..., ::-1])
    writer.release()
    dataset = make_dataset()
    sample = fo.Sample(filepath=str(tmp_path / "a.mp4"))
    for number in (3, 9):
        label = fo.Detection(label=str(number), bounding_box=ellipse_box(*LEFT), predicted_iou=0.5)
        sample.frames[number] = fo.Frame(masks=fo.Detections(detections=[label]))
    dataset.add_sample(sample)
    dataset.add_dynamic_frame_fields()
    review = Review(dataset, "frames.masks")
    there, late = sorted((review.load(mask) for mask in review.worst_first()), key=lambda mask: mask.frame_number)
    assert read_pixels(there).shape == (240, 320, 3)
    with pytest.raises(ImageError, match="frame 9 must be in the video"):
        read_pixels(late)
