"""Upstream MobileSAM, same weights: the same embeddings, logits, scores and masks."""

import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image
from tolerances import EMBEDDING, LOW_RES_LOGITS, SCORE, same_mask

from mobilesam import Prompt, SamPredictor, make_prompts
from mobilesam.geometry import snap_outward

POINT, BOX = [[900, 370]], [439, 437, 524, 709]


@pytest.fixture(scope="module")
def peers(sam, upstream_sam, zidane):
    from mobile_sam import SamPredictor as UpstreamPredictor

    ours, upstream = SamPredictor(sam), UpstreamPredictor(upstream_sam)
    ours.set_image(zidane)
    upstream.set_image(zidane)
    return ours, upstream


def assert_same(ours, upstream):
    masks, scores, logits = ours
    upstream_masks, upstream_scores, upstream_logits = upstream
    assert np.abs(logits - upstream_logits).max() <= LOW_RES_LOGITS
    assert np.abs(scores - upstream_scores).max() <= SCORE
    assert masks.shape == upstream_masks.shape
    assert all(same_mask(a, b) for a, b in zip(masks, upstream_masks, strict=True))


def test_upstream_as_its_builder_gives_it_has_other_masks_until_eval_is_called_again(checkpoint, peers, zidane):
    import mobile_sam

    ours, _ = peers
    model = mobile_sam.sam_model_registry["vit_t"](str(checkpoint))
    found = []
    for _ in range(2):
        upstream = mobile_sam.SamPredictor(model)
        upstream.set_image(zidane)
        found.append((ours.get_image_embedding() - upstream.get_image_embedding()).abs().max())
        model.eval()
    assert found[0] > 100 * EMBEDDING
    assert found[1] <= EMBEDDING


def test_image_embedding(peers):
    ours, upstream = peers
    assert (ours.get_image_embedding() - upstream.get_image_embedding()).abs().max() <= EMBEDDING
    assert (ours.original_size, ours.input_size) == (upstream.original_size, upstream.input_size)


@pytest.mark.parametrize(
    ("prompt", "area"), [({"point_coords": POINT, "point_labels": [1]}, 59088), ({"box": BOX}, 9714)]
)
def test_seed_prompts_have_the_published_areas(peers, prompt, area):
    masks, _, _ = peers[0].predict(**prompt, multimask_output=False)
    assert masks.sum() == area


KINDS = [kinds for n in (1, 2, 3) for kinds in itertools.combinations(("point", "box", "mask"), n)]


@pytest.mark.parametrize("multimask_output", [False, True])
@pytest.mark.parametrize("kinds", KINDS, ids="+".join)
def test_all_combinations_of_prompts(peers, kinds, multimask_output):
    ours, upstream = peers
    _, _, earlier = upstream.predict(box=np.array(BOX), multimask_output=False)
    prompt = {}
    if "point" in kinds:
        prompt |= {"point_coords": np.array([[480, 500], [700, 100]]), "point_labels": np.array([1, 0])}
    if "box" in kinds:
        prompt["box"] = np.array(BOX)
    if "mask" in kinds:
        prompt["mask_input"] = earlier
    assert_same(
        ours.predict(**prompt, multimask_output=multimask_output),
        upstream.predict(**prompt, multimask_output=multimask_output),
    )


def test_logits_can_be_returned(peers):
    ours, upstream = (peer.predict(box=np.array(BOX), return_logits=True)[0] for peer in peers)
    assert ours.dtype == np.float32
    assert np.abs(ours - upstream).max() <= 2 * LOW_RES_LOGITS


def test_predict_torch(peers):
    coords = torch.tensor([[[720.0, 296.0]], [[380.0, 400.0]]])
    labels = torch.ones(2, 1, dtype=torch.int)
    ours, upstream = (peer.predict_torch(coords, labels) for peer in peers)
    assert_same([x.numpy() for x in ours], [x.numpy() for x in upstream])


def test_transforms_map_as_upstream(peers):
    ours, upstream = (peer.transform for peer in peers)
    points = np.random.default_rng(0).uniform(0, 400, (5, 2))
    for hw in [(333, 500), (480, 640), (1, 700), (4000, 3000)]:
        assert np.array_equal(ours.apply_coords(points, hw), upstream.apply_coords(points, hw))
        assert ours.get_preprocess_shape(*hw, 1024) == upstream.get_preprocess_shape(*hw, 1024)
    assert np.array_equal(ours.apply_image(np.full((50, 60, 3), 7, np.uint8)), np.full((853, 1024, 3), 7, np.uint8))


