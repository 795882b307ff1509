"""Shards come home: a merge writes what `apply_model` would have written, once, and leaves what is a person's."""

import functools
import json

import fiftyone as fo
import numpy as np
import pytest
from coco_calls import coco_folder
from scenes import LEFT, RIGHT, detections, ellipse_box, keypoints

import fiftyone_mobilesam as fom
from fiftyone_mobilesam.cluster import merge_coco, merge_into_dataset, write_coco_manifest, write_manifest
from fiftyone_mobilesam.engine.records import RecordForm, record_of_failure
from fiftyone_mobilesam.engine.run import Settings
from fiftyone_mobilesam.jobs.former import former_merge
from fiftyone_mobilesam.jobs.ray import ShardWriter
from fiftyone_mobilesam.options import MaskOptions, Options
from fiftyone_mobilesam.review import Review
from fiftyone_mobilesam.sinks.shards import check_note, note_of, read_shards, write_shard
from mobilesam import FieldError

parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: pip install 'mobilesam[ray]'")


def plain(label) -> str:
    """Describe all of a label but its id, scores to 5 digits; as text, in which NaN is NaN."""
    found = label.to_dict()
    found.pop("_id")
    return repr({key: round(value, 5) if isinstance(value, float) else value for key, value in found.items()})


def label_here(manifest, out, **options):
    """Do in this process what an actor does."""
    parsed = MaskOptions(**options)
    check_note(out, note_of("mobile_sam.pt", "fp32", parsed, cached=False), "mobile_sam.pt")
    groups = np.arange(parquet.read_metadata(manifest).num_row_groups)
    ShardWriter(str(manifest), str(out), Settings(RecordForm(), parsed, verify=False), "cpu")({"group": groups})


@pytest.mark.parametrize("options", [{}, {"box": "prompt"}, {"confidence": "predicted_iou"}])
def test_merged_labels_are_those_of_apply_model(model, make_dataset, tmp_path, options):
    odd = detections(ellipse_box(*LEFT), [2, 2, 0.1, 0.1], [0.1, 0.1, float("nan"), 0.1], [-0.2, 0.1, 0.5, 1.5])
    odd.detections[0].instance = fo.Instance()
    odd.detections[3]["colour"] = "red"
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    dataset = make_dataset(
        {"boxes": odd, "points": keypoints([(90, 120)], [(240, 100), (5000, 5)], [(5000, 5)])},
        {"boxes": detections(ellipse_box(*RIGHT), confidence=0.4, tags=["x"], index=3)},
        {"boxes": fo.Detections()},
        {"boxes": None},
        {"boxes": detections([0, 0, 1, 1]), "filepath": str(tmp_path / "broken.jpg")},
    )
    for field in ("boxes", "points"):
        dataset.apply_model(model, label_field=f"{field}_plain", prompt_field=field, **options)
        assert write_manifest(dataset, tmp_path / "manifest.parquet", prompt_field=field) == 5
        label_here(tmp_path / "manifest.parquet", tmp_path / field)
        how = {"prompt_field": field, "label_field": f"{field}_ray", **options}
        report = merge_into_dataset(dataset, tmp_path / field, **how)
        for name in ("masks", "done", "empty", "failed", "failed_prompts"):
            assert getattr(report, name) == getattr(model.last_run, name), name
        assert {f.reason for f in report.failures} == {f.reason for f in model.last_run.failures}
        dataset.reload()
        schema = dataset.get_field_schema(flat=True)
        for name in ("predicted_iou", "stability_score", "failure", "prompt_id"):
            path = f"{field}_plain.detections.{name}"
            assert type(schema[path.replace("plain", "ray")]) is type(schema[path])
        first = {}
        for sample in dataset:
            expected, merged = sample[f"{field}_plain"], sample[f"{field}_ray"]
            assert (expected is None) == (merged is None)
            first[sample.id] = merged and [label.id for label in merged.detections]
            if expected is not None:
                assert list(map(plain, merged.detections)) == list(map(plain, expected.detections))
        merge_into_dataset(dataset, tmp_path / field, **how)
        dataset.reload()
        for sample in dataset:  # the same labels, not others like them
            merged = sample[f"{field}_ray"]
            assert (merged and [label.id for label in merged.detections]) == first[sample.id]


