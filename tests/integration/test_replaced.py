"""A run into a field that has labels keeps them, or what it replaced: undo brings it back as it was."""

import re

import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone.operators.executor import ExecutionError
from job_calls import BOXES
from operator_calls import contents, draw_truth, form, kept, run
from scenes import detections

from fiftyone_mobilesam import host
from fiftyone_mobilesam.app.recorded_run import segment
from fiftyone_mobilesam.replaced import COLLECTION
from fiftyone_mobilesam.review import Review
from fiftyone_mobilesam.runs import list_runs
from fiftyone_mobilesam.undo import undo_run
from mobilesam import FieldError

INTO_TRUTH = {"prompt_field": "boxes", "label_field": "truth"}
REPLACE = {"existing": "replace", "replace_own_work": True}


@pytest.fixture
def dataset(operator_dataset):
    """Two samples with masks that people drew, one of them with an attribute; the third has none."""
    draw_truth(operator_dataset)
    return operator_dataset


def test_labels_that_are_there_stay_unless_somebody_says_otherwise(plugin, dataset):
    before = dataset.values("truth.detections.id")
    assert form(plugin, "segment", dataset, **INTO_TRUTH)["existing"]["default"] == "merge"
    run(plugin, "segment", dataset, params=INTO_TRUTH)
    dataset.reload()
    for ids, sample in zip(before, dataset, strict=True):
        assert [d.id for d in sample.truth.detections if d.label == "drawn"] == (ids or [])
        assert len(sample.truth.detections) == len(ids or []) + 2


def test_what_no_run_wrote_is_replaced_after_a_second_yes_that_names_how_many(plugin, dataset):
    inputs = form(plugin, "segment", dataset, **INTO_TRUTH, existing="replace")
    assert "replace 3 labels" in str(inputs["replace_own_work"])
    assert "3 labels" in inputs["problem"]["error_message"]
    with pytest.raises(ExecutionError, match="3 labels"):
        run(plugin, "segment", dataset, params={**INTO_TRUTH, "existing": "replace"})
    assert dataset.count_values("truth.detections.label") == {"drawn": 3}
    assert "problem" not in form(plugin, "segment", dataset, **INTO_TRUTH, **REPLACE)


def test_undo_brings_back_what_was_replaced(plugin, dataset):
    before, schema = contents(dataset), set(dataset.get_field_schema(flat=True))
    run(plugin, "segment", dataset, params=INTO_TRUTH | REPLACE)
    assert "drawn" not in dataset.count_values("truth.detections.label")
    assert kept() == 3 + 3
    result = run(plugin, "undo_run", dataset)
    assert (result["labels"], result["restored"], result["changed_since"]) == (6, 3, 0)
    assert contents(dataset) == before
    assert set(dataset.get_field_schema(flat=True)) == schema
    assert kept() == 0


def test_undo_brings_back_masks_that_were_replaced_in_place(plugin, dataset):
    sample = dataset.first()
    sample.boxes.detections[0].mask = np.ones((9, 9), bool)
    sample.save()
    before = contents(dataset)
    params = {"prompt_field": "boxes", "label_field": "boxes"}
    assert "mask" in str(form(plugin, "segment", dataset, **params)["existing"])
    run(plugin, "segment", dataset, params=params)  # fills what has none
    dataset.reload()
    assert dataset.count("boxes.detections.mask") == 5
    assert dataset.first().boxes.detections[0].mask.shape == (9, 9)
    run(plugin, "undo_run", dataset)
    with pytest.raises(ExecutionError, match="1 label "):
        run(plugin, "segment", dataset, params={**params, "existing": "replace"})
    run(plugin, "segment", dataset, params=params | REPLACE)
    dataset.reload()
    assert dataset.first().boxes.detections[0].mask.shape != (9, 9)
    assert run(plugin, "undo_run", dataset)["restored"] == 1
    dataset.reload()
    first = dataset.first().to_dict()["boxes"]["detections"][0]
    assert first == next(doc for doc in before if doc["boxes"])["boxes"]["detections"][0]
    assert dataset.count("boxes.detections.mask") == 1


@pytest.mark.parametrize("in_place", [False, True])
def test_undo_leaves_what_a_person_changed_since(plugin, dataset, in_place):
    field = "boxes" if in_place else "masks"
    params = {"prompt_field": "boxes", "label_field": field}
    run(plugin, "segment", dataset, params=params)
    old = dataset.values(f"{field}.detections.id")
    second = run(plugin, "segment", dataset, params=params | ({"existing": "replace"} if in_place else {}))
    dataset.reload()
    sample = dataset.first()
    corrected = sample[field].detections[1]
    corrected.mask = np.ones((7, 7), bool)
    sample.save()
    result = run(plugin, "undo_run", dataset, params={"run": second["run"]})
    assert result["changed_since"] == 1
    dataset.reload()
    labels = dataset.first()[field].detections
    assert [d.id for d in labels] == [old[0][0], corrected.id]
    assert labels[1].mask.shape == (7, 7)
    assert dataset.values(f"{field}.detections.id")[1:] == old[1:]


def test_a_mask_that_was_accepted_stays(plugin, dataset):
    params = {"prompt_field": "boxes", "label_field": "masks"}
    run(plugin, "segment", dataset, params=params)
    review = Review(dataset, "masks")
    review.decide(review.load(next(iter(review.worst_first()))), "accepted")
    accepted = {d.id for sample in dataset for d in sample.masks.detections if d.get_attribute_value("review", None)}
    with pytest.raises(ExecutionError, match="1 label "):
        run(plugin, "segment", dataset, params={**params, "existing": "replace"})
    run(plugin, "segment", dataset, params={**params, "existing": "merge", "clip": "off"})
    dataset.reload()
    ids = set(dataset.values("masks.detections.id", unwind=True))
    assert len(accepted) == 1
    assert accepted <= ids
    assert len(ids) == 6


