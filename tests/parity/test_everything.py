"""Segment everything beside upstream, record for record, and what upstream stumbles over."""

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_masks
from scenes import LEFT, RIGHT, draw_scene, ellipse_mask, iou
from tolerances import RECORD_SCORE, same_mask

from mobilesam import SAM, PromptError, SamAutomaticMaskGenerator, SamPredictor, build_sam_vit_t

SCORES = ("predicted_iou", "stability_score")


@pytest.fixture(scope="module")
def upstream_generator(upstream_sam):
    """Make upstream's generator."""
    from mobile_sam import SamAutomaticMaskGenerator as UpstreamGenerator

    return lambda **options: UpstreamGenerator(upstream_sam, **options)


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """Two ellipses, (240, 320, 3)."""
    return draw_scene([LEFT, RIGHT])


def as_mask(segmentation) -> np.ndarray:
    if isinstance(segmentation, np.ndarray):
        return segmentation
    if isinstance(segmentation["counts"], list):
        segmentation = coco_masks.frPyObjects(segmentation, *segmentation["size"])
    return coco_masks.decode(segmentation).astype(bool)


def assert_same_records(ours, upstream):
    assert len(ours) == len(upstream) > 0
    for a, b in zip(ours, upstream, strict=True):
        assert list(a) == list(b)
        assert {name: type(value) for name, value in a.items()} == {name: type(value) for name, value in b.items()}
        assert same_mask(as_mask(a["segmentation"]), as_mask(b["segmentation"]))
        for name in ("bbox", "point_coords", "crop_box"):
            assert a[name] == b[name], name
        assert a["area"] == as_mask(a["segmentation"]).sum()
        for name in SCORES:
            assert a[name] == pytest.approx(b[name], abs=RECORD_SCORE)


def test_records_on_zidane_equal_upstream(sam, upstream_generator, zidane):
    options = {"points_per_side": 6}
    ours = SamAutomaticMaskGenerator(sam, **options).generate(zidane)
    assert_same_records(ours, upstream_generator(**options).generate(zidane))
    assert ours[0]["segmentation"].flags.c_contiguous  # upstream's is not


def test_records_of_a_photograph_and_its_crops_equal_upstream(sam, upstream_generator, coco50):
    image = np.asarray(Image.open(coco50 / "images" / "000000005802.jpg").convert("RGB"))
    options = {
        "points_per_side": 6,
        "crop_n_layers": 1,
        "crop_n_points_downscale_factor": 2,
        "min_mask_region_area": 100,
        "pred_iou_thresh": 0.8,
        "stability_score_thresh": 0.9,
        "output_mode": "coco_rle",
    }
    ours = SamAutomaticMaskGenerator(sam, **options).generate(image)
    assert_same_records(ours, upstream_generator(**options).generate(image))
    assert len({tuple(record["crop_box"]) for record in ours}) > 1


@pytest.mark.parametrize("output_mode", ["binary_mask", "uncompressed_rle", "coco_rle"])
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "plain"])
def test_output_modes_equal_upstream(sam, upstream_generator, scene, output_mode, fast):
    options = {
        "points_per_side": None,
        "point_grids": [np.array([[0.28, 0.5], [0.75, 0.42], [0.5, 0.9]])],
        "stability_score_offset": 2.0,
        "output_mode": output_mode,
    }
    ours = SamAutomaticMaskGenerator(SamPredictor(sam, fast=fast), **options).generate(scene)
    upstream = upstream_generator(**options).generate(scene)
    assert_same_records(ours, upstream)
    if output_mode != "binary_mask":
        assert [record["segmentation"] for record in ours] == [record["segmentation"] for record in upstream]


def test_filters_can_be_switched_off_as_in_upstream(sam, upstream_generator, scene):
    options = {"points_per_side": 2, "pred_iou_thresh": 0, "stability_score_thresh": 0, "box_nms_thresh": 1.0}
    ours = SamAutomaticMaskGenerator(sam, **options).generate(scene)
    assert len(ours) == 12
    assert_same_records(ours, upstream_generator(**options).generate(scene))