def test_sam_forward(sam, upstream_sam, peers, zidane):
    pixels = torch.as_tensor(peers[0].transform.apply_image(zidane)).permute(2, 0, 1)
    boxes = torch.tensor([BOX], dtype=torch.float32) * 0.8
    record = {"image": pixels, "original_size": zidane.shape[:2], "boxes": boxes}
    ours, upstream = (model([record], multimask_output=True)[0] for model in (sam, upstream_sam))
    keys = ("masks", "iou_predictions", "low_res_logits")
    assert_same([ours[k][0].numpy() for k in keys], [upstream[k][0].numpy() for k in keys])


def test_a_batch_gives_each_prompt_what_it_gets_alone(peers):
    """Ragged points, mixed kinds, more prompts than a chunk holds, a region."""
    ours, upstream = peers
    prompts = make_prompts(boxes=[BOX, [700, 40, 1100, 720], [100, 200, 400, 700], [0, 0, 1280, 720], [5, 5, 50, 90]])
    prompts += make_prompts(
        point_coords=[POINT, [[480, 500], [700, 100]], [[300, 400]]], point_labels=[[1], [1, 0], [1]]
    )
    prompts.insert(2, Prompt(box=BOX, point_coords=POINT, point_labels=[0]))
    for prompt, [crop] in zip(prompts, ours.predict_batch(prompts, return_low_res_logits=True), strict=True):
        masks, scores, logits = upstream.predict(
            point_coords=prompt.point_coords,
            point_labels=prompt.point_labels,
            box=prompt.box,
            multimask_output=False,
        )
        assert same_mask(crop.full((720, 1280)), masks[0])
        assert abs(crop.iou_prediction - scores[0]) <= SCORE
        assert np.abs(crop.low_res_logits - logits[0]).max() <= LOW_RES_LOGITS


def test_images_of_other_sizes_in_a_batch_change_nothing(sam, zidane, photos):
    predictor = SamPredictor(sam)
    bus = np.asarray(Image.open(photos["bus"]))
    together = predictor.encode_images([zidane, bus, zidane[:333, :500].copy()])
    for image, embedding in zip([zidane, bus, zidane[:333, :500]], together, strict=True):
        predictor.set_image(image)
        assert (embedding.features - predictor.features).abs().max() <= EMBEDDING
        assert embedding.input_hw == predictor.input_size


def coco_boxes(coco50, count):
    """Yield an image and its boxes (N, 4) xyxy of `count` images."""
    data = json.loads((coco50 / "instances.json").read_text())
    for record in data["images"][:count]:
        boxes = [a["bbox"] for a in data["annotations"] if a["image_id"] == record["id"] and not a.get("iscrowd")]
        image = np.asarray(Image.open(coco50 / "images" / record["file_name"]).convert("RGB"))
        yield image, np.array([[x, y, x + w, y + h] for x, y, w, h in boxes]).reshape(-1, 4)


def check_boxes(sam, upstream_sam, image, boxes):
    from mobile_sam import SamPredictor as UpstreamPredictor

    ours, upstream = SamPredictor(sam), UpstreamPredictor(upstream_sam)
    ours.set_image(image)
    upstream.set_image(image)
    hw = image.shape[:2]
    regions = [snap_outward(box, original_hw=hw) for box in boxes]
    whole = ours.predict_batch(make_prompts(boxes=boxes), return_low_res_logits=True)
    fast = SamPredictor(sam, fast=True)
    fast.set_image(image)
    clipped = fast.predict_batch(make_prompts(boxes=boxes), regions=regions)
    for box, (x0, y0, x1, y1), [crop], [inside] in zip(boxes, regions, whole, clipped, strict=True):
        masks, _, logits = upstream.predict(box=box, multimask_output=False)
        assert np.abs(crop.low_res_logits - logits[0]).max() <= LOW_RES_LOGITS
        assert same_mask(crop.full(hw), masks[0])
        assert same_mask(inside.full(hw)[y0:y1, x0:x1], masks[0][y0:y1, x0:x1])
        assert inside.full(hw).sum() == inside.full(hw)[y0:y1, x0:x1].sum()


def test_bus(sam, upstream_sam, photos):
    image = np.asarray(Image.open(photos["bus"]))
    check_boxes(
        sam, upstream_sam, image, np.array([[22.5, 231, 805, 756], [48, 398, 245, 902.5], [669, 392, 809, 877]])
    )


def test_coco_images(sam, upstream_sam, coco50, soak):
    """20 images with `--soak`, else the first 4."""
    checked = 0
    for image, boxes in coco_boxes(coco50, 20 if soak else 4):
        check_boxes(sam, upstream_sam, image, boxes[:4])
        checked += len(boxes[:4])
    assert checked >= (40 if soak else 10)
