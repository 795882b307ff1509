"""Exported pairs in the hands of the programs they are for: what they feed, and what upstream's module answers."""

import re
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from tolerances import EXPORTED_LOGITS, LOW_RES_LOGITS, SCORE

from mobilesam import SAM, SamPredictor
from mobilesam.utils.onnx import SamOnnxModel

NO_MASK = np.zeros((1, 1, 256, 256), np.float32)
BOX, POINT = [439, 437, 524, 709], [900, 370]
HW = (720, 1280)


def session(path) -> onnxruntime.InferenceSession:
    # From bytes: ONNX Runtime takes the name `.ort` for its own format, the App's runtime looks inside.
    return onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def predictor(sam, zidane):
    predictor = SamPredictor(sam)
    predictor.set_image(zidane)
    return predictor


@pytest.fixture(scope="module")
def exported(sam, tmp_path_factory):
    """The pair with the original's signature and all four masks: encoder and decoder sessions."""
    folder = tmp_path_factory.mktemp("sam")
    pair = SAM(sam).export(format="onnx", signature="sam", return_single_mask=False, folder=folder)
    return tuple(session(path) for path in pair)


def feed(embedding, points, labels, *, original_hw=HW, mask_input=NO_MASK, has_mask_input=0.0) -> dict:
    """The six inputs, as the original's notebook fills them from pixels of the image."""
    coords = np.array(points, np.float64)[None]
    scale = 1024 / max(original_hw)
    inner = [int(side * scale + 0.5) for side in original_hw]
    coords = coords * [inner[1] / original_hw[1], inner[0] / original_hw[0]]
    return {
        "image_embeddings": np.asarray(embedding),
        "point_coords": coords.astype(np.float32),
        "point_labels": np.array(labels, np.float32)[None],
        "mask_input": mask_input,
        "has_mask_input": np.array([has_mask_input], np.float32),
        "orig_im_size": np.array(original_hw, np.float32),
    }


def prompts(predictor) -> list[dict]:
    embedding = predictor.features.numpy()
    earlier = predictor.predict(box=BOX, multimask_output=False)[2][None]
    corners = [BOX[:2], BOX[2:]]
    return [
        feed(embedding, [POINT, [0, 0]], [1, -1]),
        feed(embedding, corners, [2, 3]),
        feed(embedding, [[480, 500], [700, 100], *corners], [1, 0, 2, 3], mask_input=earlier, has_mask_input=1.0),
        feed(embedding, [POINT, [0, 0]], [1, -1], original_hw=(1280, 720)),
        feed(embedding, [[100, 100], [0, 0]], [1, -1], original_hw=(333, 500)),
    ]


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize(("stability", "extra"), [(False, False), (True, False), (False, True)])
def test_module_answers_as_upstreams(sam, upstream_sam, predictor, single, stability, extra):
    from mobile_sam.utils.onnx import SamOnnxModel as UpstreamOnnxModel

    options = {"return_single_mask": single, "use_stability_score": stability, "return_extra_metrics": extra}
    ours, upstream = SamOnnxModel(sam, **options), UpstreamOnnxModel(upstream_sam, **options)
    for inputs in prompts(predictor):
        tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
        answers = ours(**tensors), upstream(**tensors)
        assert len(answers[0]) == len(answers[1]) == (5 if extra else 3)
        for a, b in zip(*answers, strict=True):
            assert a.shape == b.shape
            if a.ndim == 2 and a.max() > 2:  # areas
                assert (a - b).abs().max() <= 1
            else:
                assert (a - b).abs().max() <= (2 * LOW_RES_LOGITS if a.ndim == 4 else 1e-3 if extra else SCORE)


