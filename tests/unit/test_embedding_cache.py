"""The embedding cache gives back what it was given, in half precision, and never anything that was damaged."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from scenes import LEFT, RIGHT, draw_scene, iou

import mobilesam
from mobilesam import EmbeddingCache, ImageError, SamPredictor, make_prompts
from mobilesam.embedding_cache import ENTRY_BYTES, SHAPE

IMAGES = [np.full((5, 7, 3), value, np.uint8) for value in range(6)]


class Encoder:
    """Makes features of an image's first pixel, and counts."""

    def __init__(self):
        self.calls = []

    def __call__(self, images):
        self.calls.append(len(images))
        return [np.full(SHAPE, image[0, 0, 0] + 0.1, np.float32) for image in images]


def ask(cache, images, model="m"):
    encoder = Encoder()
    found = cache.features(images, encoder, model=model)
    assert [round(float(f.mean()), 2) for f in found] == [image[0, 0, 0] + 0.1 for image in images]
    assert all(f.shape == SHAPE and f.dtype == np.float32 for f in found)
    return sum(encoder.calls), found


def entries(folder):
    return sorted(folder.rglob("*.embedding"))


def test_what_is_kept_comes_back_the_same(tmp_path):
    cache = EmbeddingCache(tmp_path / "new" / "cache")
    made, first = ask(cache, [IMAGES[0], IMAGES[1], IMAGES[0]])
    assert made == 2
    made, again = ask(EmbeddingCache(tmp_path / "new" / "cache"), [IMAGES[1], IMAGES[0]])
    assert made == 0
    assert np.array_equal(again[1], first[0])
    assert np.array_equal(first[0], first[0].astype(np.float16))


def test_another_model_or_shape_is_another_entry(tmp_path):
    cache = EmbeddingCache(tmp_path)
    ask(cache, [IMAGES[0]])
    assert ask(cache, [IMAGES[0]], model="n")[0] == 1
    assert ask(cache, [IMAGES[0].reshape(7, 5, 3)])[0] == 1
    assert ask(cache, [IMAGES[0]])[0] == 0


@pytest.mark.parametrize("damage", ["shorter", "empty", "one bit", "longer"])
def test_a_damaged_entry_is_made_again(tmp_path, damage, caplog):
    cache = EmbeddingCache(tmp_path)
    ask(cache, [IMAGES[0]])
    [path] = entries(tmp_path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[1_000_000] ^= 1
    path.write_bytes({"shorter": whole[:-1], "empty": b"", "one bit": flipped, "longer": whole + b"x"}[damage])
    assert ask(cache, [IMAGES[0]])[0] == 1
    assert "damaged" in caplog.text
    assert path.read_bytes() == whole
    assert ask(cache, [IMAGES[0]])[0] == 0


def test_what_was_not_used_for_longest_goes(tmp_path):
    cache = EmbeddingCache(tmp_path, max_bytes=3 * ENTRY_BYTES)
    for image in IMAGES[:3]:
        ask(cache, [image])
        time.sleep(0.02)
    assert ask(cache, [IMAGES[0]])[0] == 0  # used again
    time.sleep(0.02)
    ask(cache, [IMAGES[3]])
    assert len(entries(tmp_path)) == 3
    assert [ask(EmbeddingCache(tmp_path), [image])[0] for image in (IMAGES[0], IMAGES[2], IMAGES[3])] == [0, 0, 0]
    assert ask(cache, [IMAGES[1]])[0] == 1


def test_what_killed_processes_left_goes(tmp_path):
    (tmp_path / "ab").mkdir()
    old, new = tmp_path / "ab" / "old.unfinished", tmp_path / "ab" / "new.unfinished"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (1, 1))
    ask(EmbeddingCache(tmp_path), [IMAGES[0]])
    assert (old.exists(), new.exists()) == (False, True)


def test_beyond_half_precision_nothing_is_kept(tmp_path):
    features = np.full(SHAPE, 1e6, np.float32)
    [found] = EmbeddingCache(tmp_path).features([IMAGES[0]], lambda images: [features], model="m")
    assert np.array_equal(found, features)
    assert not entries(tmp_path)


def test_a_folder_that_cannot_be_used(tmp_path, caplog):
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match="must be a folder"):
        EmbeddingCache(tmp_path / "file")
    with pytest.raises(ValueError, match="max_bytes"):
        EmbeddingCache(tmp_path, max_bytes=ENTRY_BYTES - 1)
    cache = EmbeddingCache(tmp_path / "file" / "below")  # found out at the first entry
    assert ask(cache, [IMAGES[0]])[0] == 1
    assert ask(cache, [IMAGES[1]])[0] == 1
    assert caplog.text.count("cannot be used") == 1


BUSY = """
import sys
import numpy as np
from mobilesam.embedding_cache import ENTRY_BYTES, SHAPE, EmbeddingCache
cache = EmbeddingCache(sys.argv[1], max_bytes=4 * ENTRY_BYTES)
for value in np.random.default_rng(int(sys.argv[2])).integers(0, 6, 60):
    image = np.full((5, 7, 3), value, np.uint8)
    [found] = cache.features([image], lambda images: [np.full(SHAPE, value, np.float32)], model="m")
    assert (found == value).all()
assert "torch" not in sys.modules
"""


def test_several_processes_use_one_folder(tmp_path):
    processes = [subprocess.Popen([sys.executable, "-c", BUSY, tmp_path, str(number)]) for number in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert not list(tmp_path.rglob("*.unfinished"))
    kept, made = len(entries(tmp_path)), []
    EmbeddingCache(tmp_path).features(IMAGES, lambda some: [made.append(1) or np.zeros(SHAPE) for _ in some], model="m")
    assert 0 < kept == len(IMAGES) - len(made)


@pytest.mark.parametrize("fast", [False, True])
def test_a_predictor_with_a_cache_gives_the_same_masks(tmp_path, sam, fast):
    image = draw_scene((LEFT, RIGHT))
    boxes = [[cx - rx, cy - ry, cx + rx, cy + ry] for (cx, cy), (rx, ry) in (LEFT, RIGHT)]
    prompts = make_prompts(boxes=boxes)

    def masks(cache):
        predictor = SamPredictor(sam, fast=fast, cache=cache)
        predictor.set_image(image)
        return predictor, [crop.full((240, 320)) for [crop] in predictor.predict_batch(prompts)]

    plain, without = masks(None)
    first, made = masks(EmbeddingCache(tmp_path))
    second, found = masks(EmbeddingCache(tmp_path))
    assert len(entries(tmp_path)) == 1
    assert torch.equal(first.features, second.features)
    assert second.features.shape == plain.features.shape
    assert all(np.array_equal(a, b) for a, b in zip(made, found, strict=True))
    assert all(iou(a, b) > 0.998 for a, b in zip(without, made, strict=True))


def test_other_weights_are_another_entry(tmp_path):
    image, names = draw_scene((LEFT,)), []
    sam = mobilesam.load_model(device="cpu", verify=False)
    predictor = SamPredictor(sam, cache=EmbeddingCache(tmp_path))
    predictor.set_image(image)
    first = predictor.features
    names.append(predictor.backend.encoder_name)
    with torch.no_grad():
        sam.image_encoder.neck[0].weight.mul_(1.01)
    predictor.set_image(image)
    names.append(predictor.backend.encoder_name)
    assert len(set(names)) == len(entries(tmp_path)) == 2
    assert not torch.equal(first, predictor.features)
