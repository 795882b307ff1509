"""`fom.label`: what is missing is done, nothing else; all shapes of a dataset."""

import os
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from job_calls import BOXES, counts, label, raw
from PIL import Image
from scenes import LEFT, RIGHT, detections, ellipse_mask, full_mask, iou

import fiftyone_mobilesam as fom


def test_the_same_call_again_does_nothing(pair):
    assert counts(label(pair)) == (3, 0, 0)
    before = list(pair._sample_collection.find())
    assert counts(label(pair)) == (0, 3, 0)
    assert list(pair._sample_collection.find()) == before
    assert pair.values("masks.failed_prompts") == [0, 0, 0]
    assert pair.last().masks.detections == []


def test_records_are_those_of_apply_model(model, pair):
    pair.apply_model(model, label_field="applied", prompt_field="detections")
    report = label(pair)
    assert report.masks == 3
    assert report.ok
    for applied, labelled in zip(raw(pair, "applied"), raw(pair), strict=True):
        for a, b in zip(applied["detections"], labelled["detections"], strict=True):
            assert {**a, "_id": 0} == {**b, "_id": 0}
    assert "masks.detections.predicted_iou" in pair.get_field_schema(flat=True)


def test_only_changed_prompts_are_redone_and_ids_stay(pair):
    label(pair)
    before = pair.values("masks.detections.id")
    sample = pair.first()
    sample.detections.detections[0].bounding_box = list(BOXES[1])
    sample.save()
    assert counts(label(pair)) == (1, 2, 0)
    assert pair.values("masks.detections.id") == before
    first, second = pair.first().masks.detections
    assert (first.mask == second.mask).all()
    sample.detections.detections.pop(0)
    sample.save()
    assert counts(label(pair)) == (1, 2, 0)
    assert pair.first().masks.detections == [second]
    sample.detections = fo.Detections()
    sample.save()
    assert counts(label(pair)) == (1, 2, 0)
    assert pair.first().masks.detections == []


def test_other_options_redo_all_and_ids_stay(pair):
    label(pair, clip=False)
    before = pair.values("masks.detections.id")
    assert counts(label(pair)) == (3, 0, 0)
    assert pair.values("masks.detections.id") == before


def test_labels_that_were_emptied_are_made_again(pair):
    label(pair)
    sample = pair.first()
    sample["masks"] = fo.Detections()
    sample.save()
    assert counts(label(pair)) == (1, 2, 0)


def test_fields_with_one_folder_do_not_take_each_others_files(pair, tmp_path):
    for field in ("m1", "m2"):
        label(pair, label_field=field, output_dir=tmp_path / "out", job=field)
    paths = [d.mask_path for sample in pair for field in ("m1", "m2") for d in sample[field].detections]
    assert len(paths) == 6
    assert all(map(os.path.isfile, paths))
    os.unlink(paths[0])
    assert counts(label(pair, label_field="m1", output_dir=tmp_path / "out", job="m1")) == (1, 2, 0)
    assert os.path.isfile(paths[0])


@pytest.mark.parametrize("in_place", [False, True])
def test_a_field_of_single_detections(make_dataset, in_place):
    [box] = detections(BOXES[0]).detections
    dataset = make_dataset({"detection": box})
    field = "detection" if in_place else "masks"
    assert counts(label(dataset, "detection", field, in_place=in_place)) == (1, 0, 0)
    assert counts(label(dataset, "detection", field, in_place=in_place)) == (0, 1, 0)
    found = dataset.first().detection if in_place else dataset.first().masks.detections[0]
    assert iou(full_mask(found), ellipse_mask(*LEFT)) > 0.97


def test_everything(make_dataset):
    dataset = make_dataset({})
    options = {"points_per_side": 2, "stability_score_thresh": 0.9}
    assert counts(label(dataset, None, "everything", everything=options)) == (1, 0, 0)
    assert counts(label(dataset, None, "everything", everything=options)) == (0, 1, 0)
    assert dataset.first().everything.detections