def test_file_answers_as_upstreams_module(exported, upstream_sam, predictor):
    from mobile_sam.utils.onnx import SamOnnxModel as UpstreamOnnxModel

    upstream = UpstreamOnnxModel(upstream_sam, return_single_mask=False)
    assert [value.name for value in exported[1].get_outputs()] == ["masks", "iou_predictions", "low_res_masks"]
    for inputs in prompts(predictor):
        masks, scores, low_res_masks = exported[1].run(None, inputs)
        expected = [x.numpy() for x in upstream(**{k: torch.from_numpy(v) for k, v in inputs.items()})]
        assert masks.shape == expected[0].shape
        assert np.abs(masks - expected[0]).max() <= 2 * EXPORTED_LOGITS
        assert np.abs(scores - expected[1]).max() <= SCORE
        assert np.abs(low_res_masks - expected[2]).max() <= EXPORTED_LOGITS


def test_published_areas(exported, predictor):
    embedding = predictor.features.numpy()
    masks, _, _ = exported[1].run(None, feed(embedding, [POINT, [0, 0]], [1, -1]))
    assert (masks > 0).sum((2, 3)).tolist() == [[59088, 43392, 127290, 181700]]
    masks, _, _ = exported[1].run(None, feed(embedding, [BOX[:2], BOX[2:]], [2, 3]))
    assert (masks[:, 0] > 0).sum() == 9714


def test_one_mask_a_prompt_unless_four_are_wanted(sam, predictor, tmp_path):
    pair = SAM(sam).export(signature="sam", folder=tmp_path)
    one, batch = feed(predictor.features.numpy(), [POINT, [0, 0]], [1, -1]), session(pair.decoder)
    masks, scores, _ = batch.run(None, one)
    assert masks.shape == (1, 1, *HW)
    assert scores.shape == (1, 1)
    assert (masks > 0).sum() == 181700  # the best of the three candidates
    corners = feed(predictor.features.numpy(), [BOX[:2], BOX[2:], [0, 0]], [2, 3, -1])
    five = {name: np.repeat(corners[name], 5, axis=0) for name in ("point_coords", "point_labels")}
    five["point_coords"][1:3] = 500  # every prompt of a call chooses for itself
    masks, scores, low_res_masks = batch.run(None, corners | five)
    alone = batch.run(None, corners)
    assert masks.shape == (5, 1, *HW)
    for row in (0, 3, 4):
        assert np.abs(low_res_masks[row] - alone[2][0]).max() <= EXPORTED_LOGITS


def test_as_samexporter_calls(exported, zidane, predictor):
    """samexporter: PIL resize, float32 (h, w, 3) into the encoder's only input, upscaling by itself."""
    encoder, decoder = exported
    [image_input] = encoder.get_inputs()
    assert len(image_input.shape) == 3
    resized = np.asarray(Image.fromarray(zidane).resize((1024, 576), Image.Resampling.BILINEAR)).astype(np.float32)
    embedding = encoder.run(None, {image_input.name: resized})[0]
    outputs = decoder.run(None, feed(embedding, [*np.reshape(BOX, (2, 2)).tolist(), [0, 0]], [2, 3, -1]))
    names = [value.name for value in decoder.get_outputs()]
    low_res = outputs[names.index("low_res_masks")][0, 0]
    upscaled = cv2.resize(low_res, (1024, 1024), interpolation=cv2.INTER_LINEAR)[:576]
    mask = cv2.resize(upscaled, HW[::-1], interpolation=cv2.INTER_LINEAR) > 0
    # A padding point after a box is one token more than `box=` has; corners as points get one too.
    expected = predictor.predict(np.reshape(BOX, (2, 2)), [2, 3], multimask_output=False)[0][0]
    assert (mask ^ expected).sum() <= 0.001 * expected.sum()


