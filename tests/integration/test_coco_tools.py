"""What we write goes into pycocotools as it comes: `loadRes`, `mask.decode` and `COCOeval`."""

import json

import fiftyone as fo
import numpy as np
import pytest
from coco_calls import ELLIPSES, SIZE, annotation, change, coco_box, coco_folder, image, results, run, write
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scenes import LEFT, RIGHT, draw_scene, ellipse_mask, true_ellipse

import fiftyone_mobilesam as fom
from mobilesam import SAM
from mobilesam.geometry import rle


def truth_file(path, images=(1, 2)):
    """Write the true masks of the ellipses in `coco_folder`, in uncompressed run lengths."""
    rows = []
    for number in images:
        for place, ellipse in enumerate(ELLIPSES):
            mask = ellipse_mask(*ellipse)
            keys = {"bbox": coco_box(ellipse), "area": int(mask.sum()), "segmentation": rle.encode(mask), "iscrowd": 0}
            rows.append(annotation(10 * number + place, number, **keys))
    return COCO(str(write(path, [image(i, f"{'ab'[i - 1]}.png") for i in images], rows)))


def average_precision(truth, found):
    evaluation = COCOeval(truth, found, "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats[0]


def check(found):
    """Check that each annotation has a mask with pixels, and its area."""
    for made in found.dataset["annotations"]:
        assert isinstance(made["segmentation"]["counts"], (str, bytes))
        mask = coco_mask.decode(made["segmentation"])
        assert mask.sum() == coco_mask.area(made["segmentation"]) == made["area"] > 0


def test_results(sam, scene_file, tmp_path):
    truth = truth_file(tmp_path / "truth.json", images=(1,))
    model = SAM("mobile_sam.pt", device="cpu")
    [result] = model(str(scene_file), bboxes=[[x, y, x + w, y + h] for x, y, w, h in map(coco_box, ELLIPSES)])
    who = {"image_id": 1, "category_id": 1}
    rows = [
        {**who, "segmentation": mask, "score": float(score)}
        for mask, score in zip(result.rle(), result.boxes.conf, strict=True)
    ]
    found = truth.loadRes(json.loads(json.dumps(rows)))
    check(found)
    assert average_precision(truth, found) > 0.9
    for row, mask in zip(result.coco(), result.masks.data, strict=True):
        assert (coco_mask.decode(row["segmentation"]).astype(bool) == np.asarray(mask)).all()
        assert row["area"] == np.asarray(mask).sum()


@pytest.mark.parametrize("scored", [True, False])
def test_label_coco(tmp_path, scored):
    folder, truth = coco_folder(tmp_path), truth_file(tmp_path / "truth.json")
    content = results(folder, "in.json")
    content["annotations"].append(annotation(99, 1, bbox=[900, 900, 9, 9]))  # which has no mask
    for row in content["annotations"] if not scored else ():
        del row["score"]
    (folder / "in.json").write_text(json.dumps(content))
    run(folder)
    found = COCO(str(folder / "out.json"))
    *made, without = found.dataset["annotations"]
    for row in made:
        own = row["predicted_iou"] if row["mask_quality"] is None else row["mask_quality"]
        assert row["score"] == (0.5 if scored else pytest.approx(min(1, own)))
    assert without["score"] == (0.5 if scored else 0)
    assert not coco_mask.decode(without["segmentation"]).any()
    if not scored:
        assert average_precision(truth, found) > 0.9
    loaded = truth.loadRes(results(folder)["annotations"][:-1])
    assert average_precision(truth, loaded) > 0.9
    found.dataset["annotations"].remove(without)
    check(found)


def test_a_journal_of_an_earlier_version_goes_on(tmp_path):
    folder = coco_folder(tmp_path)
    run(folder)
    journal = (folder / "out.json.journal").read_bytes()
    assert b'"counts": [' in journal  # as they all have it
    before = (folder / "out.json").read_bytes()
    (folder / "out.json").unlink()
    change(folder, note="other")
    assert run(folder).done == 0
    assert (folder / "out.json").read_bytes() == before.replace(b"\xc3\xa9", b"other", 1)


def test_export_masks(make_dataset, tmp_path, model):
    from PIL import Image

    Image.fromarray(draw_scene(ELLIPSES)).save(tmp_path / "a.png")
    true = fo.Detections(detections=[true_ellipse(LEFT), true_ellipse(RIGHT)])
    for label in true.detections:
        label.confidence = None
    dataset = make_dataset({"filepath": str(tmp_path / "a.png"), "truth": true})
    dataset.apply_model(model, label_field="masks", prompt_field="truth")
    for field in ("truth", "masks"):
        fom.export_masks(dataset, field, tmp_path / f"{field}.json")
    truth, found = (COCO(str(tmp_path / f"{field}.json")) for field in ("truth", "masks"))
    check(truth)
    check(found)
    assert average_precision(truth, found) > 0.9
    assert average_precision(truth, truth.loadRes(json.loads((tmp_path / "masks.json").read_text())["annotations"]))
    assert coco_mask.decode(found.dataset["annotations"][0]["segmentation"]).shape == SIZE[::-1]