def test_masks_on_disk(pair, tmp_path):
    folder = tmp_path / "out"
    label(pair, output_dir=folder)
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    found = [d for sample in pair for d in sample.masks.detections]
    assert {Path(d.mask_path) for d in found} == set(files)
    assert all(d.mask is None and Path(d.mask_path).stem == d.id for d in found)
    assert all(set(np.unique(np.asarray(Image.open(path)))) <= {0, 255} for path in files)
    assert iou(full_mask(found[0]), ellipse_mask(*LEFT)) > 0.97
    label(pair, output_dir=folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")} == files
    sample = pair.first()
    sample.detections.detections.pop()
    sample.save()
    (folder / "masks" / sample.id / "half.png.part").touch()  # as a kill would leave it
    label(pair, output_dir=folder)
    left = [path for path in folder.rglob("*") if path.is_file()]
    assert len(left) == 2
    assert {Path(d.mask_path) for s in pair for d in s.masks.detections} == set(left)


def test_a_folder_that_cannot_be_written_stops_the_job(pair, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Exception, match="output_dir must take the masks"):
        label(pair, job="stops", output_dir=tmp_path / "file")
    record = pair.get_run_info("mobilesam_stops").config
    assert record.counts["state"] == "stopped"
    assert "output_dir" in record.counts["reason"]


def test_groups_all_slices_or_one(make_dataset):
    group = fo.Group()
    dataset = make_dataset(
        {"detections": detections(*BOXES), "group": group.element("left")},
        {"detections": detections(BOXES[0]), "group": group.element("right")},
    )
    assert counts(label(dataset.select_group_slices("left"))) == (1, 0, 0)
    assert counts(label(dataset)) == (1, 1, 0)
    both = dataset.select_group_slices(["left", "right"])
    assert [len(sample.masks.detections) for sample in both] == [2, 1]


def test_patches_are_labelled_in_their_samples(pair):
    patches = pair.to_patches("detections").match(fo.ViewField("detections.label") == "b")
    assert counts(label(patches)) == (1, 0, 0)
    [mask] = pair.first().masks.detections
    assert iou(full_mask(mask), ellipse_mask(*RIGHT)) > 0.97
    assert counts(label(patches)) == (0, 1, 0)


def frame_masks(dataset):
    return [frame["masks"] and len(frame["masks"].detections) for frame in dataset.first().frames.values()]


def test_videos_clips_and_frames(video):
    clips = video.to_clips([[(2, 3), (3, 4)]])
    fields = {"prompt_field": "frames.detections", "label_field": "frames.masks"}
    assert counts(fom.label(clips, **fields)) == (3, 0, 0)
    assert frame_masks(video) == [None, 1, 1, 0, None, None]
    assert counts(fom.label(video, **fields)) == (3, 3, 0)
    assert frame_masks(video) == [0, 1, 1, 0, 1, 1]
    assert iou(full_mask(video.first().frames[5].masks.detections[0]), ellipse_mask(*LEFT)) > 0.9
    assert "masks.detections.predicted_iou" in video.get_frame_field_schema(flat=True)


def test_a_frames_view(video):
    view = video.to_frames(sample_frames=True)
    assert counts(label(view)) == (6, 0, 0)
    assert frame_masks(video) == [0, 1, 1, 0, 1, 1]
    assert [len(found) for found in view.values("masks.detections")] == [0, 1, 1, 0, 1, 1]
    assert counts(label(view)) == (0, 6, 0)


def test_two_workers_write_the_same_as_one_process(make_dataset):
    dataset = make_dataset(*[{"detections": detections(*BOXES)}] * 5)
    label(dataset)
    one = raw(dataset)
    dataset.delete_sample_field("masks")
    assert counts(label(dataset, workers=2, device=["cpu"])) == (5, 0, 0)
    assert raw(dataset) == one
