"""Box and mask agree to the pixel wherever FiftyOne turns them into pixels again."""

import json

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from scenes import LEFT, RIGHT, detections, draw_scene, ellipse_box, full_mask, iou

from fiftyone_mobilesam.labels import relative_box

BOXES = ellipse_box(*LEFT), ellipse_box(*RIGHT)


def test_relative_boxes_truncate_and_round_to_their_pixels():
    rng = np.random.default_rng(0)
    for _ in range(20_000):
        height, width = (int(n) for n in rng.integers(2, 5000, 2))
        x0, y0 = int(rng.integers(0, width)), int(rng.integers(0, height))
        x1, y1 = int(rng.integers(x0 + 1, width + 1)), int(rng.integers(y0 + 1, height + 1))
        x, y, w, h = relative_box((x0, y0, x1, y1), original_hw=(height, width))
        assert (int(width * x), int(height * y), int(width * (x + w)), int(height * (y + h))) == (x0, y0, x1, y1)
        assert (round(width * x), round(height * y), round(width * w), round(height * h)) == (x0, y0, x1 - x0, y1 - y0)
        assert x + w <= 1
        assert y + h <= 1


@pytest.fixture
def segmented(model, make_dataset, tmp_path):
    """Objects from 3 to 200 pixels in images of odd sizes, segmented; the expected masks by label id."""
    rng = np.random.default_rng(1)
    samples = []
    for number, size in enumerate([(333, 251), (640, 427), (199, 777)]):
        ellipses = [(rng.uniform(20, np.array(size) - 20), rng.uniform(1.5, 60, 2)) for _ in range(6)]
        path = tmp_path / f"odd-{number}.png"
        Image.fromarray(draw_scene(ellipses, size)).save(path)
        boxes = [ellipse_box(*ellipse, size) for ellipse in ellipses]
        samples.append({"filepath": str(path), "detections": detections(*boxes)})
    dataset = make_dataset(*samples)
    dataset.compute_metadata()
    dataset.apply_model(model, label_field="masks", prompt_field="detections", num_workers=0)
    return dataset


def usable(sample):
    return [mask for mask in sample.masks.detections if mask.mask is not None]


def in_pixels(mask, size):
    """Place a mask by rounding, independently of FiftyOne."""
    full = np.zeros((size[1], size[0]), dtype=bool)
    x, y, w, h = np.array(mask.bounding_box) * [size[0], size[1], size[0], size[1]]
    full[round(y) : round(y + h), round(x) : round(x + w)] = mask.mask
    return full


def size_of(sample):
    return sample.metadata.width, sample.metadata.height


def test_masks_fill_their_boxes(segmented):
    assert sum(len(usable(sample)) for sample in segmented) >= 12
    for sample in segmented:
        for mask in usable(sample):
            w, h = np.array(mask.bounding_box[2:]) * size_of(sample)
            assert mask.mask.shape == (round(h), round(w))
            assert mask.mask.any(axis=0)[[0, -1]].all()  # the box is tight
            assert mask.mask.any(axis=1)[[0, -1]].all()


def test_to_segmentation_paints_the_same_pixels(segmented):
    for sample in segmented:
        for mask in usable(sample):
            assert np.array_equal(full_mask(mask, size_of(sample)), in_pixels(mask, size_of(sample)))


def test_evaluate_detections_with_masks_finds_iou_1(segmented):
    view = segmented.filter_labels("masks", fo.ViewField("failure") == None)  # noqa: E711
    copies = view.clone()
    try:
        copies.clone_sample_field("masks", "copy")
        copies.evaluate_detections("copy", gt_field="masks", use_masks=True, eval_key="ev", iou=0.99, classwise=False)
        ious = copies.values("copy.detections.ev_iou", unwind=True)
        assert len(ious) >= 12
        assert min(ious) == 1.0
    finally:
        copies.delete()


