"""Figures by hand, and a scene whose truth is known, beside pycocotools."""

import json
import re

import numpy as np
import pytest
from PIL import Image
from scenes import LEFT, RIGHT, draw_scene, ellipse_mask

from mobilesam import SAM, AnnotationError, ImageError
from mobilesam.geometry import rle
from mobilesam.geometry.masks import interior_point
from mobilesam.quality.comparison import Comparison
from mobilesam.quality.metrics import (
    boundary,
    boundary_iou,
    calibration,
    jittered,
    mask_iou,
    ranks,
    size_of,
)
from mobilesam.quality.validation import validate


def square(start, stop, side=100):
    mask = np.zeros((side, side), dtype=bool)
    mask[start:stop, start:stop] = True
    return mask


def test_iou_by_hand():
    assert mask_iou(square(0, 10), square(5, 15)) == 25 / 175
    assert mask_iou(square(0, 0), square(0, 0)) == 1


def test_boundary_by_hand():
    """2% of a diagonal of 141 pixels is 3 pixels."""
    assert boundary(square(20, 60)).sum() == 40**2 - 34**2
    assert boundary_iou(square(20, 60), square(20, 60)) == 1
    # One pixel smaller all around: the inner border is 38^2 - 32^2, and 38^2 - 34^2 of it are common.
    assert boundary_iou(square(20, 60), square(21, 59)) == (38**2 - 34**2) / (40**2 - 32**2)
    assert boundary(square(0, 100)).sum() == 100**2 - 94**2  # the image's edge is a border


def test_sizes_are_those_of_coco():
    assert [size_of(area) for area in (1023, 1024, 9215, 9216)] == ["small", "medium", "medium", "large"]


def test_interior_point_and_jitter():
    assert interior_point(square(20, 61)) == (40.5, 40.5)
    assert interior_point(square(0, 100))[0] == pytest.approx(50, abs=1)
    rng, box = np.random.default_rng(0), np.array([10.0, 20, 50, 40])
    moved = np.array([jittered(box, 0.1, rng, (100, 100)) for _ in range(200)])
    assert (abs(moved - box) <= [4, 2, 4, 2]).all()
    assert moved.std(axis=0) == pytest.approx(np.array([8, 4, 8, 4]) / 12**0.5, rel=0.15)


def test_calibration_by_hand():
    found = calibration(np.array([0.95, 0.91, 0.42, 1.1]), np.array([0.9, 0.7, 0.5, 1.0]))
    assert [row["count"] for row in found["bins"]] == [1, 3]
    assert found["expected_calibration_error"] == pytest.approx((abs(0.42 - 0.5) + abs(0.95 + 0.91 + 1.1 - 2.6)) / 4)
    assert found["spearman"] == pytest.approx(1)
    assert list(ranks(np.array([5, 1, 5, 9]))) == [2.5, 1, 2.5, 4]
    assert calibration(np.array([0.5]), np.array([0.5]))["pearson"] is None


def test_a_prediction_that_no_mask_has_is_left_out_of_the_table():
    rows = [{"image": "a", "category": "a", "size": "small", "iou": iou, "boundary_iou": iou} for iou in (0.2, 0.8)]
    found = Comparison([row | {"predicted_iou": row["iou"], "mask_quality": None} for row in rows])
    assert found.calibration("mask_quality")["share_of_gain"] is None
    assert "mask_quality against" not in found.table()
    assert "Predicted against true IoU: pearson 1.00, spearman 1.00" in found.table()


def test_the_share_of_gain_is_that_of_the_lowest_quarter():
    rows = [
        {"image": "a", "category": "a", "size": "small", "iou": iou, "boundary_iou": iou, "predicted_iou": told}
        for iou, told in zip((0.0, 1.0, 1.0, 1.0), (0.1, 0.9, 0.9, 0.9), strict=True)
    ]
    assert Comparison(rows).calibration()["share_of_gain"] == pytest.approx(1)
    rows[0]["predicted_iou"], rows[1]["predicted_iou"] = 0.9, 0.1
    assert Comparison(rows).calibration()["share_of_gain"] == pytest.approx(-1 / 3)


