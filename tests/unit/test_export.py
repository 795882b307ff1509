"""The exported pair beside the model: the same logits for many images and many prompts in one call."""

import json
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from tolerances import EMBEDDING, EXPORTED_LOGITS, SCORE

from mobilesam import SAM, ExportError, MissingPackageError, SamPredictor, __version__, export_onnx
from mobilesam.export.agreement import scenes
from mobilesam.weights import sha256_of_state, used_tensors

NO_MASK = np.zeros((1, 1, 256, 256), np.float32)


def session(path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


CPU = Path("/proc/cpuinfo")
# Without VNNI, ONNX Runtime's int8 products saturate, and the export says so and writes nothing.
HAS_VNNI = pytest.mark.skipif(
    CPU.exists() and "vnni" not in CPU.read_text() and "asimddp" not in CPU.read_text(),
    reason="this processor has no VNNI, without which int8 products of ONNX Runtime saturate",
)


@pytest.fixture(scope="module")
def decoder(onnx_pair):
    return session(onnx_pair.decoder)


@pytest.fixture(scope="module")
def predictor(sam, zidane):
    predictor = SamPredictor(sam)
    predictor.set_image(zidane)
    return predictor


def decode(decoder, embedding, coords, labels, mask_input=NO_MASK, has_mask_input=0):
    feed = {
        "image_embeddings": np.asarray(embedding),
        "point_coords": np.asarray(coords, np.float32),
        "point_labels": np.asarray(labels, np.float32),
        "mask_input": mask_input,
        "has_mask_input": np.full(len(mask_input), has_mask_input, np.float32),
    }
    return decoder.run(None, feed)


def random_boxes(count: int) -> np.ndarray:
    """Boxes (count, 4) xyxy in the input frame of zidane, 1024 x 576."""
    rng = np.random.default_rng(count)
    corners = rng.uniform(0, 1, (count, 2, 2)) * [700, 300]
    return np.concatenate([corners[:, 0], corners[:, 0] + corners[:, 1] * [0.4, 0.8] + 20], axis=1).astype(np.float32)


def test_three_images_in_one_call(onnx_pair, sam, zidane, photos):
    bus = np.asarray(Image.open(photos["bus"]))
    images = [zidane, bus, zidane[:333, :200]]
    predictor = SamPredictor(sam)
    expected = predictor.encode_images(images)
    batch = np.full((3, 1024, 1024, 3), 7, np.uint8)  # whatever stands in the padding is not seen
    for row, image in zip(batch, images, strict=True):
        resized = predictor.transform.apply_image(image)
        row[: resized.shape[0], : resized.shape[1]] = resized
    feed = {"images": batch, "input_hw": np.array([embedding.input_hw for embedding in expected])}
    [embeddings] = session(onnx_pair.encoder).run(None, feed)
    for ours, embedding in zip(embeddings, expected, strict=True):
        assert np.abs(ours - embedding.features[0].numpy()).max() <= EMBEDDING


@pytest.mark.parametrize("multimask_output", [False, True])
@pytest.mark.parametrize("count", [1, 7, 64])
def test_boxes(decoder, predictor, count, multimask_output, soak):
    count = count if soak else min(count, 9)  # numbers that the files were not traced with
    boxes = random_boxes(count)
    _, scores, logits = predictor.predict_torch(
        None, None, torch.from_numpy(boxes), multimask_output=multimask_output, return_logits=True
    )
    labels = np.tile([2, 3], (count, 1))
    exported, exported_scores = decode(decoder, predictor.features, boxes.reshape(count, 2, 2), labels)
    wanted = slice(1, None) if multimask_output else slice(0, 1)
    assert exported.shape == (count, 4, 256, 256)
    assert np.abs(exported[:, wanted] - logits.numpy()).max() <= EXPORTED_LOGITS
    assert np.abs(exported_scores[:, wanted] - scores.numpy()).max() <= SCORE


@pytest.mark.parametrize("points", [1, 5])
@pytest.mark.parametrize("count", [1, 7, 64])
def test_points(decoder, predictor, count, points, soak):
    count = count if soak else min(count, 9)
    rng = np.random.default_rng(points)
    coords = rng.uniform(0, 1, (count, points, 2)).astype(np.float32) * np.float32([1024, 576])
    labels = rng.integers(0, 2, (count, points))
    _, _, logits = predictor.predict_torch(torch.from_numpy(coords), torch.from_numpy(labels), return_logits=True)
    padded = np.concatenate([coords, np.zeros((count, 1, 2))], axis=1)
    exported, _ = decode(decoder, predictor.features, padded, np.concatenate([labels, np.full((count, 1), -1)], axis=1))
    assert np.abs(exported[:, 1:] - logits.numpy()).max() <= EXPORTED_LOGITS


@pytest.mark.parametrize("count", [1, 7])
def test_masks_for_some_prompts_of_a_call(decoder, predictor, count):
    boxes = torch.from_numpy(random_boxes(count))
    _, _, earlier = predictor.predict_torch(None, None, boxes, multimask_output=False)
    has_mask = np.arange(count) % 2 == 0
    kwargs = {"multimask_output": False, "return_logits": True}
    _, _, with_mask = predictor.predict_torch(None, None, boxes, earlier, **kwargs)
    _, _, without = predictor.predict_torch(None, None, boxes, **kwargs)
    exported, _ = decode(
        decoder,
        predictor.features,
        boxes.reshape(count, 2, 2),
        np.tile([2, 3], (count, 1)),
        mask_input=earlier.numpy(),
        has_mask_input=has_mask,
    )
    expected = np.where(has_mask[:, None, None, None], with_mask.numpy(), without.numpy())
    assert np.abs(exported[:, :1] - expected).max() <= EXPORTED_LOGITS


def test_prompts_of_several_images_in_one_call(decoder, sam, zidane):
    predictor = SamPredictor(sam)
    images = predictor.encode_images([zidane, zidane[:, ::-1].copy()])
    boxes = random_boxes(2)
    embeddings = np.concatenate([image.features for image in images])
    exported, _ = decode(decoder, embeddings, boxes.reshape(2, 2, 2), [[2, 3]] * 2)
    for image, box, logits in zip(images, boxes, exported, strict=True):
        predictor.set_image_embedding(image)
        _, _, expected = predictor.predict_torch(None, None, torch.from_numpy(box[None]), multimask_output=False)
        assert np.abs(logits[:1] - expected[0].numpy()).max() <= EXPORTED_LOGITS


def test_files_say_what_they_are(onnx_pair, sam):
    for part, path in onnx_pair._asdict().items():
        model = onnx.load(path)
        onnx.checker.check_model(model)
        facts = {entry.key: entry.value for entry in model.metadata_props}
        assert path.name == f"{part}.onnx"
        assert model.opset_import[0].version == int(facts["opset"]) == 17
        assert facts["version"] == __version__
        assert facts["licence"] == "Apache-2.0"
        assert facts["weights_sha256"] == sha256_of_state(used_tensors(sam.state_dict()))
        assert json.loads(facts["preprocessing"])["mean"] == [123.675, 116.28, 103.53]
        agreement = json.loads(facts["agreement"])
        assert agreement["masks"] > 50
        assert 0 < agreement["logits_max_difference"] <= EXPORTED_LOGITS
        assert agreement["iou_mean"] >= 0.9999
        for value in (*model.graph.input, *model.graph.output):
            assert facts[f"tensor:{value.name}"].startswith("(")


def test_export_leaves_the_model_as_it_was(onnx_pair, sam, predictor, zidane):
    assert not any(module.training for module in sam.modules())
    masks, _, _ = predictor.predict(box=[439, 437, 524, 709], multimask_output=False)
    assert masks.sum() == 9714


@pytest.mark.parametrize("precision", ["fp16", pytest.param("int8", marks=HAS_VNNI)])
def test_smaller_files_agree_as_they_say(precision, onnx_pair, sam, predictor, tmp_path):
    pair = SAM(sam).export(format="onnx", folder=tmp_path, precision=precision)
    for small, full in zip(pair, onnx_pair, strict=True):
        assert small.stat().st_size < 0.55 * full.stat().st_size
    facts = session(pair.decoder).get_modelmeta().custom_metadata_map
    assert facts["precision"] == precision
    assert 0.98 < json.loads(facts["agreement"])["iou_mean"] < 1
    box = np.array([[[439, 437], [524, 709]]]) * 0.8
    logits, _ = decode(session(pair.decoder), predictor.features, box, [[2, 3]])
    _, _, expected = predictor.predict(box=[439, 437, 524, 709], multimask_output=False)
    ours, expected = logits[0, 0] > 0, expected[0] > 0
    assert (ours & expected).sum() / (ours | expected).sum() > 0.97


def test_a_pair_that_does_not_agree_is_not_written(sam, tmp_path, monkeypatch):
    monkeypatch.setattr("mobilesam.export.agreement.scenes", lambda: islice(scenes(), 1))
    with pytest.raises(ExportError, match=r"mean IoU of at least 0\.99999, got 0\.9"):
        export_onnx(sam, tmp_path / "out", precision="int8", min_iou=0.99999)
    assert not (tmp_path / "out").exists()


def test_torchscript(sam, predictor, tmp_path):
    pair = SAM(sam).export(format="torchscript", folder=tmp_path)
    encoder, decoder = (torch.jit.load(path) for path in pair)
    image = torch.from_numpy(predictor.transform.apply_image(np.full((50, 40, 3), 90, np.uint8)))
    predictor_features = sam.encode_image(sam.preprocess(image.permute(2, 0, 1)[None].float()))
    features = encoder(image[None].repeat(2, 1, 1, 1), torch.tensor([image.shape[:2]] * 2))
    assert (features - predictor_features).abs().max() <= EMBEDDING
    boxes = torch.from_numpy(random_boxes(7))
    _, _, expected = predictor.predict_torch(None, None, boxes, multimask_output=False)
    labels = torch.tensor([[2.0, 3.0]]).repeat(7, 1)
    logits, _ = decoder(predictor.features, boxes.reshape(7, 2, 2), labels, torch.from_numpy(NO_MASK), torch.zeros(1))
    assert (logits[:, :1] - expected).abs().max() <= EXPORTED_LOGITS


def test_openvino(sam, predictor, tmp_path):
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    pair = SAM(sam).export(format="openvino", folder=tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".xml", ".bin"}
    decoder = openvino.Core().compile_model(pair.decoder, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    boxes = random_boxes(7).reshape(7, 2, 2)
    labels = np.tile(np.float32([2, 3]), (7, 1))
    logits = decoder([predictor.features.numpy(), boxes, labels, NO_MASK, np.zeros(1, np.float32)])[0]
    _, _, expected = predictor.predict_torch(None, None, torch.from_numpy(boxes).reshape(7, 4), multimask_output=False)
    assert np.abs(logits[:, :1] - expected.numpy()).max() <= EXPORTED_LOGITS


def test_what_is_not_there_is_named(sam):
    with pytest.raises(ExportError, match="format must be one of onnx, torchscript, openvino, got 'engine'"):
        SAM(sam).export(format="engine")
    with pytest.raises(ExportError, match="signature must be one of mobilesam, sam, fiftyone"):
        export_onnx(sam, signature="sam2")
    with pytest.raises(ExportError, match="precision must be one of fp32, fp16, int8"):
        export_onnx(sam, precision="int4")
    with pytest.raises(ExportError, match='must go with signature="sam"'):
        export_onnx(sam, return_single_mask=False)


@pytest.mark.parametrize(("format", "package"), [("onnx", "onnx"), ("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_a_missing_package_is_named(sam, monkeypatch, tmp_path, format, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=f"pip install {package}"):
        SAM(sam).export(format=format, folder=tmp_path)
    assert not list(tmp_path.iterdir())
