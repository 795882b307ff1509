"""The classes that scripts put a model together from: upstream's own lines, with the package's name as the only change.

The lines are those of upstream's builder, which Grounded-SAM and samexporter carry as `setup_model()`.
"""

import importlib
import textwrap

import numpy as np
import pytest
import torch
from tolerances import EMBEDDING, LOW_RES_LOGITS, same_mask
from torch import nn

from mobilesam import SamPredictor, UnknownModelError, build_sam_vit_t, load_model, make_prompts
from mobilesam.weights import sha256_of_state, used_tensors

pytest.importorskip("mobile_sam", reason="the parity peer mobilesam-mirror is not installed")

LINES = """
    from {package}.modeling.tiny_vit_sam import TinyViT
    from {package}.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer


    def setup_model():
        prompt_embed_dim = 256
        image_size = 1024
        vit_patch_size = 16
        image_embedding_size = image_size // vit_patch_size
        mobile_sam = Sam(
                image_encoder=TinyViT(img_size=1024, in_chans=3, num_classes=1000,
                    embed_dims=[64, 128, 160, 320],
                    depths=[2, 2, 6, 2],
                    num_heads=[2, 4, 5, 10],
                    window_sizes=[7, 7, 14, 7],
                    mlp_ratio=4.,
                    drop_rate=0.,
                    drop_path_rate=0.0,
                    use_checkpoint=False,
                    mbconv_expand_ratio=4.0,
                    local_conv_size=3,
                    layer_lr_decay=0.8
                ),
                prompt_encoder=PromptEncoder(
                embed_dim=prompt_embed_dim,
                image_embedding_size=(image_embedding_size, image_embedding_size),
                input_image_size=(image_size, image_size),
                mask_in_chans=16,
                ),
                mask_decoder=MaskDecoder(
                        num_multimask_outputs=3,
                        transformer=TwoWayTransformer(
                        depth=2,
                        embedding_dim=prompt_embed_dim,
                        mlp_dim=2048,
                        num_heads=8,
                    ),
                    transformer_dim=prompt_embed_dim,
                    iou_head_depth=3,
                    iou_head_hidden_dim=256,
                ),
                pixel_mean=[123.675, 116.28, 103.53],
                pixel_std=[58.395, 57.12, 57.375],
            )
        return mobile_sam
"""
PACKAGES = ("mobilesam", "mobile_sam")
NAMES = {
    "build_sam": ["build_sam", "build_sam_vit_t", "sam_model_registry"],
    "modeling": ["ImageEncoderViT", "MaskDecoder", "PromptEncoder", "Sam", "TinyViT", "TwoWayTransformer"],
    "modeling.common": ["LayerNorm2d", "MLPBlock"],
    "modeling.image_encoder": ["ImageEncoderViT"],
    "modeling.mask_decoder": ["MLP", "MaskDecoder"],
    "modeling.prompt_encoder": ["PositionEmbeddingRandom", "PromptEncoder"],
    "modeling.sam": ["Sam"],
    "modeling.tiny_vit_sam": ["TinyViT"],
    "modeling.transformer": ["Attention", "TwoWayAttentionBlock", "TwoWayTransformer"],
}


def setup_model(package: str):
    names = {}
    exec(textwrap.dedent(LINES.format(package=package)), names)
    return names["setup_model"]()


@pytest.fixture(scope="module")
def built(checkpoint):
    """Models of both packages, as the scripts build and load them."""
    models = [setup_model(package) for package in PACKAGES]
    for model in models:
        model.load_state_dict(torch.load(checkpoint), strict=True)
        model.eval()
    return models


@pytest.mark.parametrize("module", NAMES)
def test_names_are_where_upstream_has_them(module):
    ours, theirs = (importlib.import_module(f"{package}.{module}") for package in PACKAGES)
    for name in NAMES[module]:
        assert hasattr(theirs, name)
        assert hasattr(ours, name), name


def test_setup_model_gives_upstreams_masks(built, zidane):
    found = []
    for package, model in zip(PACKAGES, built, strict=True):
        predictor = importlib.import_module(package).SamPredictor(model)
        predictor.set_image(zidane)
        point = predictor.predict(point_coords=np.array([[900, 370]]), point_labels=np.array([1]))
        box = predictor.predict(box=np.array([439, 437, 524, 709]), multimask_output=False)
        found.append((*point[0], *box[0]))
    assert len(found[0]) == 4
    assert all(same_mask(ours, theirs) for ours, theirs in zip(*found, strict=True))


def test_saved_weights_load_strictly_into_upstreams_class(built, sam, tmp_path):
    ours, upstream = built
    assert ours.state_dict().keys() == upstream.state_dict().keys()
    assert ours.image_encoder.state_dict().keys() == upstream.image_encoder.state_dict().keys()
    tuned = build_sam_vit_t("mobile_sam.pt")
    with torch.no_grad():
        tuned.mask_decoder.iou_token.weight.add_(1)
    torch.save(tuned.state_dict(), tmp_path / "tuned.pth")
    fresh = setup_model("mobile_sam")
    fresh.load_state_dict(torch.load(tmp_path / "tuned.pth"), strict=True)
    for name, tensor in used_tensors(fresh.state_dict()).items():
        assert torch.equal(tensor, tuned.state_dict()[name]), name