def test_what_has_changed_since_is_not_merged(make_dataset, tmp_path):
    dataset = make_dataset({"boxes": detections(ellipse_box(*LEFT))}, {"boxes": detections(ellipse_box(*LEFT))})
    write_manifest(dataset, tmp_path / "manifest.parquet", prompt_field="boxes")
    label_here(tmp_path / "manifest.parquet", tmp_path / "out")
    sample = dataset.first()
    sample.boxes.detections[0].bounding_box = ellipse_box(*RIGHT)
    sample.save()
    report = merge_into_dataset(dataset, tmp_path / "out", prompt_field="boxes", label_field="masks")
    assert (report.masks, [failure.sample_id for failure in report.failures]) == (1, [sample.id])
    assert dataset.first().masks is None
    # In place, and with the shards of a second run beside those of the first.
    write_manifest(dataset, tmp_path / "manifest.parquet", prompt_field="boxes")
    label_here(tmp_path / "manifest.parquet", tmp_path / "out")
    report = merge_into_dataset(dataset, tmp_path / "out", prompt_field="boxes", label_field="boxes", in_place=True)
    assert (report.masks, report.failed) == (2, 0)
    assert all(sample.boxes.detections[0].mask is not None for sample in dataset)


def test_what_was_merged_is_not_merged_over(make_dataset, tmp_path):
    boxes = ellipse_box(*LEFT), ellipse_box(*RIGHT)
    dataset = make_dataset({"boxes": detections(*boxes)}, {"boxes": detections(*boxes)})
    how = {"prompt_field": "boxes", "label_field": "masks"}
    merge = functools.partial(merge_into_dataset, dataset, **how)
    write_manifest(dataset, tmp_path / "manifest.parquet", prompt_field="boxes")
    label_here(tmp_path / "manifest.parquet", tmp_path / "first")
    label_here(tmp_path / "manifest.parquet", tmp_path / "second", multimask_output=True)
    dataset.clone_sample_field("boxes", "masks")
    with pytest.raises(FieldError, match="2 of 2 samples have labels that no job wrote"):
        merge(tmp_path / "first")
    assert merge(tmp_path / "first", overwrite=True).masks == 4
    sample = dataset.first()
    sample.masks.detections[0].mask = np.ones((8, 8), dtype=bool)
    sample.save()
    review = Review(dataset, "masks")
    accepted = next(mask for mask in review.worst_first() if mask.label_id == sample.masks.detections[1].id)
    review.decide(review.load(accepted), "accepted")
    before = list(dataset._sample_collection.find())
    report = merge(tmp_path / "first")  # the same shards again: nothing changes
    assert (report.masks, report.up_to_date, report.failed) == (0, 2, 0)
    assert list(dataset._sample_collection.find()) == before
    assert merge(tmp_path / "second").masks == 3  # shards of another run: what was accepted stays
    dataset.reload()
    corrected, kept = dataset.first().masks.detections
    assert corrected.mask.shape != (8, 8)
    assert (kept["review"], kept.id) == ("accepted", accepted.label_id)
    assert (kept.mask == sample.masks.detections[1].mask).all()


def test_labels_drawn_by_hand_stay_when_another_runs_shards_come(make_dataset, tmp_path):
    dataset = make_dataset({"boxes": detections(ellipse_box(*LEFT))})
    write_manifest(dataset, tmp_path / "manifest.parquet", prompt_field="boxes")
    label_here(tmp_path / "manifest.parquet", tmp_path / "first")
    label_here(tmp_path / "manifest.parquet", tmp_path / "second", multimask_output=True)
    merge = functools.partial(merge_into_dataset, dataset, prompt_field="boxes", label_field="masks")
    merge(tmp_path / "first")
    sample = dataset.first()
    sample.masks.detections.append(fo.Detection(label="drawn", bounding_box=[0, 0, 0.1, 0.1]))
    sample.save()
    assert merge(tmp_path / "second").masks == 1
    dataset.reload()
    assert [d.label for d in dataset.first().masks.detections] == ["a", "drawn"]


