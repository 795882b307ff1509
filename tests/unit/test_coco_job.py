"""COCO in, COCO out: every annotation once, whatever is wrong with it or its image."""

import csv
import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scenes import LEFT, RIGHT, draw_scene, ellipse_mask, iou

from fiftyone_mobilesam import cli, label_coco
from fiftyone_mobilesam.sinks.coco_books import coco_failures
from mobilesam import AnnotationError, CheckpointError
from mobilesam.errors import JobError
from mobilesam.geometry import rle
from mobilesam.weights import resolve

COCO = pytest.importorskip("pycocotools.coco", reason="pycocotools, which reads the output, is not installed").COCO
ELLIPSES = (LEFT, RIGHT)
SIZE = (320, 240)


def coco_box(ellipse):
    (cx, cy), (rx, ry) = ellipse
    return [cx - rx, cy - ry, 2 * rx, 2 * ry]


def annotation(number, image_id, **keys):
    return {"id": number, "image_id": image_id, "category_id": 1, "score": 0.5, "note": "é", **keys}


def write(path, images, annotations, **keys):
    content = {"info": {"year": 2026}, "images": images, "annotations": annotations}
    path.write_text(json.dumps({**content, "categories": [{"id": 1, "name": "ellipse"}], **keys}))
    return path


def image(number, name, size=SIZE):
    return {"id": number, "file_name": name, "width": size[0], "height": size[1]}


@pytest.fixture
def folder(tmp_path):
    """A folder `images` with `a.png` and `b.png`, and `in.json` with two boxes in each."""
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        Image.fromarray(draw_scene(ELLIPSES)).save(tmp_path / "images" / f"{name}.png")
    boxes = [annotation(10 * i + j, i, bbox=coco_box(ELLIPSES[j])) for j in range(2) for i in (1, 2)]
    write(tmp_path / "in.json", [image(1, "a.png"), image(2, "b.png")], boxes)
    return tmp_path


def run(folder, name="out.json", **options):
    return label_coco(
        folder / "in.json", folder / "images", folder / name, progress=False, verify=False, device="cpu", **options
    )


def results(folder, name="out.json"):
    return json.loads((folder / name).read_text())


def change(folder, **keys):
    """Change the first annotation."""
    content = results(folder, "in.json")
    content["annotations"][0].update(keys)
    (folder / "in.json").write_text(json.dumps(content))


@pytest.mark.parametrize("segmentation", ["rle", "polygon"])
def test_pycocotools_reads_the_masks(folder, segmentation):
    report = run(folder, segmentation=segmentation)
    assert (report.prompts, report.masks, report.failed_prompts, report.ok) == (4, 4, 0, True)
    before, out = results(folder, "in.json"), COCO(folder / "out.json")
    for given, made in zip(before["annotations"], out.dataset["annotations"], strict=True):
        assert {key: made[key] for key in given} == given
        mask = out.annToMask(made)
        true = ellipse_mask(*ELLIPSES[made["id"] % 10])
        assert iou(mask == 1, true) > 0.95
        assert mask.sum() == made["area"]
        assert (made["failure"], made["iscrowd"]) == (None, 0)
        assert all(0.8 < made[name] < 1.1 for name in ("predicted_iou", "stability_score"))
    assert {key: out.dataset[key] for key in before if key != "annotations"} == {
        key: value for key, value in before.items() if key != "annotations"
    }
    if segmentation == "polygon":
        loss = report.polygons
        assert (loss.masks_in, loss.masks_out, loss.largest_area_error) == (4, 4, 0)
        assert loss.area_in == loss.area_out == sum(made["area"] for made in out.dataset["annotations"])
    books = json.loads((folder / "out.json.report.json").read_text())
    assert {name: books[name] for name in ("state", "masks", "prompts")} == {
        "state": "finished",
        "masks": 4,
        "prompts": 4,
    }


def test_boxes_are_left_or_made_tight(folder):
    run(folder, box="mask")
    for made in results(folder)["annotations"]:
        ys, xs = np.nonzero(rle.decode(made["segmentation"]))
        x0, y0 = int(xs.min()), int(ys.min())
        assert made["bbox"] == [x0, y0, int(xs.max()) + 1 - x0, int(ys.max()) + 1 - y0]


def test_again_does_nothing_and_changes_do_what_they_touch(folder):
    assert run(folder).done == 2
    first = (folder / "out.json").read_bytes()
    assert run(folder).done == 0
    assert (folder / "out.json").read_bytes() == first
    assert run(folder, box="mask", segmentation="polygon").done == 0  # only written in another way
    change(folder, note="other", category_id=7)
    assert run(folder).done == 0
    change(folder, bbox=[30.0, 40.0, 120.0, 160.0])
    assert run(folder).done == 1
    assert run(folder, clip=False).done == 2
    os.utime(folder / "images" / "a.png", (1, 1))
    assert run(folder, clip=False).done == 1
    fresh = (folder / "out.json").read_bytes()
    (folder / "out.json.journal").unlink()
    assert run(folder, clip=False).done == 2
    assert (folder / "out.json").read_bytes() == fresh


