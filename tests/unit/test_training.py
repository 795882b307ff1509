"""Learning from true masks: the decoder with gradients beside the plain one, and what a training refuses."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import draw_scene
from tolerances import LOW_RES_LOGITS, SCORE
from trained import CARD, nudged

from mobilesam import SAM, CheckpointError, Prompt, SamPredictor, build_sam_vit_t, make_prompts, weights
from mobilesam.errors import NotEnoughTruthError
from mobilesam.heads.files import heads_for
from mobilesam.training.card import describe
from mobilesam.training.check import Checked
from mobilesam.training.decoder import decode
from mobilesam.training.examples import Annotated, mirrored
from mobilesam.training.out import write
from mobilesam.training.photographs import bundled_photographs
from mobilesam.training.quality import inheritance, lend_heads
from mobilesam.training.unfinished import Unfinished
from mobilesam.weights import save_checkpoint


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


def test_a_mirror_image_has_its_prompts_and_masks_turned_round():
    image, mask = np.arange(6 * 10 * 3, dtype=np.uint8).reshape(6, 10, 3), np.zeros((6, 10), bool)
    mask[2:5, 1:4] = True
    prompt = Prompt(box=[1, 2, 4, 5], point_coords=[[1.5, 2.5], [9.5, 0.5]], point_labels=[1, 0])
    turned = mirrored(Annotated("scene", image, [(prompt, mask)]))
    [(other, other_mask)] = turned.objects
    assert other.box.tolist() == [6, 2, 9, 5]
    assert other_mask[2:5, 6:9].all()
    assert other_mask.sum() == mask.sum()
    assert other.point_coords.tolist() == [[8.5, 2.5], [0.5, 0.5]]
    assert other.point_labels.tolist() == [1, 0]
    assert (turned.image[2, 8] == image[2, 1]).all()


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


def test_a_full_disk_is_said_before_it_learns(sam, coco, monkeypatch):
    usage = shutil.disk_usage(coco)._replace(free=12 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match=r"out must be where 48 MB are free, got 12 MB in .*\. Make room\."):
        SAM(sam, verify=False).train(coco / "coco.json", coco, out=coco / "new.pt", progress=False)


def test_a_checkpoint_takes_the_place_of_the_embeddings_on_a_full_disk(sam, tmp_path, monkeypatch):
    kept = tmp_path / "new.pt.unfinished" / "embeddings"
    kept.mkdir(parents=True)
    save = weights.save_checkpoint

    def full_while_they_are_there(state, path, card):
        assert path.parent == kept.parent  # where the next call takes away what a kill leaves
        if kept.is_dir():
            raise OSError(28, "No space left on device")
        save(state, path, card)

    monkeypatch.setattr(weights, "save_checkpoint", full_while_they_are_there)
    write(sam, tmp_path / "new.pt", CARD, Unfinished(tmp_path / "new.pt"))
    assert weights.load_state_dict(tmp_path / "new.pt").keys() == sam.state_dict().keys()
    assert [path.name for path in kept.parent.iterdir()] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.md", "new.pt", "new.pt.unfinished"]


@pytest.fixture
def trained(sam):
    """Weights that are a little other than the bundled ones."""
    return nudged(sam)


def told(masks, rng, *, offset=0.2, slope=0.5, noise=0.01):
    quality = rng.random(masks)
    return Checked(offset + slope * quality + noise * rng.standard_normal(masks), quality, quality)


def test_mask_quality_of_trained_weights_is_what_the_old_heads_say_on_a_line(sam, trained, image, tmp_path):
    note = inheritance(trained, told(400, np.random.default_rng(0)))
    assert (note["offset"], note["slope"]) == pytest.approx((0.2, 0.5), abs=0.02)
    assert note["spearman"] > 0.95
    assert note["expected_calibration_error"] < 0.02
    for name in ("ours.safetensors", "ours.pt"):
        save_checkpoint(trained.state_dict(), tmp_path / name, {"mask_quality": note})
        predictor, before = SamPredictor(build_sam_vit_t(tmp_path / name)), SamPredictor(lend_heads(sam, trained))
        for one in (predictor, before):
            one.set_image_embedding(image._image)
        prompts = make_prompts(boxes=[[439, 437, 524, 709], [700, 40, 1100, 720]])
        for [new], [old] in zip(predictor.predict_batch(prompts), before.predict_batch(prompts), strict=True):
            assert new.mask_quality == pytest.approx(note["offset"] + note["slope"] * old.mask_quality, abs=1e-5)
    changed = build_sam_vit_t(tmp_path / "ours.pt")
    with torch.no_grad():
        changed.mask_decoder.iou_token.weight.mul_(1.001)  # the card is of other weights now
    assert heads_for(changed).quality == {}
    for edited in ({name: value for name, value in note.items() if name != "fitted_for"}, "0.9"):
        save_checkpoint(trained.state_dict(), tmp_path / "edited.pt", {"mask_quality": edited})
        assert heads_for(build_sam_vit_t(tmp_path / "edited.pt")).quality == {}


def test_mask_quality_stays_unknown_where_it_could_not_be_checked(trained, tmp_path):
    rng = np.random.default_rng(0)
    for some in (told(19, rng), told(400, rng, slope=0.0)):
        note = inheritance(trained, some)
        assert note.keys() == {"fitted_for", "weights"}
        save_checkpoint(trained.state_dict(), tmp_path / "ours.pt", {"mask_quality": note})
        assert heads_for(build_sam_vit_t(tmp_path / "ours.pt")).quality == {}
        assert "`mask_quality` is unknown" in describe({**CARD, "mask_quality": note}, None)
    trained.inherits = None
    assert inheritance(trained, told(400, rng)) is None


@pytest.mark.parametrize("masks", [19, 400])
def test_mask_quality_is_inherited_through_a_chain_of_trainings(trained, tmp_path, masks):
    """With few masks in the first training as well: a line is fitted to the same heads in each."""
    rng = np.random.default_rng(0)
    save_checkpoint(trained.state_dict(), tmp_path / "1.pt", {"mask_quality": inheritance(trained, told(masks, rng))})
    first = build_sam_vit_t(tmp_path / "1.pt")
    second = nudged(first)
    note = inheritance(second, told(400, rng, offset=0.1, slope=0.7))
    assert (note["offset"], note["slope"]) == pytest.approx((0.1, 0.7), abs=0.02)
    assert note["fitted_for"] == first.inherits["fitted_for"]
    save_checkpoint(second.state_dict(), tmp_path / "2.pt", {"mask_quality": note})
    assert heads_for(build_sam_vit_t(tmp_path / "2.pt")).quality["box fast"].slope == note["slope"]