def test_a_merge_takes_no_options_that_it_would_ignore(make_dataset, tmp_path):
    dataset = make_dataset({"boxes": detections(ellipse_box(*LEFT))})
    for option in ({"min_region_area": 9}, {"merge": True}, {"clip": False}):
        with pytest.raises(TypeError, match="must be left out of a merge"):
            merge_into_dataset(dataset, tmp_path, prompt_field="boxes", label_field="masks", **option)
    write_manifest(dataset, tmp_path / "manifest.parquet", prompt_field="boxes")
    label_here(tmp_path / "manifest.parquet", tmp_path / "out", min_region_area=10_000_000)
    merge_into_dataset(dataset, tmp_path / "out", prompt_field="boxes", label_field="masks")
    job = fom.label(dataset, "boxes", "masks", min_region_area=10_000_000)
    assert (job.done, job.up_to_date) == (0, 1)  # one identity: a job knows what shards have made


def test_merging_twice_in_place_changes_nothing(make_dataset, tmp_path):
    dataset = make_dataset({"boxes": detections([0.123, 0.211, 0.3131, 0.583])})
    write_manifest(dataset, tmp_path / "manifest.parquet", prompt_field="boxes")
    label_here(tmp_path / "manifest.parquet", tmp_path / "out")
    for masks, up_to_date in ((1, 0), (0, 1)):
        how = {"prompt_field": "boxes", "label_field": "boxes", "in_place": True}
        report = merge_into_dataset(dataset, tmp_path / "out", **how)
        assert (report.masks, report.up_to_date, report.failed) == (masks, up_to_date, 0)
        documents = list(dataset._sample_collection.find())
    assert list(dataset._sample_collection.find()) == documents


def test_wrong_input_is_an_error_before_anything_is_done(make_dataset, tmp_path):
    dataset = make_dataset({"boxes": detections(ellipse_box(*LEFT))})
    with pytest.raises(FieldError, match="prompt_field must name"):
        write_manifest(dataset, tmp_path / "manifest.parquet")
    with pytest.raises(FieldError, match="samples must be"):
        write_manifest(dataset.to_patches("boxes"), tmp_path / "manifest.parquet", prompt_field="boxes")
    with pytest.raises(FileNotFoundError, match="shards of a run"):
        merge_into_dataset(dataset, tmp_path, prompt_field="boxes", label_field="masks")
    assert not (tmp_path / "manifest.parquet").exists()


def test_what_an_earlier_version_merged_is_known(make_dataset, tmp_path):
    """Version 0.1 named it by the options of the call, which said nothing of how the masks were made."""
    dataset = make_dataset({"boxes": detections(ellipse_box(*LEFT))})
    write_manifest(dataset, tmp_path / "manifest.parquet", prompt_field="boxes")
    label_here(tmp_path / "manifest.parquet", tmp_path / "out", clip=False)
    merge = functools.partial(merge_into_dataset, dataset, tmp_path / "out", prompt_field="boxes", label_field="masks")
    merge()
    [row] = read_shards(tmp_path / "out")
    before = former_merge(row["id"], row["records"], Options(prompt_field="boxes"))
    dataset._sample_collection.update_many({}, {"$set": {"masks.fingerprint": before}})
    dataset.reload()
    assert (merge().masks, merge().up_to_date) == (0, 1)


@pytest.mark.parametrize("name", ["0", "z"])  # shards are read in the order of their names
def test_a_failed_try_takes_nothing_away(tmp_path, name):
    folder, out = coco_folder(tmp_path), tmp_path / "out"
    write_coco_manifest(folder / "in.json", folder / "images", tmp_path / "manifest.parquet")
    label_here(tmp_path / "manifest.parquet", out)
    [row, _] = read_shards(out)
    failed = json.dumps(record_of_failure("The disk was away."))
    write_shard(out / "shards" / f"{name}.parquet", [{**row, "records": [failed] * 2, "failure": "The disk was away."}])
    assert merge_coco(folder / "in.json", out, tmp_path / "out.json").masks == 4
