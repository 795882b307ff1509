"""Which masks can be trusted: drawn to be checked, accepted under a promise, their quality fitted again."""

import fiftyone as fo
import numpy as np
import pytest

import fiftyone_mobilesam as fom
from fiftyone_mobilesam.review import Review
from mobilesam import FieldError, NotEnoughTruthError

SIDE = 40


def square(side, **attributes):
    """A mask of the left `side` columns of a square of 40 pixels: its IoU with the whole square is side / 40."""
    pixels = np.zeros((SIDE, SIDE), dtype=bool)
    pixels[:, :side] = True
    return fo.Detection(label="a", bounding_box=[0, 0, SIDE / 320, SIDE / 240], mask=pixels, **attributes)


def noisy_masks(count, rng):
    """Masks whose quality tells their IoU to 0.05, and is 0.1 too high; a third of them is bad."""
    ious = np.where(rng.random(count) < 0.3, rng.uniform(0.2, 0.7, count), rng.uniform(0.9, 1, count))
    told = np.clip(ious + 0.1 + rng.normal(0, 0.05, count), 0, 1)
    return [square(round(iou * SIDE), mask_quality=float(quality)) for iou, quality in zip(ious, told, strict=True)]


@pytest.fixture
def masks(make_dataset):
    """200 masks on 20 images, all with a true mask in `truth`."""
    rng, images = np.random.default_rng(0), []
    for _ in range(20):
        made = noisy_masks(10, rng)
        truth = [square(SIDE) for _ in made]
        for mask, true in zip(made, truth, strict=True):
            mask["prompt_id"] = true.id
        images.append({"masks": fo.Detections(detections=made), "truth": fo.Detections(detections=truth)})
    dataset = make_dataset(*images)
    dataset.add_dynamic_sample_fields()
    return dataset


def check(view, how):
    """Decide about the masks of a view as a person in the review does."""
    for sample in view:
        for mask in sample["masks"].detections:
            mask["review"] = how(mask)
        sample.save()
    fo.load_dataset(view.dataset_name).add_dynamic_sample_fields()  # as the review does


def right(mask):
    return "accepted" if mask.mask.mean() >= 0.8 else "rejected"


def accepted(dataset):
    return dataset.filter_labels("masks", fo.ViewField("tags").contains("auto accepted")).values(
        "masks.detections", unwind=True
    )


def test_masks_to_check_are_drawn_once_and_more_are_added(masks):
    first = fom.sample_to_check(masks, "masks", 30).values("masks.detections.id", unwind=True)
    again = fom.sample_to_check(masks, "masks", 50).values("masks.detections.id", unwind=True)
    assert len(first) == 30
    assert len(again) == 50
    assert set(first) < set(again)


def test_decisions_about_drawn_masks_accept_others_and_the_promise_holds(masks):
    check(fom.sample_to_check(masks, "masks", 120), right)
    found = fom.accept(masks, "masks", max_wrong=0.1)
    tagged = accepted(masks)
    unseen = [mask for mask in tagged if "to check" not in mask.tags]
    assert len(unseen) == found.accepted > 0
    assert np.mean([mask.mask.mean() < 0.8 for mask in unseen]) <= 0.1
    assert all(mask.mask.mean() >= 0.8 for mask in tagged if "to check" in mask.tags)


def test_a_mask_that_had_to_be_made_again_counts_as_wrong(masks):
    drawn = fom.sample_to_check(masks, "masks", 120)
    for sample in drawn:
        for mask in sample["masks"].detections:
            mask["review"], mask["retried"] = "accepted", True
        sample.save()
    masks.add_dynamic_sample_fields()
    with pytest.raises(NotEnoughTruthError, match="Nothing can be accepted"):
        fom.accept(masks, "masks")
    assert accepted(masks) == []


