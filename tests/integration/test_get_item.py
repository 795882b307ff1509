"""FiftyOne's torch interface with our names, and `skip_failures` as its users know it."""

from pathlib import Path

import pytest
from job_calls import BOXES
from scenes import LEFT, detections, ellipse_mask, full_mask, iou, keypoints
from torch.utils.data import DataLoader

from mobilesam import ImageError, PromptError


def masks_of(dataset):
    dataset.reload()
    return [len(sample.masks.detections) if sample.masks else None for sample in dataset]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loop_of_ones_own(model, pair, workers):
    get_item = model.build_get_item(field_mapping={"prompt_field": "detections"})
    assert get_item.required_keys == ["filepath", "prompt_field"]
    loader = DataLoader(
        pair.to_torch(get_item),
        batch_size=2,
        num_workers=workers,
        collate_fn=model.collate_fn,
        worker_init_fn=type(pair.to_torch(get_item)).worker_init,
    )
    made = [labels for batch in loader for labels in model.predict_all(batch)]
    assert [len(labels.detections) for labels in made] == [2, 1, 0]
    assert made[0].detections[0]["prompt_id"] == pair.first().detections.detections[0].id
    assert iou(full_mask(made[0].detections[0]), ellipse_mask(*LEFT)) > 0.9
    assert model.needs_fields == {}  # the loop has changed nothing


def test_one_image_of_a_loop(model, make_dataset):
    dataset = make_dataset({"boxes": detections(BOXES[0]), "points": keypoints([LEFT[0]])})
    mapping = {"box_prompt_field": "boxes", "point_prompt_field": "points"}
    items = dataset.to_torch(model.build_get_item(field_mapping=mapping))
    assert len(model.predict(items[0]).detections) == 1
    Path(dataset.first().filepath).write_bytes(b"")
    assert model.predict(items[0]) is None
    assert model.last_run.failures[-1].filepath == dataset.first().filepath


def test_apply_model_takes_a_field_mapping(model, pair):
    for _ in range(2):  # into a field that is there, too
        pair.apply_model(model, label_field="masks", field_mapping={"prompt_field": "detections"})
        assert masks_of(pair) == [2, 1, 0]


def test_keys_are_ours(model):
    with pytest.raises(ValueError, match=r"among filepath, prompt_field, box_prompt_field.*got box"):
        model.build_get_item(field_mapping={"box": "detections"})
    assert model.build_get_item(field_mapping={"filepath": "other"}).field_mapping == {"filepath": "other"}


def bad_prompt(dataset):
    sample = list(dataset)[1]
    sample.detections.detections[0].bounding_box = [2, 2, 1, 1]
    sample.save()
    return PromptError, sample


def bad_image(dataset):
    sample = list(dataset)[1]
    Path(sample.filepath).write_bytes(b"no image")
    return ImageError, sample


@pytest.mark.parametrize("spoil", [bad_prompt, bad_image])
def test_skip_failures(model, pair, spoil):
    expected, sample = spoil(pair)
    with pytest.raises(expected, match="image") as caught:
        pair.apply_model(model, label_field="masks", prompt_field="detections", skip_failures=False)
    assert sample.filepath in str(caught.value)
    assert model.last_run.state == "stopped"
    assert masks_of(pair) == [2, None, None]  # what was done before is kept
    for options in ({}, {"skip_failures": False, "on_error": "skip"}):
        pair.apply_model(model, label_field="masks", prompt_field="detections", **options)
        assert [failure.sample_id for failure in model.last_run.failures] == [sample.id]
        assert masks_of(pair)[::2] == [2, 0]
    with pytest.raises(expected):
        pair.apply_model(model, label_field="masks", prompt_field="detections", on_error="raise")
