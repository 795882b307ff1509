"""`load_model(cache_dir=...)`: a second run over the same images encodes nothing."""

from scenes import LEFT, RIGHT, detections, ellipse_box, ellipse_mask, full_mask, iou

import fiftyone_mobilesam as fom


def test_a_second_run_encodes_nothing(make_dataset, tmp_path, monkeypatch):
    dataset = make_dataset({"a": detections(ellipse_box(*LEFT)), "b": detections(ellipse_box(*RIGHT))})
    first = fom.load_model(device="cpu", cache_dir=tmp_path / "cache")
    dataset.apply_model(first, label_field="masks_a", prompt_field="a")
    assert len(list((tmp_path / "cache").rglob("*.embedding"))) == 1
    second = fom.load_model(device="cpu", cache_dir=tmp_path / "cache")
    monkeypatch.delattr(second.predictor.backend.__class__, "encode_image")
    dataset.apply_model(second, label_field="masks_b", prompt_field="b")
    assert not second.last_run.failures
    [mask] = dataset.first().masks_b.detections
    assert iou(full_mask(mask), ellipse_mask(*RIGHT)) > 0.97


def test_jobs_share_a_cache_and_know_that_embeddings_are_rounded(make_dataset, tmp_path):
    dataset = make_dataset({"detections": detections(ellipse_box(*LEFT))})
    call = {"prompt_field": "detections", "label_field": "masks"}
    assert fom.label(dataset, **call).done == 1
    assert fom.label(dataset, **call, cache_dir=tmp_path / "cache").done == 1
    [entry] = (tmp_path / "cache").rglob("*.embedding")
    made = entry.stat()
    dataset.set_values("detections.detections.bounding_box", [[list(ellipse_box(*RIGHT))]])
    assert fom.label(dataset, **call, cache_dir=tmp_path / "cache").done == 1
    assert list((tmp_path / "cache").rglob("*.embedding")) == [entry]
    used = entry.stat()
    assert used.st_ino == made.st_ino  # it was not made again
    assert used.st_mtime_ns > made.st_mtime_ns
