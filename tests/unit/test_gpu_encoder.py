"""The encoder for GPUs: the same embeddings, here on a CPU, and what happens where it cannot be recorded."""

import warnings

import pytest
import torch

from mobilesam import build_sam_vit_t
from mobilesam.fast.gpu_encoder import GpuEncoder

NO_GPU = "a GPU that torch can use is missing"


@pytest.fixture(scope="module")
def pixels():
    torch.manual_seed(0)
    return torch.randn(1, 3, 1024, 1024)


@pytest.fixture(scope="module")
def expected(sam, pixels):
    with torch.no_grad():
        return sam.encode_image(pixels)


def test_embeddings_are_the_plain_encoders(sam, pixels, expected):
    found = GpuEncoder(sam)(pixels)
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=1e-4)


def test_the_model_itself_stays_as_it_was(sam, pixels, expected):
    encoder = GpuEncoder(sam, torch.bfloat16)
    assert {p.dtype for p in encoder._trunk.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in encoder._neck.parameters()} == {torch.float32}
    assert {p.dtype for p in sam.parameters()} == {torch.float32}
    with torch.no_grad():
        assert torch.equal(sam.encode_image(pixels), expected)


def test_other_weights_need_another_copy():
    other = build_sam_vit_t("mobile_sam.pt")
    encoder = GpuEncoder(other)
    assert encoder.fits(other, torch.float32)
    assert not encoder.fits(other, torch.bfloat16)
    with torch.no_grad():
        other.image_encoder.neck[0].weight.mul_(2)
    assert not encoder.fits(other, torch.float32)


def test_a_recording_that_fails_is_said_once_and_costs_nothing(sam, pixels, expected, monkeypatch):
    def out_of_memory():
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    encoder = GpuEncoder(sam)
    encoder._largest = 4  # as on a GPU
    monkeypatch.setattr(torch.cuda, "Stream", out_of_memory)
    first = encoder(pixels)
    with pytest.warns(UserWarning, match=r"could not be recorded.*out of memory"):
        second = encoder(pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        third = encoder(pixels)
    for found in (first, second, third):
        assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
def test_a_recorded_pass_reads_what_it_is_given(sam, pixels):
    device = torch.device("cuda")
    on_gpu = build_sam_vit_t("mobile_sam.pt").to(device)
    encoder = GpuEncoder(on_gpu)
    images = [pixels.to(device), pixels.to(device).flip(-1), pixels.to(device)]
    found = [encoder(image) for image in images]  # the second records, the third replays
    assert 1 in encoder._recorded
    with torch.no_grad():
        for ours, image in zip(found, images, strict=True):
            assert torch.allclose(ours, on_gpu.encode_image(image), atol=1e-2)
