"""COCO in, COCO out: every annotation once, done once, and the books beside it."""

import csv
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from coco_calls import ELLIPSES, annotation, change, coco_folder, image, results, run, write
from scenes import LEFT, ellipse_mask, iou

from fiftyone_mobilesam import cli
from fiftyone_mobilesam.sinks.coco_books import coco_failures
from mobilesam.errors import JobError
from mobilesam.geometry import rle
from mobilesam.weights import resolve

COCO = pytest.importorskip("pycocotools.coco", reason="pycocotools, which reads the output, is not installed").COCO


@pytest.fixture
def folder(tmp_path):
    return coco_folder(tmp_path)


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


def test_no_prompts_and_many(folder):
    rng = np.random.default_rng(0)
    many = [annotation(i, 1, bbox=[*map(float, rng.integers(0, 200, 2)), 30.0, 20.0]) for i in range(150)]
    write(folder / "in.json", [image(1, "a.png"), image(2, "b.png")], many)
    assert run(folder).prompts == 150
    assert [made["id"] for made in results(folder)["annotations"]] == list(range(150))
    write(folder / "in.json", [image(1, "a.png")], [])
    assert run(folder).prompts == 0
    assert results(folder)["annotations"] == []


def test_neither_fiftyone_nor_a_database_is_needed(folder):
    code = (
        "import sys; sys.modules.update(fiftyone=None, mongoengine=None, pymongo=None);"
        "import fiftyone_mobilesam as fom;"
        f"print(fom.label_coco({str(folder / 'in.json')!r}, {str(folder / 'images')!r}, {str(folder / 'out.json')!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "4 masks in 2 images, 0 prompts without a mask" in done.stdout
