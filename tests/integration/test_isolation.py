"""One bad image or prompt costs itself, is written down, and never costs another."""

import logging
import math
import os
import pickle

import fiftyone as fo
import numpy as np
import pytest
import torch.multiprocessing
from PIL import Image
from scenes import LEFT, RIGHT, detections, draw_scene, ellipse_box, ellipse_mask, full_mask, iou, keypoints

from fiftyone_mobilesam.image_loader import ImageLoader
from fiftyone_mobilesam.options import Options
from fiftyone_mobilesam.zoo import MobileSAMModel
from mobilesam import ImageError, PromptError, SamPredictor

GOOD = ellipse_box(*LEFT)
BAD_BOXES = {
    "NaN": ([math.nan, 0.1, 0.2, 0.2], "finite"),
    "infinite": ([0.1, 0.1, math.inf, 0.2], "finite"),
    "inverted": ([0.5, 0.5, -0.2, 0.2], "x2 > x1"),
    "zero area": ([0.5, 0.5, 0.0, 0.2], "x2 > x1"),
    "outside": ([1.5, 0.2, 0.2, 0.2], "overlap"),
    "missing": (None, "bounding_box"),
}


@pytest.fixture
def broken_files(tmp_path):
    """Files that are no image, in the ways that happen."""
    path = tmp_path / "whole.jpg"
    Image.fromarray(draw_scene([LEFT])).save(path)
    whole = path.read_bytes()
    contents = {"truncated.jpg": whole[: len(whole) // 2], "empty.jpg": b"", "text.jpg": b"no image at all"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return [str(tmp_path / name) for name in [*contents, "missing.jpg"]]


@pytest.fixture(params=["fork", "spawn"])
def start_method(request):
    before = torch.multiprocessing.get_start_method(allow_none=True)
    torch.multiprocessing.set_start_method(request.param, force=True)
    yield request.param
    torch.multiprocessing.set_start_method(before, force=True)


def run_with_everything_bad(model, make_dataset, broken_files, **kwargs):
    bad_prompts = fo.Detections(
        detections=[fo.Detection(label=name, bounding_box=box) for name, (box, _) in BAD_BOXES.items()]
    )
    dataset = make_dataset(
        {"detections": detections(GOOD)},
        {"detections": None},
        *[{"filepath": path, "detections": detections(GOOD)} for path in broken_files],
        {"detections": fo.Detections()},
        {"detections": bad_prompts},
        {"detections": fo.Detections(detections=[*bad_prompts.copy().detections, *detections(GOOD).detections])},
        {"detections": detections(GOOD)},
    )
    dataset.apply_model(model, label_field="masks", prompt_field="detections", batch_size=5, **kwargs)
    return dataset


def check_everything_bad(model, dataset, broken_files):
    first, no_field, *unreadable, no_prompts, all_bad, one_good, last = dataset
    for sample in (first, last):
        assert iou(full_mask(sample.masks.detections[0]), ellipse_mask(*LEFT)) > 0.97
    for sample in (no_field, no_prompts):
        assert sample.masks.detections == []
    for sample in unreadable:
        assert sample.masks is None
    for name, mask in zip(BAD_BOXES, all_bad.masks.detections, strict=True):
        box, text = BAD_BOXES[name]
        assert (mask.label, mask.mask) == (name, None)
        assert text in mask["failure"]
        if box is not None:
            assert np.array_equal(mask.bounding_box, box, equal_nan=True)
    assert [mask.mask is None for mask in one_good.masks.detections] == [True] * len(BAD_BOXES) + [False]

    report = model.last_run
    of_images = [failure for failure in report.failures if failure.prompt_id is None]
    assert (report.total, report.done, report.empty, report.failed, report.masks) == (10, 6, 2, len(broken_files), 3)
    assert [failure.filepath for failure in of_images] == broken_files
    assert [failure.sample_id for failure in of_images] == [sample.id for sample in unreadable]
    assert len(report.failures) - len(of_images) == report.failed_prompts == 2 * len(BAD_BOXES)
    assert all(failure.reason for failure in report.failures)
    assert (report.state, report.ok) == ("finished", False)


def test_all_at_once_without_workers(model, make_dataset, broken_files):
    dataset = run_with_everything_bad(model, make_dataset, broken_files, num_workers=0)
    check_everything_bad(model, dataset, broken_files)


def test_all_at_once_with_two_workers(model, make_dataset, broken_files, start_method):
    dataset = run_with_everything_bad(model, make_dataset, broken_files, num_workers=2)
    check_everything_bad(model, dataset, broken_files)


def test_the_run_ends_with_one_summary(model, make_dataset, broken_files):
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record)
    logging.getLogger("fiftyone.mobilesam").addHandler(handler)
    try:
        run_with_everything_bad(model, make_dataset, broken_files, num_workers=0)
    finally:
        logging.getLogger("fiftyone.mobilesam").removeHandler(handler)
    [record] = lines
    text = record.getMessage()
    assert record.levelno == logging.WARNING
    assert "3 masks in 6 images, 2 images without prompts, 12 prompts without a mask, 4 images failed" in text
    assert "truncated.jpg" in text
    assert "`failures` of this report has them, of apply_model model.last_run" in text


def test_bad_keypoints_keep_their_records(model, make_dataset):
    bad = keypoints([], [(math.nan, math.nan)], [(90, 120)], [(90, 120)], [(400, 100)])
    bad.keypoints[2]["sam_labels"] = [0]
    bad.keypoints[3]["sam_labels"] = [1, 1, 1]
    good = keypoints([(90, 120)])
    dataset = make_dataset(
        {"keypoints": bad}, {"keypoints": fo.Keypoints(keypoints=bad.copy().keypoints + good.keypoints)}
    )
    dataset.apply_model(model, label_field="masks", prompt_field="keypoints", batch_size=2, num_workers=0)
    first, second = dataset
    assert [mask.mask is None for mask in first.masks.detections] == [True] * 5
    assert all("must have" in mask["failure"] for mask in first.masks.detections)
    assert [mask.mask is None for mask in second.masks.detections] == [True] * 5 + [False]
    assert [mask["prompt_id"] for mask in first.masks.detections] == [label.id for label in bad.keypoints]


@pytest.mark.parametrize("x", [-0.1, 0.95], ids=["left", "right"])
def test_a_box_over_the_border_is_clipped_not_lost(model, make_dataset, tmp_path, x):
    centre = (x + 0.075) * 320, 120
    path = tmp_path / "border.png"
    Image.fromarray(draw_scene([(centre, (24, 50))])).save(path)
    box = [x, 70 / 240, 0.15, 100 / 240]
    dataset = make_dataset({"filepath": str(path), "detections": detections(box)})
    dataset.apply_model(model, label_field="masks", prompt_field="detections")
    [mask] = dataset.first().masks.detections
    assert min(mask.bounding_box[:2]) >= 0
    assert mask.bounding_box[0] + mask.bounding_box[2] <= 1
    assert iou(full_mask(mask), ellipse_mask(centre, (24, 50))) > 0.9


def test_a_box_thinner_than_a_pixel_costs_nobody(model, make_dataset):
    thin = [[1 - 1e-9, 0.3, 0.2, 0.2], [0.5, 0.5, 1e-9, 0.2], [-0.2, 0.1, 0.2 + 1e-9, 0.1]]
    dataset = make_dataset({"detections": detections(*thin, GOOD)})
    dataset.apply_model(model, label_field="masks", prompt_field="detections", num_workers=0)
    *thin_masks, good = dataset.first().masks.detections
    assert len(thin_masks) == 3
    assert iou(full_mask(good), ellipse_mask(*LEFT)) > 0.97


def test_an_image_the_model_fails_on_costs_only_itself(model, make_dataset, monkeypatch):
    """Out of memory, say: the batch is encoded again one by one."""
    encode = model.predictor.encode_images

    def fails_on_two(images):
        if any(image.shape[0] == 100 for image in images):
            raise RuntimeError("out of memory")
        return encode(images)

    monkeypatch.setattr(model.predictor, "encode_images", fails_on_two)
    dataset = make_dataset(*[{"detections": detections(GOOD)}] * 3)
    victim = dataset.skip(1).first()
    Image.new("RGB", (100, 100)).save(victim.filepath)
    dataset.apply_model(model, label_field="masks", prompt_field="detections", batch_size=3, num_workers=0)
    assert [sample.masks is None for sample in dataset] == [False, True, False]
    [failure] = model.last_run.failures
    assert (failure.sample_id, failure.prompt_id) == (victim.id, None)
    assert "out of memory" in failure.reason


def test_on_error_raise_stops_at_the_first_image(model, make_dataset, broken_files):
    dataset = make_dataset(
        {"detections": detections(GOOD)},
        {"filepath": broken_files[0], "detections": detections(GOOD)},
        {"detections": detections(GOOD)},
    )
    with pytest.raises(ImageError, match=r"truncated\.jpg"):
        dataset.apply_model(
            model, label_field="masks", prompt_field="detections", on_error="raise", batch_size=1, num_workers=0
        )
    assert [sample.has_field("masks") and sample["masks"] is not None for sample in dataset] == [True, False, False]


def test_on_error_raise_stops_at_the_first_prompt(model, make_dataset):
    dataset = make_dataset({"detections": detections(BAD_BOXES["NaN"][0])})
    with pytest.raises(PromptError, match="finite"):
        dataset.apply_model(model, label_field="masks", prompt_field="detections", on_error="raise", num_workers=0)


def test_an_image_gets_the_same_masks_whoever_is_in_its_batch(model, make_dataset):
    """FiftyOne's SAM2 decodes every image of a batch with the last one's embedding."""
    samples = [{"detections": detections(GOOD)}, {"detections": detections(ellipse_box(*RIGHT), GOOD)}]
    dataset = make_dataset(*samples, *samples[::-1])
    wide = draw_scene([((200, 60), (90, 40))], size=(400, 120))
    Image.fromarray(wide).save(dataset.skip(1).first().filepath)
    dataset.apply_model(model, label_field="together", prompt_field="detections", batch_size=4, num_workers=0)
    dataset.apply_model(model, label_field="alone", prompt_field="detections", batch_size=1, num_workers=0)
    for sample in dataset:
        for a, b in zip(sample.together.detections, sample.alone.detections, strict=True):
            assert np.array_equal(a.mask, b.mask)
            assert a.predicted_iou == pytest.approx(b.predicted_iou, abs=1e-5)


def test_workers_get_no_network():
    assert len(pickle.dumps(ImageLoader())) < 1000


@pytest.mark.skipif(os.getuid() == 0, reason="the superuser may read every file")
def test_a_file_without_permission_is_a_failure(model, make_dataset):
    dataset = make_dataset({"detections": detections(GOOD)})
    os.chmod(dataset.first().filepath, 0)
    dataset.apply_model(model, label_field="masks", prompt_field="detections", num_workers=0)
    assert model.last_run.failed == 1


def test_a_model_predicts_before_its_first_run(sam, make_dataset):
    sample = make_dataset({"detections": detections(GOOD)}).first()
    fresh = MobileSAMModel(SamPredictor(sam, fast=True), Options(prompt_field="detections"))
    [mask] = fresh.predict(Image.open(sample.filepath), sample).detections
    assert mask.failure is None