def test_true_masks_of_whole_images_accept_others_and_a_second_call_replaces_the_tags(masks):
    for sample in masks.skip(15):
        sample["truth"] = None
        sample.save()
    found = fom.accept(masks, "masks", "truth", max_wrong=0.2, confidence=0.9)
    assert found.checked == 150
    assert found.unchecked == 50
    first = len(accepted(masks))
    fom.accept(masks, "masks", "truth", max_wrong=0.2, confidence=0.9)
    assert len(accepted(masks)) == first


def test_a_record_without_a_mask_is_neither_drawn_nor_accepted(masks):
    failed = masks.values("masks.detections.id", unwind=True)[::2]
    masks.set_label_values("masks.detections.failure", dict.fromkeys(failed, "lost"))
    masks.set_label_values("masks.detections.mask_quality", dict.fromkeys(failed, 1.0))
    masks.add_dynamic_sample_fields()  # as a run does
    drawn = fom.sample_to_check(masks, "masks", 200).values("masks.detections.id", unwind=True)
    assert len(drawn) == 100
    assert not set(drawn) & set(failed)


def test_drawn_masks_are_decided_in_random_order(masks):
    fom.sample_to_check(masks, "masks", 100)
    shown = [ref.label_id for ref in Review(masks, "masks").worst_first("to check")]
    worst = [ref.label_id for ref in Review(masks, "masks").worst_first("all") if ref.label_id in set(shown)]
    assert len(shown) == 100
    assert len(set(shown[:25]) & set(worst[:25])) < 20


def test_too_few_decisions_are_refused_with_what_to_do(masks):
    check(fom.sample_to_check(masks, "masks", 10), right)
    with pytest.raises(NotEnoughTruthError, match="sample_to_check"):
        fom.accept(masks, "masks")


def test_a_field_without_quality_is_refused(make_dataset):
    dataset = make_dataset({"masks": fo.Detections(detections=[square(10)])})
    with pytest.raises(FieldError, match="mask_quality"):
        fom.accept(dataset, "masks", "truth")


def test_calibration_takes_a_constant_error_away_and_keeps_what_was_there(masks):
    before = masks.values("masks.detections.mask_quality", unwind=True)
    found = fom.calibrate(masks, "masks", "truth")
    after = masks.values("masks.detections.mask_quality", unwind=True)
    true = masks.values("masks.detections.true_iou", unwind=True)
    assert found.kept
    assert "Fitted on 200 masks" in str(found)
    assert np.abs(np.subtract(after, true)).mean() < np.abs(np.subtract(before, true)).mean() / 1.5
    assert masks.values("masks.detections.mask_quality_as_made", unwind=True) == before
    fom.calibrate(masks, "masks", "truth")
    assert masks.values("masks.detections.mask_quality", unwind=True) == pytest.approx(after)


def test_calibration_wants_50_masks(masks):
    with pytest.raises(NotEnoughTruthError, match="at least 50"):
        fom.calibrate(masks[:3], "masks", "truth")


def test_the_report_is_one_page_with_the_worst_masks_in_it(masks, tmp_path, monkeypatch):
    sample = masks.first()
    sample["masks"].detections[0].label = "<b>&"
    sample["masks"].detections[1]["failure"] = "outside of the image"
    sample.save()
    masks.add_dynamic_sample_fields()
    fom.sample_to_check(masks, "masks", 7)
    page = fom.write_report(masks, "masks", tmp_path / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "<b>199</b>masks" in page
    assert "<b>7</b>to check" in page
    assert "outside of the image (1)" in page
    assert "&lt;b&gt;&amp;" in page
    assert "<b>1</b>without a mask" in page
    assert page.count("<img ") == 5  # one of the class of one mask, four of the other
    assert "src='http" not in page


def test_the_report_says_which_picture_is_missing(masks, tmp_path):
    for sample in masks:
        sample.filepath = str(tmp_path / "gone" / f"{sample.id}.png")
        sample.save()
    page = fom.write_report(masks, "masks", tmp_path / "report.html").read_text()
    assert "<img " not in page
    assert "does not exist" in page or "No such file" in page