@pytest.mark.parametrize("crop_n_layers", [0, 1])
def test_nothing_found_is_no_record_and_no_error(sam, upstream_generator, scene, crop_n_layers):
    options = {"points_per_side": 1, "pred_iou_thresh": 2.0, "crop_n_layers": crop_n_layers}
    if crop_n_layers:
        with pytest.raises(IndexError):
            upstream_generator(**options).generate(scene)
    assert SamAutomaticMaskGenerator(sam, **options, min_mask_region_area=50).generate(scene) == []
    assert len(SAM(sam).predict(scene[..., ::-1], points_per_side=1, pred_iou_thresh=2)[0]) == 0


def test_a_tiny_image_with_crops_without_pixels_works(sam):
    image = np.random.default_rng(0).integers(0, 255, (1, 12, 3), dtype=np.uint8)
    generator = SamAutomaticMaskGenerator(sam, points_per_side=1, crop_n_layers=1, stability_score_thresh=0)
    assert all(record["segmentation"].shape == (1, 12) for record in generator.generate(image))


def test_a_mask_does_not_depend_on_the_batch(sam, scene):
    few, many = (SamAutomaticMaskGenerator(sam, 3, points_per_batch=size).generate(scene) for size in (1, 64))
    assert_same_records(few, many)


def test_boxes_of_a_detector_give_one_record_each(sam, scene):
    from mobilesam.geometry import tight_region

    boxes = [tight_region(ellipse_mask(*ellipse)) for ellipse in (RIGHT, LEFT)] + [(0, 0, 3, 3)]
    generator = SamAutomaticMaskGenerator(sam, min_mask_region_area=10)
    records = generator.generate(scene, boxes=boxes)
    assert len(records) == 3
    for record, ellipse in zip(records, (RIGHT, LEFT), strict=False):
        assert iou(record["segmentation"], ellipse_mask(*ellipse)) > 0.95
        assert (record["point_coords"], record["crop_box"]) == ([], [0, 0, 320, 240])

    class Detected:
        xyxy = np.array(boxes)

    class DetectorResults:
        boxes = Detected()

    for result in (Detected(), DetectorResults()):
        assert [r["bbox"] for r in generator.generate(scene, boxes=result)] == [r["bbox"] for r in records]
    assert generator.generate(scene, boxes=[]) == []
    with pytest.raises(PromptError, match="Object 1"):
        generator.generate(scene, boxes=[boxes[0], (400, 10, 500, 20)])


def test_the_front_gives_the_same_masks_as_results(sam, scene):
    options = {"points_per_side": 4, "crop_n_layers": 1}
    records = SamAutomaticMaskGenerator(sam, **options).generate(scene)
    [result] = SAM(sam).predict(scene[..., ::-1], points_stride=4, crop_n_layers=1)
    assert len(result) == len(records)
    for mask, box, record in zip(result.masks.data.numpy(), result.boxes.data.tolist(), records, strict=True):
        assert np.array_equal(mask, record["segmentation"])
        x, y, width, height = record["bbox"]
        assert box[:4] == [x, y, x + width, y + height]
        assert box[4] == pytest.approx(record["predicted_iou"])
    assert result.boxes.cls.tolist() == list(range(len(records)))
    assert result.low_res_logits is None
    assert len(result[0]) == 1


def test_fine_tuned_weights_leave_the_grid_to_the_decoder_that_they_began_with(sam, scene):
    """Boxes are their own business; and so is the grid where they began with weights that are not here."""
    fitted = build_sam_vit_t("mobile_sam_coco.pt")
    generators = [SamAutomaticMaskGenerator(model, points_per_side=4) for model in (sam, fitted)]
    assert_same_records(*[generator.generate(scene) for generator in generators])
    scores = [generator.generate(scene, boxes=[[40, 50, 140, 190]])[0]["predicted_iou"] for generator in generators]
    assert scores[0] != scores[1]
    with torch.no_grad():
        fitted.image_encoder.neck[3].bias.add_(1e-3)
    assert SamAutomaticMaskGenerator(fitted)._grid_backend.sam is fitted


def test_a_wrong_option_says_what_was_expected(sam):
    for options, text in [
        ({"point_grids": [np.zeros((1, 2))]}, "Exactly one"),
        ({"points_per_side": None}, "Exactly one"),
        ({"points_per_side": None, "point_grids": [np.zeros((1, 2))], "crop_n_layers": 1}, "2 grids"),
        ({"output_mode": "png"}, "binary_mask"),
    ]:
        with pytest.raises(ValueError, match=text):
            SamAutomaticMaskGenerator(sam, **options)
