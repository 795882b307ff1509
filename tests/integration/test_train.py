"""A whole training on drawn scenes, in which masks are to be the inner part of what is seen."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from scenes import draw_scene, ellipse_mask

from mobilesam import SAM, SamPredictor, make_prompts
from mobilesam.training.coco import coco_images
from mobilesam.training.recipe import Recipe
from mobilesam.training.train import train
from mobilesam.training.watch import Watch
from mobilesam.weights import load_state_dict, read_card

SIZE = (256, 192)
RECIPE = {"passes": 5, "batch": 4, "rate": 4e-4}


def scene(rng):
    """Return an image and the true masks of its two objects: ellipses of less than the radii."""
    objects = [
        ((int(rng.integers(50, 75)) + 110 * i, int(rng.integers(60, 130))), (int(rng.integers(25, 40)), 30))
        for i in range(2)
    ]
    truths = [ellipse_mask(centre, (radii[0] * 0.8, radii[1] * 0.8), SIZE) for centre, radii in objects]
    boxes = [[x - rx, y - ry, x + rx, y + ry] for (x, y), (rx, ry) in objects]
    return draw_scene(objects, SIZE), truths, boxes


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """Five images with two masks each, and one that cannot be read."""
    from pycocotools import mask as coco_mask

    folder, rng, images, annotations = tmp_path_factory.mktemp("train"), np.random.default_rng(0), [], []
    for number in range(5):
        image, truths, boxes = scene(rng)
        Image.fromarray(image).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": SIZE[1], "width": SIZE[0]})
        for true, (x0, y0, x1, y1) in zip(truths, boxes, strict=True):
            rle = coco_mask.encode(np.asfortranarray(true.astype(np.uint8)))
            rle["counts"] = rle["counts"].decode()
            row = {"id": len(annotations), "image_id": number, "category_id": 1, "iscrowd": 0, "area": int(true.sum())}
            annotations.append({**row, "segmentation": rle, "bbox": [x0, y0, x1 - x0, y1 - y0]})
    images.append({"id": 99, "file_name": "missing.png", "height": 10, "width": 10})
    annotations.append({**annotations[0], "id": 99, "image_id": 99})
    categories = [{"id": 1, "name": "core"}]
    data = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "coco.json").write_text(json.dumps(data))
    return folder


def run(sam, coco, out):
    failed = []
    images = coco_images(coco / "coco.json", coco, failed)
    return train(sam, images, out, recipe=Recipe(**RECIPE), may_forget=1, watch=Watch(shown=False), failed=failed)


@pytest.fixture(scope="module")
def training(sam, coco):
    before = {name: value.clone() for name, value in sam.state_dict().items()}
    training = run(sam, coco, coco / "ours.safetensors")
    assert all((value == before[name]).all() for name, value in sam.state_dict().items())
    return training


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def test_masks_of_unseen_images_get_better(sam, training):
    assert training.helped, training
    image, truths, boxes = scene(np.random.default_rng(7))
    found = []
    for model in (sam, SAM(training.path).model):
        predictor = SamPredictor(model)
        predictor.set_image(image)
        masks = predictor.predict_batch(make_prompts(boxes=boxes))
        found.append(np.mean([iou(mask.full(SIZE[::-1]), true) for [mask], true in zip(masks, truths, strict=True)]))
    assert found[1] > found[0]


def test_the_card_says_what_was_done(sam, training):
    card = read_card(training.path)
    assert card == json.loads(json.dumps(training.card))
    assert [card["data"][name] for name in ("images", "masks", "left_out")] == [5, 10, 1]
    assert card["images_left_out"]["gain"] > 0
    assert card["photographs"]["masks"] == 70
    assert "missing.png" in training.failed[0][0]
    text = training.path.with_suffix(".md").read_text()
    assert text == training.text + "\n"
    assert str(training) == f"{training.text}\n- Left out: {training.failed[0][0]}: {training.failed[0][1]}"
    assert "on images left out" in text


def test_upstream_loads_it_strictly(training, sam, tmp_path):
    from mobile_sam import sam_model_registry

    from mobilesam.weights import save_checkpoint

    path = tmp_path / "ours.pt"
    save_checkpoint(SAM(training.path).model.state_dict(), path, training.card)
    sam_model_registry["vit_t"](checkpoint=str(path))
    assert read_card(path) == json.loads(json.dumps(training.card))
    ours, theirs = load_state_dict(path), load_state_dict(training.path)
    assert ours.keys() == theirs.keys()
    assert all((value == theirs[name]).all() for name, value in ours.items())


def killed(coco, out, made):
    """Start a training in another process, and kill it as soon as a file of its folder is there."""
    tests = [str(__file__).rsplit("/", 2)[0], str(__file__).rsplit("/", 1)[0]]
    code = (
        f"import sys; sys.path[:0] = {tests!r}\n"
        "from pathlib import Path; from mobilesam import load_model; from test_train import run\n"
        "run(load_model(device='cpu'), Path(sys.argv[1]), sys.argv[2])"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(coco), str(out)])
    folder = out.with_name(out.name + ".unfinished")
    while not list(folder.glob(made)) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(folder.glob(made))
    assert not out.exists()
    return folder


def test_a_killed_training_goes_on_and_gives_the_same_file(sam, training, coco):
    out, before = coco / "killed.safetensors", set(coco.iterdir())
    folder = killed(coco, out, "embeddings/*/*.embedding")
    assert not list(folder.glob("part*"))
    killed(coco, out, "part0.pt")
    (folder / "0.unfinished").write_text("what a kill leaves of a checkpoint")
    assert run(sam, coco, out).helped
    assert out.read_bytes() == training.path.read_bytes()
    assert set(coco.iterdir()) - before == {out, out.with_suffix(".md")}
