"""Run lengths as a list and as COCO's text, beside pycocotools."""

import numpy as np
import pytest

from mobilesam.geometry import rle

coco_mask = pytest.importorskip("pycocotools.mask", reason="pycocotools, the peer, is not installed")


def masks(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 90, 2)
    for share in (0, 0.01, 0.3, 0.9, 1):
        yield rng.random((height, width)) < share
    box = np.zeros((height, width), dtype=bool)
    box[height // 4 :, width // 3 : width // 2 + 1] = True
    yield box


def theirs(mask):
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))


@pytest.mark.parametrize("seed", range(30))
def test_the_text_is_that_of_pycocotools_and_comes_back(seed):
    for mask in masks(seed):
        plain, packed = rle.encode(mask), theirs(mask)
        text = rle.compress(plain)
        assert text == {"size": packed["size"], "counts": packed["counts"].decode()}
        assert rle.compress(text) == rle.compress(packed) == text
        for written in (plain, text, packed):
            assert (rle.decode(written) == mask).all()
            assert rle.decode(written).flags.c_contiguous
            assert rle.area(written) == mask.sum() == coco_mask.area(packed)
        assert isinstance(rle.area(text), int)


def test_long_runs_and_no_pixel():
    long = {"size": [60000, 60000], "counts": [5, 2_999_999_988, 600_000_000, 7]}
    packed = coco_mask.frPyObjects({"size": [30000, 60000], "counts": [5, 1_000_000_000, 799_999_995]}, 30000, 60000)
    assert rle.compress({**long, "counts": [5, 1_000_000_000, 799_999_995]})["counts"] == packed["counts"].decode()
    assert rle.area(rle.compress(long)) == rle.area(long) == 2_999_999_995
    assert rle.nothing((240, 320)) == rle.compress(rle.encode(np.zeros((240, 320), dtype=bool)))
    assert not rle.decode(rle.nothing((240, 320))).any()


@pytest.mark.parametrize("counts", ["", "o", "0o", "PP[2PP[2", [3, 2], [9, -1], "ñ"])
def test_what_is_no_mask_of_the_size_is_refused(counts):
    with pytest.raises(ValueError, match=r"counts|negative|ascii"):
        rle.decode({"size": [2, 4], "counts": counts})