def test_as_anylabeling_calls(exported, zidane, predictor):
    """AnyLabeling: the image warped into (684, 1024), three outputs, masks warped back."""
    encoder, decoder = exported
    input_hw = (684, 1024)
    scale = min(input_hw[1] / HW[1], input_hw[0] / HW[0])
    matrix = np.diag([scale, scale, 1.0])
    warped = cv2.warpAffine(zidane, matrix[:2], input_hw[::-1], flags=cv2.INTER_LINEAR)
    embedding = encoder.run(None, {encoder.get_inputs()[0].name: warped.astype(np.float32)})[0]
    inputs = feed(embedding, np.array([POINT, [0, 0]]) * scale, [1, -1], original_hw=input_hw)
    masks, _, _ = decoder.run(None, inputs)
    assert masks.shape == (1, 4, *input_hw)
    best = cv2.warpAffine(masks[0, 3], np.linalg.inv(matrix)[:2], HW[::-1], flags=cv2.INTER_LINEAR) > 0
    expected = predictor.predict(point_coords=[POINT])[0][2]
    assert (best & expected).sum() / (best | expected).sum() > 0.97


@pytest.fixture(scope="module")
def app_pair(sam, tmp_path_factory):
    return SAM(sam).export(signature="fiftyone", folder=tmp_path_factory.mktemp("app"))


def app_click(pair, image, points, labels) -> np.ndarray:
    """What the App does: stretch, normalise, encode, decode, take the best mask. -> (256, 256) bool."""
    encoder, decoder = (session(path) for path in pair)
    square = cv2.resize(image, (1024, 1024), interpolation=cv2.INTER_AREA) / 255
    normalised = (square - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    features = encoder.run(None, {"image": normalised.transpose(2, 0, 1)[None].astype(np.float32)})
    names = [value.name for value in encoder.get_outputs()]
    masks, scores = decoder.run(
        ["masks", "iou_predictions"],
        {
            **dict(zip(names, features, strict=True)),
            "point_coords": (np.array(points) * 1024).astype(np.float32)[None],
            "point_labels": np.array(labels, np.float32)[None],
            "mask_input": NO_MASK,
            "has_mask_input": np.zeros(1, np.float32),
        },
    )
    return masks.reshape(-1, 256, 256)[scores.ravel().argmax()] > 0


def test_as_fiftyones_app_calls(app_pair, zidane, predictor):
    for points, labels in (([POINT], [1]), ([POINT, [700, 100], [950, 600]], [1, 0, 1])):
        mask = app_click(app_pair, zidane, np.array(points) / HW[::-1], labels)
        full = cv2.resize(mask.astype(np.uint8), HW[::-1], interpolation=cv2.INTER_NEAREST) > 0
        multimask = len(points) == 1
        masks, scores, _ = predictor.predict(points, labels, multimask_output=multimask)
        expected = masks[scores.argmax()]
        assert (full & expected).sum() / (full | expected).sum() > 0.9


def test_files_and_tensors_are_those_that_fiftyones_app_names(app_pair):
    fiftyone = pytest.importorskip("fiftyone", reason="FiftyOne, whose App is read, is not installed")
    assets = Path(fiftyone.__file__).parent / "server" / "static" / "assets"
    workers = [text for path in assets.glob("worker-*.js") if "high_res_feats_0" in (text := path.read_text())]
    assert len(workers) == 1
    for path in app_pair:
        assert f"`{path.name}`" in workers[0]
    encoder, decoder = (session(path) for path in app_pair)
    [fed] = set(re.findall(r"\.run\(\{(image):new", workers[0]))
    assert [value.name for value in encoder.get_inputs()] == [fed]
    read = set(re.findall(r"\.(image_embed|high_res_feats_\d)\b", workers[0]))
    assert {value.name for value in encoder.get_outputs()} == read
    [call] = re.findall(r"\.run\(\{(image_embed:e\.image_embed,.*?)\}\)", workers[0])
    names = re.findall(r"(?:^|,)(\w+):", call)
    assert sorted(value.name for value in decoder.get_inputs()) == sorted(names)
    assert all(value.type == "tensor(float)" for value in (*encoder.get_inputs(), *decoder.get_inputs()))
    assert {"masks", "iou_predictions"} == {value.name for value in decoder.get_outputs()}
