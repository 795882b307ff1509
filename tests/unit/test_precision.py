"""Products in bfloat16: nearly the same masks, and float32 wherever bfloat16 would be slow or wrong."""

import warnings

import numpy as np
import pytest
import torch

import mobilesam.fast.backend
from mobilesam import SAM, SamPredictor, make_prompts
from mobilesam.fast.encoder import FastEncoder
from mobilesam.selftest import usable_precision

BOXES = [[439, 437, 524, 709], [120, 195, 1122, 712], [740, 45, 1110, 710]]


@pytest.fixture
def multiplies(monkeypatch):
    """Say whether the device multiplies bfloat16."""
    return lambda answer: monkeypatch.setattr(mobilesam.fast.backend, "multiplies_bfloat16", lambda device: answer)


has_kernels = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    reason="this processor has no kernels for bfloat16: they need AVX-512 or AVX-NE-CONVERT",
)


def masks(sam, image, **options):
    predictor = SamPredictor(sam, fast=True, **options)
    predictor.set_image(image)
    assert predictor.features.dtype == torch.float32
    prompts = make_prompts(boxes=BOXES) + make_prompts(point_coords=[[[900, 370]]], point_labels=[[1]])
    return [crop.full(image.shape[:2]) for [crop] in predictor.predict_batch(prompts)]


@has_kernels
@pytest.mark.parametrize("fast_encoder", [True, False], ids=["fast encoder", "plain encoder"])
def test_bf16_gives_nearly_the_same_masks(sam, zidane, multiplies, monkeypatch, fast_encoder):
    multiplies(True)
    expected = masks(sam, zidane)
    if not fast_encoder:
        monkeypatch.setattr(FastEncoder, "supports", staticmethod(lambda sam: False))
    found = masks(sam, zidane, precision="bf16")
    agreement = [(a & b).sum() / (a | b).sum() for a, b in zip(expected, found, strict=True)]
    assert min(agreement) > 0.97
    assert any(np.any(a != b) for a, b in zip(expected, found, strict=True))  # it really is another precision


def test_auto_asks_the_device(sam, multiplies):
    for answer, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        multiplies(answer)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert SamPredictor(sam, precision="auto").backend.dtype == dtype


def test_bf16_falls_back_where_it_would_be_slower(sam, multiplies):
    multiplies(False)
    with pytest.warns(UserWarning, match="does not multiply bfloat16"):
        assert SamPredictor(sam, precision="bf16").backend.dtype == torch.float32


@has_kernels
def test_bf16_falls_back_if_the_self_test_fails(sam, multiplies, monkeypatch):
    multiplies(True)
    encode = FastEncoder.__call__
    monkeypatch.setattr(
        FastEncoder, "__call__", lambda self, x: encode(self, x) * (0 if self._dtype == torch.bfloat16 else 1)
    )
    with pytest.warns(UserWarning, match='precision="fp32" is used instead of'):
        assert SAM(sam, precision="bf16").predictor.backend.precision == "fp32"


@has_kernels
def test_the_self_test_passes_in_bf16(sam, multiplies):
    multiplies(True)
    assert usable_precision(sam, "bf16") == "bf16"


def test_another_precision_is_an_error(sam):
    with pytest.raises(ValueError, match="precision must be one of fp32, bf16, auto, got 'fp16'"):
        SAM(sam, precision="fp16")
