"""Whatever is wrong with a COCO file, its images or a setting costs itself, or is an error before anything is done."""

import json
import os
import pickle
import sys

import numpy as np
import pytest
from coco_calls import ELLIPSES, annotation, coco_box, coco_folder, image, results, run, write
from PIL import Image
from scenes import LEFT, RIGHT, draw_scene, ellipse_mask, iou

from fiftyone_mobilesam import label_coco
from mobilesam import AnnotationError, CheckpointError
from mobilesam.geometry import rle


@pytest.fixture
def folder(tmp_path):
    return coco_folder(tmp_path)


BAD_BOXES = {
    "NaN": [float("nan"), 0, 10, 10],
    "infinite": [0, 0, float("inf"), 10],
    "too large for a float": [1e308, 0, 1e308, 10],
    "negative size": [100, 100, -50, -50],
    "zero area": [100, 100, 0, 50],
    "outside": [1000, 1000, 50, 50],
    "left of it": [-100, 0, 50, 50],
    "short": [1, 2, 3],
    "text": ["a", "b", "c", "d"],
    "nested": [[1, 2, 3, 4]],
    "an object": {"x": 1},
    "none": None,
    "empty": [],
    "an integer of 400 digits": [10**400, 0, 10, 10],
}


def test_a_bad_annotation_costs_itself(folder, caplog):
    boxes = [annotation(i, 1, bbox=box) for i, box in enumerate(BAD_BOXES.values())]
    good = [annotation(100, 1, bbox=coco_box(LEFT)), annotation(101, 1, bbox=[-1e6, -1e6, 2e6, 2e6])]
    strange = [
        None,
        5,
        {},
        {"id": 7, "image_id": None, "bbox": [1, 1, 9, 9]},
        {"id": 7, "image_id": [1], "bbox": [1, 1, 9, 9]},
    ]
    polygon = annotation(102, 1, bbox=[0, 0, 0, 0], segmentation=[[1, 1, 9, 1, 9, 9]], area=32)
    crowd = {"size": [240, 320], "counts": [0, 10, 76790]}
    double = annotation(100, 1, bbox=coco_box(RIGHT), category_id=[9], segmentation=crowd, iscrowd=1)
    write(folder / "in.json", [image(1, "a.png")], [*boxes, *good, *strange, polygon, double])
    report = run(folder)
    out = results(folder)["annotations"]
    assert len(out) == len(boxes) + len(good) + len(strange) + 2
    for name, made in zip(BAD_BOXES, out, strict=False):
        assert made["failure"], name
        assert made["segmentation"] == rle.nothing((240, 320))
        assert f"prompt {made['id']} ({folder / 'images' / 'a.png'}): {made['failure']}" in caplog.text
    left, huge, *rest = out[len(boxes) :]
    assert left["failure"] is None
    assert huge["failure"] is None
    assert rest[:2] == [None, 5]
    assert all("image_id must be" in made["failure"] for made in rest[2:5])
    assert (rest[5]["segmentation"], rest[5]["area"]) == (polygon["segmentation"], 32)  # a failure takes nothing away
    assert rest[5]["failure"]
    assert rest[6]["failure"] is None
    assert iou(rle.decode(rest[6]["segmentation"]), ellipse_mask(*RIGHT)) > 0.9
    assert (report.masks, report.failed_prompts, report.ok) == (3, len(out) - 3, False)
    assert (report.remarks["unknown_categories"], report.remarks["duplicate_ids"]) == (4, 3)


