"""`mobilesam.utils.amg` beside upstream's, name by name, on random data."""

import sys

import numpy as np
import pytest
import torch

from mobilesam import ResizeLongestSide
from mobilesam.geometry import rle
from mobilesam.utils import amg, transforms

theirs = pytest.importorskip("mobile_sam.utils.amg", reason="the parity peer mobilesam-mirror is not installed")

SIZES = [(7, 5), (1, 9), (9, 1), (32, 48)]


def random_masks(count, size, seed=0):
    """Blobs and dust, one empty, one full, one that touches all edges."""
    rng = np.random.default_rng(seed)
    masks = rng.random((count, *size)) < rng.random((count, 1, 1))
    masks[0], masks[1], masks[2] = False, True, True
    masks[2, 1:-1, 1:-1] = False
    return masks


def test_every_public_name_of_upstream_is_there():
    public = {n for n, v in vars(theirs).items() if getattr(v, "__module__", "") == theirs.__name__}
    assert len(public) == 17
    assert public <= set(dir(amg))
    assert transforms.ResizeLongestSide is ResizeLongestSide


@pytest.mark.parametrize("size", SIZES)
def test_run_lengths_equal_upstream_and_come_back(size):
    masks = random_masks(20, size)
    expected = theirs.mask_to_rle_pytorch(torch.from_numpy(masks))
    assert amg.mask_to_rle_pytorch(torch.from_numpy(masks)) == expected
    for mask, encoded in zip(masks, expected, strict=True):
        decoded = amg.rle_to_mask(encoded)
        assert np.array_equal(decoded, mask)
        assert decoded.flags.c_contiguous
        assert amg.area_from_rle(encoded) == mask.sum()
        assert amg.coco_encode_rle(encoded) == theirs.coco_encode_rle(encoded)


def test_run_lengths_of_a_crop_are_those_of_the_whole_mask():
    crops = random_masks(20, (6, 4), seed=1)
    for x, y in [(0, 0), (3, 2), (5, 0), (0, 4), (5, 4)]:
        for crop in crops:
            whole = np.zeros((10, 9), dtype=bool)
            whole[y : y + 6, x : x + 4] = crop
            assert rle.encode(crop, corner=(x, y), size=(10, 9)) == rle.encode(whole)


@pytest.mark.parametrize("shape", [(20,), (4, 5), ()])
def test_boxes_around_masks_equal_upstream(shape):
    for size in SIZES:
        masks = torch.from_numpy(random_masks(20, size))
        masks = masks.reshape(*shape, *size) if shape else masks[5]
        assert torch.equal(amg.batched_mask_to_box(masks), theirs.batched_mask_to_box(masks))
    assert amg.batched_mask_to_box(torch.zeros(0, 5, 5, dtype=torch.bool)).shape == (0, 4)


def test_stability_scores_equal_upstream_where_it_has_one():
    logits = torch.randn(8, 20, 30, generator=torch.Generator().manual_seed(0)) * 3
    logits[0] = -9
    ours, upstream = (module.calculate_stability_score(logits, 0.5, 1.5) for module in (amg, theirs))
    assert upstream[0].isnan()
    assert ours[0] == 0
    assert torch.equal(ours[1:], upstream[1:])


@pytest.mark.parametrize("size", [(480, 640), (333, 500), (1000, 7), (64, 64)])
def test_crop_boxes_and_grids_equal_upstream(size):
    for layers, ratio in [(0, 0.3), (1, 512 / 1500), (3, 0.5), (2, 0)]:
        assert amg.generate_crop_boxes(size, layers, ratio) == theirs.generate_crop_boxes(size, layers, ratio)
    for ours, upstream in zip(
        amg.build_all_layer_point_grids(9, 2, 2), theirs.build_all_layer_point_grids(9, 2, 2), strict=True
    ):
        assert np.array_equal(ours, upstream)
    assert np.array_equal(amg.build_point_grid(32), theirs.build_point_grid(32))


def test_uncropping_equals_upstream():
    crop_box = [5, 7, 45, 37]
    boxes, points = torch.randint(0, 40, (30, 4)), torch.rand(30, 2, dtype=torch.float64)
    masks = torch.from_numpy(random_masks(5, (30, 40)))
    for shape in ((30,), (5, 6)):
        for name, values in (("uncrop_boxes_xyxy", boxes.view(*shape, 4)), ("uncrop_points", points.view(*shape, 2))):
            ours, upstream = (getattr(module, name)(values, crop_box) for module in (amg, theirs))
            assert torch.equal(ours, upstream)
            assert ours.dtype == upstream.dtype
    assert torch.equal(amg.uncrop_masks(masks, crop_box, 50, 60), theirs.uncrop_masks(masks, crop_box, 50, 60))
    assert torch.equal(amg.uncrop_masks(masks, [0, 0, 40, 30], 30, 40), masks)


def test_boxes_near_a_crops_edge_equal_upstream():
    boxes = torch.randint(0, 120, (500, 4), generator=torch.Generator().manual_seed(0))
    for crop_box in ([0, 0, 120, 120], [40, 0, 160, 120], [200, 100, 320, 240]):
        ours, upstream = (m.is_box_near_crop_edge(boxes, crop_box, [0, 0, 320, 240]) for m in (amg, theirs))
        assert torch.equal(ours, upstream)


@pytest.mark.parametrize("box", [np.array([1, 2, 7, 5]), torch.tensor([1.5, 2.0, 7.0, 5.0])])
def test_width_and_height_equal_upstream(box):
    before = box.tolist()
    assert amg.box_xyxy_to_xywh(box).tolist() == theirs.box_xyxy_to_xywh(box).tolist()
    assert box.tolist() == before


def test_batches_equal_upstream():
    values = list(range(10)), np.arange(20).reshape(10, 2)
    for ours, upstream in zip(amg.batch_iterator(4, *values), theirs.batch_iterator(4, *values), strict=True):
        assert ours[0] == upstream[0]
        assert np.array_equal(ours[1], upstream[1])
    with pytest.raises(ValueError, match="one length"):
        list(amg.batch_iterator(4, [1], [1, 2]))


@pytest.mark.parametrize("mode", ["holes", "islands"])
@pytest.mark.parametrize("area", [0, 3, 30, 10_000])
def test_small_regions_equal_upstream(mode, area):
    for size in SIZES:
        for mask in random_masks(10, size):
            (ours, changed), (upstream, their_changed) = (
                m.remove_small_regions(mask, area, mode) for m in (amg, theirs)
            )
            assert np.array_equal(ours, upstream)
            assert changed == their_changed


@pytest.mark.parametrize("keep", [torch.tensor([True, False, True]), torch.tensor([2, 0])])
def test_mask_data_filters_and_grows_as_upstreams(keep):
    results = []
    for module in (amg, theirs):
        data = module.MaskData()
        for value in (0, 10):
            columns = {"a": torch.arange(3) + value, "b": np.arange(3.0) + value, "c": [value, "x", None]}
            part = module.MaskData(**columns)
            part.filter(keep)
            data.cat(part)
        data["d"] = [1]
        del data["d"]
        data.to_numpy()
        results.append({name: list(column) for name, column in data.items()})
    assert results[0] == results[1]
    with pytest.raises(TypeError, match="list, an array or a tensor"):
        amg.MaskData(a=3)


def test_compressed_run_lengths_go_without_pycocotools(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    assert amg.coco_encode_rle({"size": [2, 2], "counts": [4]}) == {"size": [2, 2], "counts": "4"}