def test_keypoints_do_where_there_is_no_box(folder):
    (cx, cy), _ = LEFT
    content = results(folder, "in.json")
    content["annotations"] = [
        annotation(1, 1, keypoints=[cx, cy, 2, 240, 100, 1, 0, 0, 0, cx - 10, cy, 2]),
        annotation(2, 1, keypoints=[cx, cy, 1]),
        annotation(3, 1, keypoints=[cx, cy]),
        annotation(4, 1, keypoints=[5000, 5000, 2]),
    ]
    (folder / "in.json").write_text(json.dumps(content))
    run(folder)
    good, hidden, cut, outside = results(folder)["annotations"]
    mask = rle.decode(good["segmentation"])
    assert iou(mask, ellipse_mask(*LEFT)) > 0.9
    assert good["bbox"][2] > 60
    assert "visible" in hidden["failure"]
    assert "x, y, v" in cut["failure"]
    assert "in the image of 320 x 240" in outside["failure"]


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
        assert made["segmentation"] == {"size": [240, 320], "counts": [76800]}
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


def test_status_failures_and_resume_go_by_the_output(folder, capsys, monkeypatch):
    (folder / "images" / "a.png").rename(folder / "images" / "kept.png")
    monkeypatch.chdir(folder)
    shutil.copy(resolve("mobile_sam.pt"), folder / "own.safetensors")
    words = ["--coco", "in.json", "--images", "images", "--out", "out.json", "--weights", "own.safetensors"]
    assert cli.main(["label", *words, "--device", "cpu"]) == 1
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    capsys.readouterr()
    assert cli.main(["status", "../out.json", "--json"]) == 0
    books = json.loads(capsys.readouterr().out)
    assert (books["state"], books["prompts"], books["masks"], books["failed_prompts"]) == ("finished", 4, 2, 2)
    assert cli.main(["failures", "../out.json", "--export", "failures.csv"]) == 0
    rows = list(csv.DictReader((folder / "elsewhere" / "failures.csv").open(encoding="utf-8")))
    assert [(row["image_id"], row["annotation_id"], row["file_name"]) for row in rows] == [
        ("1", "10", "a.png"),
        ("1", "11", "a.png"),
    ]
    assert all("a.png" in row["reason"] for row in rows)
    (folder / "images" / "kept.png").rename(folder / "images" / "a.png")
    assert cli.main(["resume", "../out.json"]) == 0
    assert "4 masks in 1 image, 1 image up to date, 0 prompts without a mask" in capsys.readouterr().out
    assert cli.main(["status", "nothing.json"]) == 2
    assert "without a report beside it" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "state"), [(KeyboardInterrupt, "interrupted"), (OSError("full"), "stopped")])
def test_the_report_says_how_a_job_ended(folder, monkeypatch, error, state):
    def end(*args):
        raise error

    monkeypatch.setattr("fiftyone_mobilesam.sinks.journal.Journal.append", end)
    with pytest.raises((KeyboardInterrupt, OSError)):
        run(folder)
    assert results(folder, "out.json.report.json")["state"] == state
    with pytest.raises(JobError, match=f"which is {state}"):
        list(coco_failures(folder / "out.json"))


def test_something_else_at_the_output_stays(folder):
    (folder / "out.json").write_text("mine")
    with pytest.raises(FileExistsError, match="something else"):
        run(folder)
    assert (folder / "out.json").read_text() == "mine"


def test_no_prompts_and_many(folder):
    rng = np.random.default_rng(0)
    many = [annotation(i, 1, bbox=[*map(float, rng.integers(0, 200, 2)), 30.0, 20.0]) for i in range(150)]
    write(folder / "in.json", [image(1, "a.png"), image(2, "b.png")], many)
    assert run(folder).prompts == 150
    assert [made["id"] for made in results(folder)["annotations"]] == list(range(150))
    write(folder / "in.json", [image(1, "a.png")], [])
    assert run(folder).prompts == 0
    assert results(folder)["annotations"] == []


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


def test_neither_fiftyone_nor_a_database_is_needed(folder):
    code = (
        "import sys; sys.modules.update(fiftyone=None, mongoengine=None, pymongo=None);"
        "import fiftyone_mobilesam as fom;"
        f"print(fom.label_coco({str(folder / 'in.json')!r}, {str(folder / 'images')!r}, {str(folder / 'out.json')!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "4 masks in 2 images, 0 prompts without a mask" in done.stdout
