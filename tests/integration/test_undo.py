"""Undo takes away exactly what a run wrote: of the App or a job, in place, of frames, of everything."""

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone.operators.executor import ExecutionError
from job_calls import BOXES, counts, label
from operator_calls import contents, run
from scenes import LEFT, RIGHT, detections

from fiftyone_mobilesam.runs import list_runs
from fiftyone_mobilesam.undo import undo_run


@pytest.fixture
def dataset(operator_dataset):
    return operator_dataset


def test_undo_leaves_no_trace(plugin, dataset):
    before, schema = contents(dataset), set(dataset.get_field_schema(flat=True))
    result = run(plugin, "segment", dataset, params={"prompt_field": "boxes", "label_field": "masks"})
    counts = {"labels": 6, "restored": 0, "changed_since": 0}
    assert run(plugin, "undo_run", dataset) == {"run": result["run"], "label_field": "masks", **counts}
    assert contents(dataset) == before
    assert set(dataset.get_field_schema(flat=True)) == schema
    with pytest.raises(ExecutionError, match="nothing to undo"):
        run(plugin, "undo_run", dataset)


def test_undo_of_a_run_in_place_puts_boxes_back(plugin, dataset):
    boxes, schema = dataset.values("boxes.detections.bounding_box"), set(dataset.get_field_schema(flat=True))
    run(plugin, "segment", dataset, params={"prompt_field": "boxes", "label_field": "boxes"})
    assert dataset.count("boxes.detections.mask") == dataset.count("boxes.detections.confidence") == 5
    assert dataset.values("boxes.detections.bounding_box") != boxes
    run(plugin, "undo_run", dataset)
    dataset.reload()
    assert dataset.count("boxes.detections.confidence") == 0
    assert dataset.count("boxes.detections.mask") == 0
    assert dataset.values("boxes.detections.bounding_box") == boxes
    assert set(dataset.get_field_schema(flat=True)) == schema


def test_undo_takes_one_run_and_nothing_else(plugin, dataset):
    human = fo.Detection(label="human", bounding_box=[0, 0, 0.5, 0.5])
    params = {"prompt_field": "boxes", "label_field": "masks"}
    one = run(plugin, "segment", dataset, view=dataset.limit(1), params=params)
    two = run(plugin, "segment", dataset, view=dataset.skip(1), params=params)
    sample = dataset.last()
    sample.masks.detections.append(human)
    sample.save()
    assert foo.get_operator(plugin + "undo_run")(dataset, two["run"])["labels"] == 4
    dataset.reload()
    assert dataset.values("masks.detections.label") == [["a", "b"], None, ["human"]]
    assert dataset.first().masks.detections[0].run == one["run"]


@pytest.mark.parametrize("shown_as", ["a video", "images"])
def test_undo_of_frames(plugin, tmp_path, shown_as):
    import cv2
    from scenes import draw_scene

    writer = cv2.VideoWriter(str(tmp_path / "a.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 5, (320, 240))
    for _ in range(3):
        writer.write(draw_scene([LEFT, RIGHT])[..., ::-1])
    writer.release()
    sample = fo.Sample(filepath=str(tmp_path / "a.mp4"))
    for number in (1, 2):
        sample.frames[number] = fo.Frame(boxes=detections(*BOXES))
    dataset = fo.Dataset()
    dataset.add_sample(sample)
    how = {"params": {"prompt_field": "frames.boxes", "label_field": "frames.masks"}}
    if shown_as == "images":
        how = {
            "view": dataset.to_frames(sample_frames=True),
            "params": {"prompt_field": "boxes", "label_field": "masks"},
        }
    try:
        result = run(plugin, "segment", dataset, **how)
        assert result["masks"] == dataset.count("frames.masks.detections.mask") == 4
        assert run(plugin, "undo_run", dataset)["labels"] == 4
        assert not dataset.has_frame_field("masks")
    finally:
        dataset.delete()


def test_a_job_is_undone_like_a_run_of_the_app(plugin, dataset):
    before, schema = contents(dataset), set(dataset.get_field_schema(flat=True))
    label(dataset, "boxes", job="nightly")
    assert list_runs(dataset) == ["mobilesam_nightly"]
    assert "job nightly" in str(foo.get_operator(plugin + "undo_run").resolve_type(
        foo.ExecutionContext({"dataset_name": dataset.name}), "inputs").to_json())  # fmt: skip
    result = run(plugin, "undo_run", dataset)
    assert (result["run"], result["label_field"], result["labels"]) == ("mobilesam_nightly", "masks", 6)
    assert contents(dataset) == before
    assert set(dataset.get_field_schema(flat=True)) == schema
    assert list_runs(dataset) == []
    assert counts(label(dataset, "boxes", job="nightly")) == (3, 0, 0)  # it may be done again
    assert list_runs(dataset) == ["mobilesam_nightly"]


def test_undo_of_a_job_leaves_what_was_drawn_by_hand(dataset):
    label(dataset, "boxes")
    sample = dataset.first()
    sample.masks.detections.append(fo.Detection(label="human", bounding_box=[0, 0, 0.5, 0.5]))
    sample.save()
    assert undo_run(dataset)["labels"] == 6
    dataset.reload()
    assert [[d.label for d in sample.masks.detections] for sample in dataset] == [["human"], [], []]
    assert counts(label(dataset, "boxes", overwrite=True)) == (3, 0, 0)


def test_undo_of_a_job_in_place_puts_boxes_back(dataset):
    for sample in dataset:
        sample.boxes.detections[0].bounding_box = [0.1234, 0.2345, 0.3111, 0.5222]
        sample.save()
    boxes = dataset.values("boxes.detections.bounding_box")
    for options in ({}, {"box": "mask"}):  # the second moves boxes that the first has moved
        label(dataset, "boxes", "boxes", in_place=True, **options)
    assert dataset.count("boxes.detections.mask") == 5
    assert dataset.values("boxes.detections.bounding_box") != boxes
    assert undo_run(dataset)["labels"] == 6
    dataset.reload()
    assert dataset.count("boxes.detections.mask") == 0
    assert dataset.values("boxes.detections.bounding_box") == boxes


def test_undo_of_everything(make_dataset):
    dataset = make_dataset({})
    label(dataset, None, "everything", everything={"points_per_side": 2, "stability_score_thresh": 0.9})
    sample = dataset.first()
    count = len(sample.everything.detections)
    assert count
    sample.everything.detections.append(fo.Detection(label="human", mask=np.ones((2, 2)), bounding_box=[0, 0, 1, 1]))
    sample.save()
    assert undo_run(dataset)["labels"] == count
    dataset.reload()
    assert [d.label for d in dataset.first().everything.detections] == ["human"]
