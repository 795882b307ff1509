"""Undo of a job brings back what it replaced: with `overwrite`, in place, of frames, over and under runs of the App."""

import numpy as np
import pytest
from job_calls import BOXES, counts, label
from operator_calls import contents, draw_truth, form, kept, run
from scenes import detections

from fiftyone_mobilesam.review import Review
from fiftyone_mobilesam.sinks.dataset import DatasetSink
from fiftyone_mobilesam.undo import undo_run
from mobilesam import FieldError

OVERWRITE = {"prompt_field": "boxes", "label_field": "truth", "overwrite": True}
IN_PLACE = {"prompt_field": "boxes", "label_field": "boxes", "in_place": True}
HOW = pytest.mark.parametrize("how", [OVERWRITE, IN_PLACE], ids=["overwrite", "in place"])


@pytest.fixture
def dataset(operator_dataset):
    """Masks that people drew: in `truth` three, of three samples the last has none; in `boxes` one, of the first."""
    draw_truth(operator_dataset)
    first = operator_dataset.first()
    first.boxes.detections[0].mask = np.ones((9, 9), bool)
    first.save()
    operator_dataset.add_dynamic_sample_fields()
    return operator_dataset


@HOW
def test_undo_brings_back_what_a_job_replaced(plugin, dataset, how):
    before, schema = contents(dataset), set(dataset.get_field_schema(flat=True))
    replaced = 3 if how is OVERWRITE else 1
    label(dataset, **how)
    label(dataset, **how, clip=False)  # what it replaces now is its own
    field = how["label_field"]
    assert f"{replaced} label" in form(plugin, "undo_run", dataset)["what"]["view"]["label"]
    dataset.reload()
    assert dataset.first()[field].detections[0].mask.shape != (9, 9)
    result = undo_run(dataset)
    assert (result["labels"], result["restored"], result["changed_since"]) == (6, replaced, 0)
    assert contents(dataset) == before
    assert set(dataset.get_field_schema(flat=True)) == schema
    assert kept() == 0
    assert counts(label(dataset, **how)) == (3, 0, 0)  # it may be done again, and undone again
    undo_run(dataset)
    assert contents(dataset) == before


@HOW
def test_undo_of_a_job_leaves_what_a_person_changed_or_accepted_since(dataset, how):
    field = how["label_field"]
    label(dataset, **how)
    sample = dataset.first()
    corrected = sample[field].detections[0]
    corrected.mask = np.ones((7, 7), bool)
    sample.save()
    review = Review(dataset, field)
    other = sample[field].detections[1].id
    accepted = review.load(next(mask for mask in review.worst_first() if mask.label_id == other))
    review.decide(accepted, "accepted")
    label(dataset, **how)  # what stays in a job is not taken for what the job wrote
    assert undo_run(dataset)["changed_since"] == 2
    dataset.reload()
    there = {d.id: d for sample in dataset if sample[field] for d in sample[field].detections}
    assert there[corrected.id].mask.shape == (7, 7)
    assert there[accepted.ref.label_id].mask is not None
    if how is IN_PLACE:
        assert dataset.count(f"{field}.detections.mask") == 2
    else:
        assert [d.label for d in there.values()].count("drawn") == 3


def test_jobs_and_runs_of_the_app_are_undone_in_their_order(plugin, dataset):
    first = contents(dataset)
    app = {"prompt_field": "boxes", "label_field": "truth", "existing": "replace", "replace_own_work": True}
    one = run(plugin, "segment", dataset, params=app)["run"]
    second = contents(dataset)
    label(dataset, **OVERWRITE)
    third = contents(dataset)
    two = run(plugin, "segment", dataset, params=app)["run"]
    for earlier in (one, "mobilesam_label"):
        with pytest.raises(FieldError, match="Undo that first"):
            undo_run(dataset, earlier)
    for key, before in ((two, third), ("mobilesam_label", second), (one, first)):
        undo_run(dataset, key)
        assert contents(dataset) == before


def test_a_job_that_went_on_after_a_run_of_the_app_is_undone_before_it(plugin, dataset):
    label(dataset, "boxes", "masks")
    app = {"prompt_field": "boxes", "label_field": "masks", "existing": "replace"}
    over = run(plugin, "segment", dataset, params=app)["run"]
    label(dataset.limit(1), "boxes", "masks", overwrite=True)
    with pytest.raises(FieldError, match="Undo that first"):
        undo_run(dataset, over)
    undo_run(dataset, "mobilesam_label")
    dataset.reload()
    assert dataset.count_values("masks.detections.run") == {over: 6}


def test_undo_of_a_job_on_a_view_leaves_masks_of_apply_model_elsewhere(model, dataset):
    dataset.apply_model(model, label_field="truth", prompt_field="boxes", merge=True)
    before = contents(dataset)
    label(dataset.limit(1), **OVERWRITE)
    assert undo_run(dataset)["restored"] == 4
    assert contents(dataset) == before


@HOW
def test_a_job_that_is_killed_before_it_writes_can_be_undone(dataset, monkeypatch, how):
    def die(*_):
        raise KeyboardInterrupt

    before = contents(dataset)
    with monkeypatch.context() as patch:
        patch.setattr(DatasetSink, "_write", die)
        with pytest.raises(KeyboardInterrupt):
            label(dataset, **how)
    assert kept()
    undo_run(dataset)
    assert contents(dataset) == before


def test_what_is_kept_of_a_job_goes_with_its_run(dataset):
    label(dataset, **OVERWRITE)
    dataset.delete_run("mobilesam_label")
    label(dataset, **OVERWRITE, clip=False)  # its labels are a job's still
    assert undo_run(dataset)["restored"] == 0


@pytest.mark.parametrize("shown_as", ["a video", "images"])
def test_labels_of_frames(video, shown_as):
    sample = video.first()
    for number in (2, 3):
        sample.frames[number]["masks"] = detections(BOXES[0])
    sample.save()
    ids = video.values("frames.masks.detections.id")
    if shown_as == "a video":
        label(video, "frames.detections", "frames.masks", overwrite=True)
    else:
        label(video.to_frames(sample_frames=True), overwrite=True)
    video.reload()
    assert video.count("frames.masks.detections.mask") == 4
    assert undo_run(video)["restored"] == 2
    video.reload()
    assert video.values("frames.masks.detections.id") == ids