def test_coco_export_and_import_keep_every_pixel(segmented, tmp_path):
    """As RLE, which FiftyOne writes for crowds; its polygons are approximate for anybody's masks."""
    for sample in segmented:
        for mask in sample.masks.detections:
            mask["iscrowd"] = 1
        sample.save()
    view = segmented.filter_labels("masks", fo.ViewField("failure") == None)  # noqa: E711
    view.export(
        dataset_type=fo.types.COCODetectionDataset,
        export_dir=str(tmp_path / "coco"),
        label_field="masks",
        progress=False,
    )
    data = json.loads((tmp_path / "coco" / "labels.json").read_text())
    exported = {record["id"]: [] for record in data["images"]}
    for annotation in data["annotations"]:
        rle, record = annotation["segmentation"], annotation["image_id"]
        size = rle["size"]
        packed = coco_mask.frPyObjects(rle, *size) if isinstance(rle["counts"], list) else rle
        exported[record].append(coco_mask.decode(packed).astype(bool))
    by_name = {record["file_name"].split("/")[-1]: exported[record["id"]] for record in data["images"]}
    for sample in view:
        expected = [in_pixels(mask, size_of(sample)) for mask in sample.masks.detections]
        assert all(map(np.array_equal, by_name[sample.filename], expected))

    again = fo.Dataset.from_dir(
        dataset_dir=str(tmp_path / "coco"), dataset_type=fo.types.COCODetectionDataset, label_types="segmentations"
    )
    try:
        again.compute_metadata()
        names = {sample.filename: sample for sample in again}
        [field] = [
            name for name, f in again.get_field_schema().items() if getattr(f, "document_type", 0) is fo.Detections
        ]
        for sample in view:
            for mask, back in zip(usable(sample), names[sample.filename][field].detections, strict=True):
                assert iou(full_mask(back, size_of(sample)), in_pixels(mask, size_of(sample))) == 1.0
    finally:
        again.delete()


def test_masks_are_clipped_to_the_prompt_box_by_default(model, make_dataset):
    """A box around the left half of an ellipse: the model answers with more than the box."""
    x, y, w, h = BOXES[0]
    half = [x, y, w * 0.5, h]
    dataset = make_dataset({"detections": detections(half)})
    areas = {}
    for name, clip in {"clipped": True, "grown": 0.2, "free": False}.items():
        dataset.apply_model(model, label_field=name, prompt_field="detections", clip=clip)
        areas[name] = full_mask(dataset.first()[name].detections[0])
    right_edge = int(np.ceil((x + w * 0.5) * 320 - 1e-4))
    assert not areas["clipped"][:, right_edge:].any()
    assert areas["clipped"].sum() <= areas["grown"].sum() <= areas["free"].sum()
    assert np.array_equal(areas["clipped"][:, :right_edge], areas["free"][:, :right_edge] & box_rows(half))


def box_rows(box):
    rows = np.zeros((240, 1), dtype=bool)
    rows[int(np.floor(box[1] * 240 + 1e-4)) : int(np.ceil((box[1] + box[3]) * 240 - 1e-4))] = True
    return rows


def test_box_prompt_keeps_the_prompt_box_on_whole_pixels(model, make_dataset):
    loose = [60.3 / 320, 30.2 / 240, 120.5 / 320, 180.1 / 240]
    dataset = make_dataset({"detections": detections(loose)})
    dataset.apply_model(model, label_field="tight", prompt_field="detections")
    dataset.apply_model(model, label_field="loose", prompt_field="detections", box="prompt")
    sample = dataset.first()
    tight, kept = sample.tight.detections[0], sample.loose.detections[0]
    assert np.array_equal(full_mask(tight), full_mask(kept))
    x, y, w, h = np.array(kept.bounding_box) * [320, 240, 320, 240]
    assert np.allclose([x, y, x + w, y + h], [60, 30, 181, 211])
    assert kept.mask.shape == (181, 121)


def test_masks_on_disk(model, make_dataset, tmp_path):
    """`output_dir` of `apply_model`: FiftyOne writes the masks, and they are the same."""
    dataset = make_dataset({"detections": detections(*BOXES, [0.5, 0.5, 0.0, 0.0])})
    dataset.apply_model(model, label_field="inside", prompt_field="detections")
    dataset.apply_model(model, label_field="ondisk", prompt_field="detections", output_dir=str(tmp_path / "masks"))
    sample = dataset.first()
    for a, b in zip(sample.inside.detections[:2], sample.ondisk.detections[:2], strict=True):
        assert b.mask is None
        assert np.array_equal(b.get_mask() > 0, a.mask)


def test_results_of_the_sam_front_become_labels(sam):
    import fiftyone_mobilesam as fom
    from mobilesam import SAM

    image = draw_scene([LEFT, RIGHT])
    [result] = SAM(sam).predict(image[..., ::-1], bboxes=[[40, 50, 140, 190], [195, 40, 285, 160]])
    found = fom.to_detections(result).detections
    assert [label.label for label in found] == ["0", "1"]
    for label, mask in zip(found, result.masks.data.numpy(), strict=True):
        assert (label.to_segmentation(frame_size=(320, 240)).mask.astype(bool) == mask).all()
