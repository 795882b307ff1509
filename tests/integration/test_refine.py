"""`refine=True`: masks and polygons that labels have are prompts, and are made again."""

import json

import cv2
import fiftyone as fo
import fiftyone.utils.labels as foul
import numpy as np
import pytest
from coco_calls import ELLIPSES, coco_folder, results, run
from scenes import LEFT, RIGHT, SIZE, detections, ellipse_mask, full_mask, iou

import fiftyone_mobilesam as fom
from fiftyone_mobilesam.engine.ask import ask
from fiftyone_mobilesam.options import Options
from fiftyone_mobilesam.prompts import label_prompts
from mobilesam import FieldError
from mobilesam.geometry import rle, tight_region

WIDTH, HEIGHT = SIZE


def with_mask(mask, label="a", **attributes) -> fo.Detection:
    """Return a detection that has a mask of the whole scene."""
    x0, y0, x1, y1 = tight_region(mask)
    box = [x0 / WIDTH, y0 / HEIGHT, (x1 - x0) / WIDTH, (y1 - y0) / HEIGHT]
    return fo.Detection(label=label, bounding_box=box, mask=mask[y0:y1, x0:x1], **attributes)


def eroded(mask) -> np.ndarray:
    """Return a mask of which a person painted too little."""
    return cv2.erode(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0


def rotated_box(centre, radii, angle) -> fo.Polyline:
    """Return a rotated box around an ellipse that is not rotated, in fractions."""
    corners = cv2.boxPoints((centre, (2 * radii[0], 2 * radii[1]), angle))
    return fo.Polyline(
        label="r", points=[[(float(x) / WIDTH, float(y) / HEIGHT) for x, y in corners]], closed=True, filled=True
    )


def test_coarse_masks_are_repaired_and_say_how_much_they_changed(model, make_dataset):
    masks = [eroded(ellipse_mask(*LEFT)), ellipse_mask(*RIGHT)]
    dataset = make_dataset({"old": fo.Detections(detections=[with_mask(m, tags=["kept"]) for m in masks])})
    dataset.apply_model(model, label_field="new", prompt_field="old", refine=True)
    old, new = (dataset.first()[name].detections for name in ("old", "new"))
    assert [label.prompt_id for label in new] == [label.id for label in old]
    for before, after, ellipse in zip(masks, new, (LEFT, RIGHT), strict=True):
        assert iou(full_mask(after), ellipse_mask(*ellipse)) > 0.95
        assert after.outline_iou == pytest.approx(iou(full_mask(after), before), abs=1e-6)
        assert after.tags == ["kept"]
    assert new[0].outline_iou < 0.9 < new[1].outline_iou
    assert new[0].bounding_box[2] > old[0].bounding_box[2]  # it was too small


def test_polygons_are_prompts_and_open_lines_are_their_box(model, make_dataset):
    line = fo.Polyline(label="l", points=[[(0.1, 0.2), (0.45, 0.8)]], closed=False, filled=False)
    rotated = rotated_box(*RIGHT, 10)
    rotated.points = [*rotated.points, []]  # a part without points is none
    dataset = make_dataset({"shapes": fo.Polylines(polylines=[rotated, line])})
    dataset.apply_model(model, label_field="new", prompt_field="shapes", refine=True)
    shape, box = dataset.first().new.detections
    assert iou(full_mask(shape), ellipse_mask(*RIGHT)) > 0.93
    assert 0.6 < shape.outline_iou < 0.95
    assert box.outline_iou is None
    assert box.mask is not None


def test_what_cannot_be_refined_costs_that_label_alone(model, make_dataset):
    good = with_mask(ellipse_mask(*LEFT))
    empty, gone, deep, flat = (fo.Detection(label="x", bounding_box=list(good.bounding_box)) for _ in range(4))
    flat.mask = np.ones((0, 5), bool)
    empty.mask, gone.mask_path, deep.mask = np.zeros((9, 9), bool), "/nowhere/mask.png", np.ones((4, 4, 3), np.uint8)
    dataset = make_dataset({"old": fo.Detections(detections=[good, empty, gone, deep, flat])})
    dataset.apply_model(model, label_field="new", prompt_field="old", refine=True)
    assert [label.failure and label.failure.split(",")[0] for label in dataset.first().new.detections] == [
        None,
        "A mask to refine must have pixels in the image",
        "The mask to refine must be readable",
        "The mask to refine must be (H",
        "The mask to refine must be (H",
    ]


def test_a_mask_of_another_size_is_stretched_over_its_box(model, make_dataset):
    x0, y0, x1, y1 = tight_region(true := ellipse_mask(*LEFT))
    label = with_mask(true)
    label.mask = cv2.resize(true[y0:y1, x0:x1].astype(np.uint8), (28, 28), interpolation=cv2.INTER_AREA) > 0
    dataset = make_dataset({"old": fo.Detections(detections=[label])})
    dataset.apply_model(model, label_field="new", prompt_field="old", refine=True)
    [made] = dataset.first().new.detections
    assert iou(full_mask(made), true) > 0.95
    assert made.outline_iou > 0.9


def test_a_job_makes_again_what_has_another_mask(make_dataset):
    labels = [with_mask(eroded(ellipse_mask(*LEFT))), with_mask(ellipse_mask(*RIGHT), "b")]
    dataset = make_dataset({"old": fo.Detections(detections=labels)})
    call = {"prompt_field": "old", "label_field": "new", "refine": True}
    assert fom.label(dataset, **call).masks == 2
    assert fom.label(dataset, **call).up_to_date == 1
    sample = dataset.first()
    sample.new.detections[0].tags = sample.new.detections[1].tags = ["seen"]
    sample.old.detections[0].mask = np.ones_like(sample.old.detections[0].mask)
    sample.save()
    assert fom.label(dataset, **call).masks == 1
    dataset.reload()
    assert [label.tags for label in dataset.first().new.detections] == [[], ["seen"]]


def test_regions_of_a_segmentation_become_prompts_in_one_line(model, make_dataset):
    mask = 1 * eroded(ellipse_mask(*LEFT)) + 2 * ellipse_mask(*RIGHT)
    dataset = make_dataset({"areas": fo.Segmentation(mask=mask.astype(np.uint8))})
    with pytest.raises(FieldError, match="segmentations_to_detections"):
        dataset.apply_model(model, label_field="new", prompt_field="areas", refine=True)
    foul.segmentations_to_detections(dataset, "areas", "regions", mask_targets={1: "left", 2: "right"})
    dataset.apply_model(model, label_field="new", prompt_field="regions", refine=True)
    found = {label.label: full_mask(label) for label in dataset.first().new.detections}
    assert iou(found["left"], ellipse_mask(*LEFT)) > 0.95
    assert iou(found["right"], ellipse_mask(*RIGHT)) > 0.95


def test_masks_of_a_coco_file_are_refined(tmp_path):
    folder = coco_folder(tmp_path)
    content = results(folder, "in.json")
    for label in content["annotations"]:
        label["segmentation"] = rle.encode(eroded(ellipse_mask(*ELLIPSES[label["id"] % 10])))
    (folder / "in.json").write_text(json.dumps(content))
    report = run(folder, refine=True)
    assert report.masks == 4
    for made in results(folder)["annotations"]:
        true = ellipse_mask(*ELLIPSES[made["id"] % 10])
        assert iou(rle.decode(made["segmentation"]), true) > 0.95
        assert 0.6 < made["outline_iou"] < 0.95


def test_a_manifest_holds_the_mask_to_refine():
    label = with_mask(eroded(ellipse_mask(*LEFT)))
    [prompt] = label_prompts({"prompt_field": fo.Detections(detections=[label])}, Options.parse(refine=True))
    written = ask(json.loads(json.dumps(prompt.plain)), (HEIGHT, WIDTH))
    assert np.array_equal(written.outline.full((HEIGHT, WIDTH)), eroded(ellipse_mask(*LEFT)))


def test_options_that_do_not_go_with_it_are_refused(model, make_dataset):
    dataset = make_dataset({"old": detections([0.1, 0.1, 0.3, 0.3])})
    with pytest.raises(ValueError, match="into another field"):
        dataset.apply_model(model, label_field="old", prompt_field="old", in_place=True, refine=True)
    with pytest.raises(ValueError, match="without refine"):
        dataset.apply_model(model, label_field="new", prompt_field="old", box="prompt", refine=True)
