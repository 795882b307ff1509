"""`quality` and `overlap` of a run."""

import pytest
from scenes import LEFT, RIGHT, detections, ellipse_box, ellipse_mask, full_mask, iou


def test_exclusive_masks_share_no_pixel_and_say_what_they_lost(model, make_dataset):
    cx = LEFT[0][0]
    halves = [[0.0, 0.1, cx / 320 + 0.05, 0.8], [cx / 320 - 0.05, 0.1, 0.4, 0.8]]  # two boxes on one ellipse
    dataset = make_dataset({"boxes": detections(*halves)})
    dataset.apply_model(model, label_field="kept", prompt_field="boxes")
    dataset.apply_model(model, label_field="apart", prompt_field="boxes", overlap="exclusive")
    kept, apart = (dataset.first()[name].detections for name in ("kept", "apart"))
    assert (full_mask(kept[0]) & full_mask(kept[1])).any()
    assert not (full_mask(apart[0]) & full_mask(apart[1])).any()
    assert sum(mask.pixels_moved for mask in apart) > 0
    assert "pixels_moved" in dataset.get_field_schema(flat=True)["apart.detections"].field.get_field_schema()


def test_best_quality_is_an_option_of_a_run_and_of_a_model(model, make_dataset):
    dataset = make_dataset({"boxes": detections(ellipse_box(*LEFT), ellipse_box(*RIGHT))})
    dataset.apply_model(model, label_field="masks", prompt_field="boxes", quality="best")
    for mask, ellipse in zip(dataset.first().masks.detections, (LEFT, RIGHT), strict=True):
        assert iou(full_mask(mask), ellipse_mask(*ellipse)) > 0.95
        assert 0.5 < mask.mask_quality <= 1
    with pytest.raises(ValueError, match="must go with prompts"):
        dataset.apply_model(model, label_field="everything", quality="best")
