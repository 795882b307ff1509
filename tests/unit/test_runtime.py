"""`OnnxPredictor` beside `SamPredictor`, and in a Python without torch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tolerances import EXPORTED_LOGITS, SCORE, same_mask

from mobilesam import (
    CheckpointError,
    MissingPackageError,
    NoImageSetError,
    OnnxPredictor,
    PromptError,
    SamPredictor,
    make_prompts,
)

ROOT = Path(__file__).resolve().parents[2]
BOX, POINT = [439, 437, 524, 709], [[900, 370]]
HW = (720, 1280)


@pytest.fixture(scope="module")
def predictors(onnx_pair, sam, zidane):
    predictors = OnnxPredictor(onnx_pair.encoder.parent), SamPredictor(sam)
    for predictor in predictors:
        predictor.set_image(zidane)
    return predictors


def binary_mask():
    mask = np.zeros(HW, bool)
    mask[437:709, 439:524] = True
    return mask


@pytest.mark.parametrize("multimask_output", [False, True])
@pytest.mark.parametrize(
    "prompt",
    [
        {"box": BOX},
        {"point_coords": POINT},
        {"point_coords": [[480, 500], [700, 100]], "point_labels": [1, 0], "box": BOX},
        {"point_coords": POINT, "mask_input": binary_mask()},
        {"mask_input": binary_mask()},
    ],
    ids=lambda prompt: "+".join(prompt),
)
def test_predict(predictors, prompt, multimask_output):
    ours, expected = (p.predict(**prompt, multimask_output=multimask_output) for p in predictors)
    assert ours[0].dtype == bool
    assert ours[0].shape == expected[0].shape
    assert same_mask(ours[0], expected[0])
    assert np.abs(ours[1] - expected[1]).max() <= SCORE
    assert np.abs(ours[2] - expected[2]).max() <= EXPORTED_LOGITS


def test_logits_can_be_returned(predictors):
    ours, expected = (p.predict(box=BOX, return_logits=True)[0] for p in predictors)
    assert np.abs(ours - expected).max() <= EXPORTED_LOGITS


@pytest.mark.parametrize("multimask_output", [False, True, None])
def test_ragged_prompts_in_one_call(predictors, multimask_output):
    prompts = make_prompts(boxes=[BOX, [700, 40, 1100, 720], [100, 200, 400, 700]] * 6)
    prompts += make_prompts(point_coords=[POINT, [[480, 500], [700, 100]]], point_labels=[[1], [1, 0]])
    prompts += make_prompts(boxes=[BOX], mask_inputs=[binary_mask()])
    regions = [None, (700, 40, 1100, 720)] + [None] * (len(prompts) - 2)
    kwargs = {"regions": regions, "multimask_output": multimask_output, "return_low_res_logits": True}
    ours, expected = (p.predict_batch(prompts, **kwargs) for p in predictors)
    for candidates, others in zip(ours, expected, strict=True):
        for a, b in zip(candidates, others, strict=True):
            assert same_mask(a.full(HW), b.full(HW))
            assert abs(a.iou_prediction - b.iou_prediction) <= SCORE
            assert a.stability_score == pytest.approx(b.stability_score, abs=1e-3)
            assert np.abs(a.low_res_logits - b.low_res_logits).max() <= EXPORTED_LOGITS


def test_best_only_and_no_prompts(predictors):
    [[best]] = predictors[0].predict_batch(make_prompts(point_coords=[POINT]), multimask_output=True, best_only=True)
    assert best.area == 181700
    assert predictors[0].predict_batch([]) == []


def test_images_of_several_sizes(predictors, sam, zidane):
    images = [zidane, zidane[:333, :200]]
    ours, expected = (p.encode_images(images) for p in predictors)
    for a, b in zip(ours, expected, strict=True):
        assert np.abs(a.features - b.features.numpy()).max() <= 1e-5
        assert (a.original_hw, a.input_hw) == (b.original_hw, b.input_hw)


def test_errors_say_what_to_do(onnx_pair, sam, tmp_path, monkeypatch):
    folder = onnx_pair.encoder.parent
    with pytest.raises(NoImageSetError):
        OnnxPredictor(folder).predict(box=BOX)
    predictor = OnnxPredictor(folder)
    predictor.set_image(np.zeros((50, 60, 3), np.uint8))
    with pytest.raises(PromptError, match="Object 1: box must overlap the image"):
        predictor.predict_batch(make_prompts(boxes=[[1, 1, 9, 9], [100, 100, 200, 200]]))
    with pytest.raises(CheckpointError, match=r"must hold encoder\.onnx and decoder\.onnx"):
        OnnxPredictor(tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match="pip install onnxruntime"):
        OnnxPredictor(folder)


RAGGED_SCRIPT = """
import sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "timm", "cv2", "safetensors", "tqdm"):
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Wall())

import numpy as np
from PIL import Image

from mobilesam import OnnxPredictor, make_prompts

folder, image = sys.argv[1:]
predictor = OnnxPredictor(folder)
predictor.set_image(Image.open(image))
prompts = make_prompts(boxes=[[439, 437, 524, 709]])
prompts += make_prompts(
    point_coords=[[[900, 370]], [[480, 500], [700, 100]]],
    point_labels=[[1], [1, 0]],
)
for [crop] in predictor.predict_batch(prompts):
    print(crop.area)
masks, scores, logits = predictor.predict(point_coords=[[900, 370]])
print(*masks.sum(axis=(1, 2)))
assert "torch" not in sys.modules
"""


def test_a_script_without_torch(onnx_pair, photos):
    command = [sys.executable, "-c", RAGGED_SCRIPT, onnx_pair.encoder.parent, photos["zidane"]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    box, point, points, candidates = done.stdout.splitlines()
    assert (box, point, candidates) == ("9714", "59088", "43392 127290 181700")
    assert int(points) > 1000


def test_importing_the_package_imports_no_torch():
    code = "import sys, mobilesam.runtime, mobilesam.weights; print('torch' in sys.modules, 'cv2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_every_public_name_is_there():
    import mobilesam

    for name in mobilesam.__all__:
        assert getattr(mobilesam, name) is not None
    assert set(mobilesam.__all__) <= set(dir(mobilesam))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mobilesam.nothing


def test_an_embedding_is_put_back_attribute_by_attribute(predictors):
    predictor = predictors[0]
    expected = predictor.predict(box=BOX, multimask_output=False)
    names = ("is_image_set", "input_size", "original_size", "features")
    state = {name: getattr(predictor, name) for name in names}
    predictor.reset_image()
    for name, value in state.items():
        setattr(predictor, name, value)
    assert all(map(np.array_equal, predictor.predict(box=BOX, multimask_output=False), expected))
