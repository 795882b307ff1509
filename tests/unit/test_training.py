"""Learning from true masks: the decoder with gradients beside the plain one, and what a training refuses."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import draw_scene
from tolerances import LOW_RES_LOGITS, SCORE

from mobilesam import SAM, CheckpointError, SamPredictor, make_prompts
from mobilesam.errors import NotEnoughTruthError
from mobilesam.training.decoder import decode
from mobilesam.training.photographs import bundled_photographs


@pytest.fixture(scope="module")
def image(sam, zidane):
    predictor = SamPredictor(sam)
    predictor.set_image(zidane)
    return predictor


@pytest.mark.parametrize("prompt", ["boxes", "points"])
def test_the_decoder_with_gradients_gives_the_plain_logits_and_gradients(sam, image, prompt):
    if prompt == "boxes":
        prompts = make_prompts(boxes=[[439, 437, 524, 709], [700, 40, 1100, 720]])
    else:
        prompts = make_prompts(point_coords=[[[900, 370]], [[480, 500]]])
    embeddings = image._embed(prompts, image._image)
    decoder = sam.mask_decoder.requires_grad_(True)
    try:
        plain, plain_scores = decoder.predict_masks(image.features, sam.prompt_encoder.get_dense_pe(), *embeddings)
        tiles = [(10, 3, 40, 30), (0, 0, 64, 64)]
        logits, scores = decode(sam, image.features, embeddings[0], tiles)
        parts = [
            whole[:, 4 * r0 : 4 * r1, 4 * c0 : 4 * c1] for whole, (r0, c0, r1, c1) in zip(plain, tiles, strict=True)
        ]
        for ours, expected in zip(logits, parts, strict=True):
            assert (ours - expected).abs().max() <= LOW_RES_LOGITS
        assert (scores - plain_scores).abs().max() <= SCORE
        weights = list(decoder.parameters())
        gradients = [
            torch.autograd.grad(
                sum(x.sigmoid().mean() for x in some) + told.sum(), weights, allow_unused=True, retain_graph=True
            )
            for some, told in ((logits, scores), (parts, plain_scores))
        ]
    finally:
        decoder.requires_grad_(False)
    for (name, _), ours, expected in zip(decoder.named_parameters(), *gradients, strict=True):
        if expected is None or ours is None:  # a key's bias changes nothing, and its gradient is rounding
            assert name.endswith("k_proj.bias"), name
            continue
        if not name.endswith("k_proj.bias"):
            assert (ours - expected).abs().max() <= 1e-3 * expected.abs().max() + 1e-6, name


def test_bundled_photographs_are_encoded_as_the_model_encodes(sam):
    photographs = bundled_photographs(sam)
    assert len(photographs) == 12
    assert sum(len(one.objects) for one in photographs) == 70
    assert all(one.embedding.features.shape == (1, 256, 64, 64) for one in photographs)


@pytest.fixture
def coco(tmp_path):
    """One image with one mask."""
    image = draw_scene([])
    Image.fromarray(image).save(tmp_path / "a.png")
    height, width = image.shape[:2]
    square = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 40, 40], "iscrowd": 0, "area": 1600}
    square["segmentation"] = [[10, 10, 50, 10, 50, 50, 10, 50]]
    data = {
        "images": [{"id": 1, "file_name": "a.png", "height": height, "width": width}],
        "annotations": [square],
        "categories": [{"id": 1, "name": "thing"}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(data))
    return tmp_path


def test_refused_with_what_is_wrong(sam, coco):
    model, before = SAM(sam, verify=False), sorted(coco.iterdir())
    with pytest.raises(NotEnoughTruthError, match="at least 10 true masks, of 2 images or more, got 1 of 1"):
        model.train(coco / "coco.json", coco, out=coco / "new.safetensors", progress=False)
    with pytest.raises(CheckpointError, match=r"must end in \.safetensors, \.pt, \.pth"):
        model.train(coco / "coco.json", coco, out=coco / "new.onnx", progress=False)
    (coco / "old.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match="overwrite=True"):
        model.train(coco / "coco.json", coco, out=coco / "old.pt", progress=False)
    with pytest.raises(ValueError, match="given, box, point, both"):
        model.train(coco / "coco.json", coco, out=coco / "new.pt", prompts="text")
    assert sorted(coco.iterdir()) == sorted([*before, coco / "old.pt"])
    assert np.isfinite(next(sam.mask_decoder.parameters()).detach().numpy()).all()
