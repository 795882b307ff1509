import numpy as np
import pytest
import torch
from tolerances import UPSCALED_NOISE

from mobilesam.geometry import pillow_resize
from mobilesam.geometry.masks import crop_mask, region_above, stability_score, together, upscale_logits
from mobilesam.geometry.transforms import ResizeLongestSide

SIZES = [(480, 640), (640, 480), (333, 500), (1024, 1024), (3000, 4000), (77, 1300), (5, 1200)]


@pytest.mark.parametrize("original_hw", SIZES)
def test_upscale_logits_of_a_region_equals_the_plain_version_there(sam, original_hw):
    logits = torch.randn(1, 2, 256, 256, generator=torch.Generator().manual_seed(0)) * 10
    transform = ResizeLongestSide()
    plain = sam.postprocess_masks(logits, transform.input_hw(original_hw), original_hw)[0]
    height, width = original_hw
    region = (width // 5, height // 7, width // 2 + 1, height)
    fast = upscale_logits(logits[0], transform.upscale_matrices(original_hw), region)
    x0, y0, x1, y1 = region
    assert fast.shape == plain[:, y0:y1, x0:x1].shape
    assert (fast - plain[:, y0:y1, x0:x1]).abs().max() < UPSCALED_NOISE


@pytest.mark.parametrize("original_hw", SIZES)
def test_region_above_holds_every_upscaled_logit_that_is(original_hw):
    rng = torch.Generator().manual_seed(1)
    matrices = ResizeLongestSide().upscale_matrices(original_hw)
    height, width = original_hw
    for threshold in (0.0, -1.0, 9.99):
        low = torch.full((256, 256), -20.0)
        low[30:37, 90:150] = 10 + torch.randn(7, 60, generator=rng)
        low[250:, 3] = 30  # in the padding of most sizes
        above = (upscale_logits(low, matrices, (0, 0, width, height)) > threshold).numpy()
        x0, y0, x1, y1 = region_above(low, matrices, threshold)
        assert above.sum() == above[y0:y1, x0:x1].sum()
        assert (x1 - x0) * (y1 - y0) < height * width or min(original_hw) < 80
    assert region_above(torch.full((256, 256), -3.0), matrices, -2.0) == (0, 0, 0, 0)


def test_stability_score_is_the_iou_of_the_two_cuts():
    logits = torch.tensor([[3.0, 0.5, -0.5, -3.0]])  # one pixel above +1, three above -1
    assert stability_score(logits).item() == pytest.approx(1 / 3)


def test_stability_score_of_an_empty_mask_is_zero():
    assert stability_score(torch.full((4, 4), -9.0)).item() == 0


def crop(logits, region):
    return crop_mask(logits, region, mask_threshold=0.0, iou_prediction=0.5, low_res_logits=None)


def test_crop_mask_is_tight_and_knows_where_it_was():
    logits = torch.full((10, 10), -5.0)
    logits[2:4, 3:7] = 5
    made = crop(logits, (100, 200, 110, 210))
    assert made.region == (103, 202, 107, 204)
    assert made.area == 8
    full = made.full((300, 300))
    assert full.sum() == 8
    assert full[202:204, 103:107].all()


def test_crop_mask_without_a_pixel_is_empty():
    made = crop(torch.full((10, 10), -5.0), (100, 200, 110, 210))
    assert made.region == (0, 0, 0, 0)
    assert made.mask.shape == (0, 0)
    assert not made.full((300, 300)).any()
    assert np.isfinite(made.stability_score)


def test_what_is_brought_to_the_cpu_together_is_what_it_was():
    odd = torch.tensor([[True, False, True]])  # three bytes: the float behind it begins between two floats
    given = [odd, torch.tensor(0.25), torch.arange(12.0).view(3, 4).T, torch.empty(0, 5), torch.tensor([7], dtype=int)]
    for array, tensor in zip(together(given), given, strict=True):
        assert (array.shape, array.dtype) == (tuple(tensor.shape), tensor.numpy().dtype)
        assert np.array_equal(array, tensor.numpy())


@pytest.mark.parametrize("hw", [(480, 640), (641, 427), (37, 53), (1024, 1024), (3000, 1500), (1100, 2200), (1, 2)])
def test_the_resize_for_a_gpu_is_pillows_to_the_bit(hw):
    image = np.random.default_rng(0).integers(0, 256, (*hw, 3), dtype=np.uint8)
    expected = ResizeLongestSide().apply_image(image)
    assert pillow_resize.knows(hw)
    assert np.array_equal(pillow_resize.resize(torch.from_numpy(image), expected.shape[:2]).numpy(), expected)