@pytest.fixture
def coco(tmp_path):
    """A COCO file of two scenes and an image that cannot be read."""
    images, annotations = [], []
    for number, ellipses in enumerate(([LEFT, RIGHT], [LEFT], [LEFT]), 1):
        images.append({"id": number, "file_name": f"{number}.png", "width": 320, "height": 240})
        Image.fromarray(draw_scene(ellipses)).save(tmp_path / f"{number}.png")
        for ellipse in ellipses:
            mask = ellipse_mask(*ellipse)
            ys, xs = np.nonzero(mask)
            box = [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
            annotation = {"id": len(annotations) + 1, "image_id": number, "category_id": 7, "iscrowd": 0}
            annotation |= {"bbox": [int(v) for v in box], "area": int(mask.sum()), "segmentation": rle.encode(mask)}
            annotations.append(annotation)
    (tmp_path / "3.png").write_bytes(b"no image")
    content = {"images": images, "annotations": annotations, "categories": [{"id": 7, "name": "ellipse"}]}
    (tmp_path / "truth.json").write_text(json.dumps(content))
    return tmp_path / "truth.json"


# Masks are cut at boxes that moved inwards.
@pytest.mark.parametrize(("prompts", "least"), [("box", 0.95), ("point", 0.95), ("jitter", 0.85)])
def test_a_scene_with_known_truth(sam, coco, tmp_path, capsys, prompts, least):
    report = SAM(sam).val(coco, tmp_path, prompts=prompts)
    assert capsys.readouterr().out == ""
    assert len(report.rows) == 3
    assert report.mean() > least
    assert report.mean(category="ellipse") == report.mean()
    assert [path for path, _ in report.failed] == [str(tmp_path / "3.png")]
    assert report.ap["AP50"] == pytest.approx(1)
    assert "| all | 3 |" in report.table()
    assert "3.png" in report.table()
    assert "mask_quality against true IoU: " in report.table()
    assert report.calibration("mask_quality")["count"] == len(report.rows)
    assert json.loads(json.dumps(report.as_dict()))["objects"] == 3


def test_a_bad_annotation_costs_itself(sam, coco, tmp_path):
    content = json.loads(coco.read_text())
    good = content["annotations"][0]
    bad = [
        ({"bbox": [400, 300, 20, 20]}, "must overlap"),
        ({"bbox": None}, "bbox must be"),
        ({"segmentation": []}, "segmentation must"),
        ({"segmentation": {"size": [10, 10], "counts": [0, 100]}}, "for an image of"),
    ]
    content["annotations"] = [{**good, "id": 1}, {**good, "id": 2, "category_id": 99}]
    content["annotations"] += [{**good, **change, "id": 3 + i} for i, (change, _) in enumerate(bad)]
    content["images"] = content["images"][:1]
    coco.write_text(json.dumps(content))
    report = SAM(sam).val(coco, tmp_path)
    assert [row["category"] for row in report.rows] == ["ellipse", "unknown category"]
    assert [name.rsplit(" ", 1)[1] for name, _ in report.failed] == ["3", "4", "5", "6"]
    for (_, said), (_, reason) in zip(bad, report.failed, strict=True):
        assert re.search(said, reason), reason


@pytest.mark.parametrize("text", ["{nope", "[]", '{"images": [], "annotations": [{"id": 1}]}', None])
def test_a_file_that_is_not_coco_is_an_error(sam, tmp_path, text):
    path = tmp_path / "coco.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(AnnotationError, match="must be a COCO file"):
        SAM(sam).val(path, tmp_path)


def test_figures_are_those_of_pycocotools(sam, coco50):
    from pycocotools import mask as coco_mask
    from pycocotools.coco import COCO

    from mobilesam import SamPredictor, make_prompts
    from mobilesam.geometry import snap_outward
    from mobilesam.images import read_image

    predictor = SamPredictor(sam, fast=True)
    report = validate(predictor, coco50 / "instances.json", coco50 / "images", limit=3)
    truth, expected = COCO(str(coco50 / "instances.json")), []
    for name in dict.fromkeys(row["image"] for row in report.rows):
        [record] = [image for image in truth.dataset["images"] if image["file_name"] == name]
        image = read_image(coco50 / "images" / name)
        predictor.set_image(image)
        for annotation in truth.loadAnns(truth.getAnnIds(record["id"], iscrowd=False)):
            x, y, width, height = annotation["bbox"]
            region = snap_outward(np.array([x, y, x + width, y + height]), original_hw=image.shape[:2])
            [[crop]] = predictor.predict_batch(make_prompts(boxes=[[x, y, x + width, y + height]]), regions=[region])
            ours = coco_mask.encode(np.asfortranarray(crop.full(image.shape[:2]).astype(np.uint8)))
            expected.append(coco_mask.iou([ours], [truth.annToRLE(annotation)], [0])[0, 0])
    assert [row["iou"] for row in report.rows] == pytest.approx(expected, abs=1e-3)


def test_errors_say_what_to_do(sam, coco, tmp_path):
    with pytest.raises(ImageError, match="with none"):
        SAM(sam).val(coco, tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="box, point, jitter"):
        SAM(sam).val(coco, tmp_path, prompts="text")
