"""The fast encoder beside the plain one: the same embedding."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tolerances import EMBEDDING

from mobilesam import SamPredictor, build_sam_vit_t
from mobilesam.fast.encoder import FastEncoder

pytestmark = pytest.mark.skipif(
    not FastEncoder.supports(build_sam_vit_t(None)), reason="torch's mkldnn operators are missing on this machine"
)


def embed(predictor, image):
    predictor.set_image(image)
    return predictor.features


@pytest.mark.parametrize("crop", [(720, 1280), (720, 400), (100, 900), (720, 720), (40, 3)])
def test_the_embedding_is_the_plain_one(sam, zidane, crop):
    image = zidane[: crop[0], : crop[1]].copy()
    fast, plain = SamPredictor(sam, fast=True), SamPredictor(sam)
    assert (embed(fast, image) - embed(plain, image)).abs().max() <= EMBEDDING
    assert fast.backend._encoder is not None
    assert plain.backend._encoder is None


def test_batch_normalisation_is_folded_right(sam):
    """The bundled weights have it folded already; these do not."""
    other = build_sam_vit_t("mobile_sam.pt")
    generator = torch.Generator().manual_seed(0)
    for module in other.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                tensor.data += 0.1 * torch.randn(tensor.shape, generator=generator)
            module.running_var.data *= 1 + torch.rand(module.running_var.shape, generator=generator)
    pixels = torch.randn(2, 3, 1024, 1024, generator=generator)
    with torch.no_grad():
        expected = other.encode_image(pixels)
    assert (FastEncoder(other)(pixels) - expected).abs().max() <= 5 * EMBEDDING


def test_new_weights_are_packed_again(zidane):
    model = build_sam_vit_t("mobile_sam.pt")
    predictor = SamPredictor(model, fast=True)
    before = embed(predictor, zidane)
    packed = predictor.backend._encoder
    embed(predictor, zidane)
    assert predictor.backend._encoder is packed
    state = model.state_dict()
    state["image_encoder.neck.1.bias"] = state["image_encoder.neck.1.bias"] + 1
    model.load_state_dict(state)
    assert (embed(predictor, zidane) - before).abs().max() > 0.01
    with torch.no_grad():
        expected = SamPredictor(model)
        assert (predictor.features - embed(expected, zidane)).abs().max() <= EMBEDDING


def test_predictors_of_one_model_share_the_packed_weights(sam, zidane):
    first, second = SamPredictor(sam, fast=True), SamPredictor(sam, fast=True)
    embed(first, zidane)
    embed(second, zidane)
    assert first.backend._encoder is second.backend._encoder


def test_threads_that_begin_at_once_get_the_plain_embedding(sam, zidane):
    pixels = SamPredictor(sam, fast=True)._to_pixels(zidane)[None]
    encoder = FastEncoder(sam)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(encoder, [pixels] * 4))
    with torch.no_grad():
        expected = sam.encode_image(pixels)
    assert all((embedding - expected).abs().max() <= EMBEDDING for embedding in found)


def test_other_precisions_take_the_plain_way(sam):
    assert not FastEncoder.supports(build_sam_vit_t(None).double())
