"""Image tokens that are never written out, beside the plain transformer's."""

import pytest
import torch

from mobilesam import SamPredictor, build_sam_vit_t, make_prompts
from mobilesam.fast.decoder import FastDecoder
from mobilesam.geometry.masks import WHOLE_TILE


@pytest.fixture
def other_weights():
    """A decoder in which every bias and every weight of a norm counts."""
    sam = build_sam_vit_t("mobile_sam.pt")
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in sam.mask_decoder.transformer.parameters():
            parameter += 0.3 * parameter.std() * torch.randn_like(parameter) if parameter.ndim > 1 else 0
            if parameter.ndim == 1:
                parameter += 0.2 * torch.randn_like(parameter)
    return sam


@torch.no_grad()
def both(sam, batch, tokens):
    """Return image tokens and prompt tokens of the fast and of the plain decoder."""
    torch.manual_seed(1)
    features = torch.randn(1, 256, 64, 64)
    prompts = sam.prompt_encoder(
        (torch.rand(batch, tokens, 2) * 1024, torch.randint(0, 2, (batch, tokens))), None, None
    )
    decoder = sam.mask_decoder
    image = features + prompts[1]
    own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight]).expand(batch, -1, -1)
    plain_tokens, plain_image = decoder.transformer(
        image.expand(batch, -1, -1, -1), sam.prompt_encoder.get_dense_pe(), torch.cat([own, prompts[0]], dim=1)
    )
    fast = FastDecoder(sam)
    found = fast.attend(fast.image_side(features), prompts[0], answers=range(4))
    return found, plain_tokens, plain_image


@pytest.mark.parametrize(("batch", "tokens"), [(1, 1), (6, 2), (4, 20)])
def test_they_are_those_of_the_plain_transformer(other_weights, batch, tokens):
    found, plain_tokens, plain_image = both(other_weights, batch, tokens)
    assert len(found.image_tokens) == batch
    for ours, expected in zip(found.image_tokens, plain_image, strict=True):
        weight, bias = ours.level.weight, ours.level.bias
        assert torch.allclose(weight * ours.of_tile(WHOLE_TILE) + bias, expected, atol=2e-5)
        assert torch.allclose(ours.projected(torch.diag(weight)) + bias, expected, atol=2e-5)
        tile = weight * ours.of_tile((3, 10, 5, 64)) + bias
        assert torch.allclose(tile, expected.view(64, 64, 256)[3:5, 10:64].flatten(0, 1), atol=2e-5)
    assert torch.allclose(found.tokens, plain_tokens[:, :5], atol=2e-5)


def test_another_number_of_heads_is_followed(other_weights):
    for module in other_weights.mask_decoder.transformer.modules():
        if hasattr(module, "num_heads"):
            module.num_heads = 4
    found, plain_tokens, _ = both(other_weights, 2, 2)
    assert torch.allclose(found.tokens, plain_tokens[:, :5], atol=2e-5)


def test_what_an_image_shares_is_kept_for_that_image_only(sam, zidane):
    prompt = make_prompts(boxes=[[439, 437, 524, 709]])
    predictor = SamPredictor(sam, fast=True)
    predictor.set_image(zidane)
    first = predictor.get_image_embedding()
    [[crop]] = predictor.predict_batch(prompt)
    kept = predictor.backend._last_image
    [[again]] = predictor.predict_batch(prompt)
    assert predictor.backend._last_image is kept
    assert again.area == crop.area

    predictor.set_image(zidane[:, ::-1].copy())
    [[turned]] = predictor.predict_batch(prompt)
    assert turned.area != crop.area
    with torch.no_grad():
        predictor.get_image_embedding().copy_(first)
    [[back]] = predictor.predict_batch(prompt)
    assert (back.region, back.area) == (crop.region, crop.area)