def test_runs_are_undone_in_their_order(plugin, dataset):
    before = contents(dataset)
    first = run(plugin, "segment", dataset, params=INTO_TRUTH | REPLACE)
    second = run(plugin, "segment", dataset, params={**INTO_TRUTH, "existing": "replace"})
    with pytest.raises(FieldError, match="Undo that first"):
        undo_run(dataset, first["run"])
    undo_run(dataset, second["run"])
    undo_run(dataset, first["run"])
    assert contents(dataset) == before


def test_what_is_kept_goes_with_its_run(plugin, dataset):
    result = run(plugin, "segment", dataset, params=INTO_TRUTH | REPLACE)
    assert kept()
    dataset.delete_run(result["run"])
    with pytest.raises(ExecutionError, match="6 labels"):  # nobody knows whose they are now
        run(plugin, "segment", dataset, params=INTO_TRUTH)
    run(plugin, "segment", dataset, params={**INTO_TRUTH, "replace_own_work": True})
    assert not host.database()[COLLECTION].find_one({"_id": {"$regex": result["run"]}})


def test_a_run_that_is_killed_can_be_undone(plugin, dataset, monkeypatch):
    from fiftyone_mobilesam.runs import RunRecord

    before = contents(dataset)
    with monkeypatch.context() as patch:
        patch.setattr(RunRecord, "save", lambda self: None)  # the end of the run is never written down
        run(plugin, "segment", dataset, params=INTO_TRUTH | REPLACE)
    [key] = dataset.list_runs()
    with pytest.raises(FieldError, match="Stop it first"):
        undo_run(dataset, key)
    config = dataset.get_run_info(key).config
    config.process = {**config.process, "born": 0.0}  # of a process that is not there any more
    dataset.update_run_config(key, config)
    undo_run(dataset, key)
    assert contents(dataset) == before


def test_the_list_of_runs_says_what_a_person_asks(plugin, dataset):
    run(plugin, "segment", dataset, params=INTO_TRUTH | REPLACE)
    inputs = form(plugin, "undo_run", dataset)
    [choice] = inputs["run"]["view"]["choices"]
    assert re.fullmatch(r"truth, \d{1,2} \w+ 20\d\d, \d\d:\d\d, 5 masks, finished", choice["label"])
    assert "put 6 labels into 'truth'" in inputs["what"]["view"]["label"]
    assert "3 labels that it replaced come back" in inputs["what"]["view"]["label"]


def test_undo_of_a_run_that_is_going_on_is_not_offered(plugin, dataset, monkeypatch):
    seen = {}

    def look(progress):
        monkeypatch.setattr("fiftyone_mobilesam.app._stops._events", {})  # as another process has it
        seen.update(form(plugin, "undo_run", dataset))
        monkeypatch.undo()
        with pytest.raises(FieldError, match="Stop it first"):
            undo_run(dataset)

    segment(dataset, "masks", prompt_field="boxes", on_progress=look)
    assert seen["not_now"]["invalid"]
    assert "going on" in seen["not_now"]["error_message"]
    assert "what" not in seen
    dataset.reload()
    assert undo_run(dataset)["labels"] == 6


def test_the_form_stops_a_run_that_is_going_on(plugin, dataset):
    seen = {}

    def look(progress):
        if seen:
            return
        inputs = form(plugin, "undo_run", dataset)
        [key] = list_runs(dataset)
        seen.update(stop=inputs[f"stop_{key}"], params={"run": key, f"stop_{key}": True})
        assert not inputs.keys() & {"what", "not_now"}
        ctx = foo.ExecutionContext({"dataset_name": dataset.name, "params": seen["params"]})
        operator = foo.get_operator(plugin + "undo_run")
        assert operator.resolve_input(ctx).to_json()["view"]["submit_button_label"] == "Stop"
        seen["result"] = run(plugin, "undo_run", dataset, params=seen["params"])

    assert segment(dataset, "masks", prompt_field="boxes", on_progress=look)["state"] == "interrupted"
    assert seen["stop"]["default"] is True
    assert seen["result"]["stopping"]
    dataset.reload()
    made = dataset.count("masks.detections")
    assert not run(plugin, "undo_run", dataset, params=seen["params"])["stopping"]  # it has ended: a yes to stop it
    assert dataset.count("masks.detections") == made < 6
    assert undo_run(dataset)["labels"] == made


@pytest.mark.parametrize("shown_as", ["a video", "images"])
def test_labels_of_frames(plugin, video, shown_as):
    sample = video.first()
    for number in (2, 3):
        sample.frames[number]["masks"] = detections(BOXES[0])
    sample.save()
    ids = video.values("frames.masks.detections.id")
    params = {"prompt_field": "frames.detections", "label_field": "frames.masks"}
    samples = video
    if shown_as == "images":
        params = {"prompt_field": "detections", "label_field": "masks"}
        samples = video.to_frames(sample_frames=True)
    how = {} if shown_as == "a video" else {"view": samples}
    with pytest.raises(ExecutionError, match="labels"):
        run(plugin, "segment", video, params={**params, "existing": "replace"}, **how)
    assert run(plugin, "segment", video, params=params | REPLACE, **how)["masks"] == 4
    video.reload()
    assert video.count("frames.masks.detections.mask") == 4
    assert undo_run(video)["restored"] == 2
    video.reload()
    assert video.values("frames.masks.detections.id") == ids