def test_identities_of_weights_leave_the_unused_tensors_out(sam):
    state = used_tensors(sam.state_dict())
    assert len(state) == 435
    assert SamPredictor(sam).backend.encoder_name.startswith(
        sha256_of_state({k.removeprefix("image_encoder."): x for k, x in state.items() if k.startswith("image_enc")})
    )


@pytest.mark.parametrize(
    ("name", "arguments", "shape"), [("MLPBlock", (8, 16), (2, 5, 8)), ("LayerNorm2d", (8,), (2, 8, 4, 4))]
)
def test_blocks_compute_what_upstreams_do(name, arguments, shape):
    ours, theirs = (
        getattr(importlib.import_module(f"{package}.modeling.common"), name)(*arguments) for package in PACKAGES
    )
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(shape)
    assert torch.allclose(ours(x), theirs(x), atol=EMBEDDING)


def test_arguments_are_heeded():
    """Another head for IoUs, other activations and pixels, by position where upstream takes them so."""
    found = []
    for package in PACKAGES:
        modeling = importlib.import_module(f"{package}.modeling")
        torch.manual_seed(0)
        decoder = modeling.MaskDecoder(
            transformer_dim=32,
            transformer=modeling.TwoWayTransformer(1, 32, 4, 64, nn.GELU, 4),
            num_multimask_outputs=2,
            activation=nn.ReLU,
            iou_head_depth=2,
            iou_head_hidden_dim=48,
        ).eval()
        prompts = modeling.PromptEncoder(32, (8, 8), (1024, 1024), 16, nn.ReLU).eval()
        found.append((decoder, prompts, modeling.Sam(nn.Identity(), prompts, decoder, [1, 2, 3], [4, 5, 6])))
    (decoder, prompts, sam), (their_decoder, their_prompts, their_sam) = found
    sam.load_state_dict(their_sam.state_dict(), strict=True)
    assert decoder.iou_prediction_head.layers[0].out_features == 48
    assert torch.equal(sam.pixel_mean, their_sam.pixel_mean)
    assert torch.equal(sam.pixel_std, their_sam.pixel_std)
    points, image = (torch.rand(2, 3, 2) * 1024, torch.ones(2, 3)), torch.randn(1, 32, 8, 8)
    answers = [
        d(image, p.get_dense_pe(), *p(points, None, torch.randn(2, 1, 32, 32).fill_(3)), multimask_output=True)
        for d, p in ((decoder, prompts), (their_decoder, their_prompts))
    ]
    for ours, theirs in zip(*answers, strict=True):
        assert ours.shape == theirs.shape
        assert torch.allclose(ours, theirs, atol=LOW_RES_LOGITS)


def test_the_fast_path_heeds_activations(sam, zidane):
    other = build_sam_vit_t("mobile_sam.pt")
    for layer in other.mask_decoder.transformer.layers:
        layer.mlp.act = nn.GELU()
    for index in (2, 4):
        other.mask_decoder.output_upscaling[index] = nn.SiLU()
    box = make_prompts(boxes=[[439, 437, 524, 709]])
    embedding = SamPredictor(sam).encode_images([zidane])[0]
    found = []
    for fast in (False, True):
        predictor = SamPredictor(other, fast=fast)
        predictor.set_image_embedding(embedding)
        found.append(predictor.predict_batch(box)[0][0])
    plain, quick = found
    assert abs(plain.iou_prediction - quick.iou_prediction) < 1e-4
    assert plain.region == quick.region
    assert same_mask(plain.mask, quick.mask)


def test_other_encoders_are_refused_with_a_hint():
    from mobilesam.modeling import ImageEncoderViT, TinyViT

    with pytest.raises(UnknownModelError, match=r"TinyViT, MobileSAM's, got ImageEncoderViT\. .*segment_anything"):
        ImageEncoderViT(depth=12, embed_dim=768, img_size=1024, num_heads=12, patch_size=16)
    with pytest.raises(UnknownModelError, match=r"embed_dims must be \(64, .*got \(96, 192, 384, 576\)"):
        TinyViT(embed_dims=[96, 192, 384, 576])
    with pytest.raises(UnknownModelError, match=r"img_size must be 1024, MobileSAM's, got 512"):
        TinyViT(512)


def test_training_options_of_the_encoder_reach_it():
    from mobilesam.modeling import TinyViT

    encoder = TinyViT(drop_rate=0.1, drop_path_rate=0.2, use_checkpoint=True)
    assert isinstance(load_model(device="cpu", verify=False).image_encoder, TinyViT)
    rates = {m.p for m in encoder.modules() if isinstance(m, nn.Dropout)}
    assert 0.1 in rates
    assert encoder.trunk.grad_checkpointing
    assert max(getattr(m, "drop_prob", None) or 0 for m in encoder.modules()) == pytest.approx(0.2)