def bad_images(images):
    """Make files that cannot be read, or are hard to read, and yield a name and whether it can be."""
    scene = Image.fromarray(draw_scene(ELLIPSES))
    scene.save(images / "whole.jpg")
    whole = (images / "whole.jpg").read_bytes()
    yield "missing.jpg", False
    for name, content in {"empty.jpg": b"", "zeros.jpg": bytes(5000), "text.jpg": b"not an image"}.items():
        (images / name).write_bytes(content)
        yield name, False
    (images / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    yield "truncated.jpg", False
    (images / "jpeg.png").write_bytes(whole)
    yield "jpeg.png", True
    for name, size in {"tiny.png": (1, 1), "long.png": (30000, 20)}.items():
        Image.new("RGB", size, "orange").save(images / name)
        yield name, True
    Image.fromarray(np.asarray(scene.convert("L")).astype(np.uint16) * 16).save(images / "twelve.png")
    yield "twelve.png", True
    Image.new("1", (1000, 800)).save(images / "large.png")
    yield "large.png", False
    (images / "loop.jpg").symlink_to("loop.jpg")
    yield "loop.jpg", False
    (images / "folder.jpg").mkdir()
    yield "folder.jpg", False
    os.mkfifo(images / "pipe.jpg")
    yield "pipe.jpg", False
    strange = "with space, 'quotes\" and 写真 ü.png"
    scene.save(images / strange)
    yield strange, True
    (images / "below").mkdir()
    scene.save(images / "below" / "c.png")
    yield "below/../below/c.png", True
    (images.parent / "beside.png").write_bytes(whole)
    yield "../beside.png", False
    yield str(images.parent / "beside.png"), False
    yield "nul\0.png", False
    yield "", False
    yield None, False
    yield 5, False


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes and links in folders as used here")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_image_costs_itself(folder, workers):
    cases = list(bad_images(folder / "images"))
    images = [{"id": i, "file_name": name} for i, (name, _) in enumerate(cases)]
    images += [image(100, "a.png", (240, 320)), image(101, "a.png"), image(101, "missing.png"), None, {"id": 102}]
    boxes = [annotation(i, i, bbox=[0, 0, 500, 500]) for i in (*range(len(cases)), 100, 101, 102, 103)]
    write(folder / "in.json", images, boxes)
    report = run(folder, workers=workers, max_pixels=30000 * 20)
    cases = [*cases, ("another size", False), ("a.png", True), ("no name", False), ("no record", False)]
    out = results(folder)
    assert out["images"] == json.loads(json.dumps(images))
    for (name, good), made in zip(cases, out["annotations"], strict=True):
        empty = made["failure"] is not None and "no pixel" in made["failure"]
        assert good == (made["failure"] is None or empty), (name, made["failure"])
    assert report.failed_prompts == sum(made["failure"] is not None for made in out["annotations"])
    assert report.remarks["duplicate_image_ids"] == 1
    assert "1 image has the id of an earlier one" in str(report)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the administrator may read everything")
def test_a_folder_without_permission_costs_its_images(folder):
    (folder / "images" / "closed").mkdir(mode=0)
    write(folder / "in.json", [image(1, "closed/a.png"), image(2, "b.png")], [annotation(1, 1), annotation(2, 2)])
    assert run(folder).failed_prompts == 2


def test_an_image_that_comes_back_is_tried_again(folder):
    (folder / "images" / "a.png").rename(folder / "images" / "kept.png")
    assert run(folder).failed_prompts == 2
    whole = (folder / "images" / "kept.png").read_bytes()
    (folder / "images" / "a.png").write_bytes(whole[:1000])
    report = run(folder)
    assert (report.failed_prompts, report.failed, report.done) == (2, 1, 0)
    (folder / "images" / "a.png").write_bytes(whole)
    report = run(folder)
    assert (report.failed_prompts, report.done) == (0, 1)


def test_something_else_at_the_output_stays(folder):
    (folder / "out.json").write_text("mine")
    with pytest.raises(FileExistsError, match="something else"):
        run(folder)
    assert (folder / "out.json").read_text() == "mine"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "JSON object"),
        ("[]", "JSON object"),
        ('{"annotations": []}', "a list of images"),
        ('{"images": {}, "annotations": []}', "a list of images"),
        ('{"images": [], "annotations": [], "annotations": []}', "a list of images"),
    ],
)
def test_what_is_not_coco_is_an_error_before_anything_is_written(folder, content, text):
    (folder / "in.json").write_text(content)
    with pytest.raises(AnnotationError, match=text):
        run(folder)
    assert not (folder / "out.json.journal").exists()


def test_wrong_settings_are_errors(folder):
    with pytest.raises(ValueError, match="segmentation must be"):
        run(folder, segmentation="png")
    with pytest.raises(ValueError, match="clip must be"):
        run(folder, clip=-1)
    with pytest.raises(ValueError, match="out must not be the input"):
        run(folder, name="in.json")
    for workers in (0, -1, "2"):
        with pytest.raises(ValueError, match="1 or more"):
            run(folder, workers=workers)
    with pytest.raises(NotADirectoryError, match="out must be in a folder"):
        run(folder, name="missing/out.json")
    with pytest.raises(NotADirectoryError, match="images must be a folder"):
        label_coco(folder / "in.json", folder / "missing", folder / "out.json")


class Evil:
    def __reduce__(self):
        return os.system, ("touch ran",)


def test_a_pickle_that_runs_code_is_refused(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "evil.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError, match="cannot be read"):
        run(folder, weights=folder / "evil.pt")
    assert not (folder / "ran").exists()
