"""The Ultralytics-style front beside Ultralytics' own: the same shapes of prompts, the same fields of results."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from tolerances import SCORE

from mobilesam import SAM, Boxes, CheckpointError, ImageError, Masks, PromptError, Results
from mobilesam.front.nested_prompts import parse_prompts
from mobilesam.images import iter_images

ZIDANE_BOX, BOX_AREA, POINT_AREA = [439, 437, 524, 709], 9714, 59088


@pytest.fixture(scope="module")
def front(sam):
    return SAM(sam)


@pytest.fixture(scope="module")
def twin(sam):
    return SAM(sam, preprocess="ultralytics")


@pytest.fixture(scope="module")
def peer(checkpoint):
    ultralytics = pytest.importorskip("ultralytics", reason="the peer ultralytics is not installed")
    return ultralytics.SAM(str(checkpoint))


def test_the_two_calls_of_the_manual(front, photos):
    [by_point] = front.predict(str(photos["zidane"]), points=[900, 370], labels=[1])
    [by_box] = front.predict(str(photos["zidane"]), bboxes=ZIDANE_BOX, iou=0.9)
    assert (by_point.masks.data.sum(), by_box.masks.data.sum()) == (POINT_AREA, BOX_AREA)
    assert by_box.masks.data.shape == (1, 720, 1280)
    assert by_box.boxes.conf[0].item() == pytest.approx(0.9135, abs=SCORE)


@pytest.mark.parametrize(
    "prompt",
    [
        {"points": [900, 370], "labels": [1]},
        {"points": [[400, 370], [900, 370]], "labels": [1, 1]},
        {"points": [[[400, 370], [900, 370]]], "labels": [[1, 0]]},
        {"bboxes": ZIDANE_BOX},
        {"bboxes": [ZIDANE_BOX, [700, 40, 1100, 700]]},
        {"bboxes": np.array([ZIDANE_BOX, [700, 40, 1100, 700]]), "points": [[480, 500], [900, 370]], "labels": [1, 1]},
    ],
    ids=["point", "two objects", "one object, two points", "box", "boxes", "boxes and points"],
)
def test_results_equal_ultralytics(twin, peer, photos, prompt):
    [ours] = twin.predict(str(photos["zidane"]), **prompt, conf=0.25)
    [theirs] = peer.predict(str(photos["zidane"]), **prompt, device="cpu", verbose=False)
    assert ours.masks.data.dtype == theirs.masks.data.dtype == torch.bool
    assert ours.masks.data.shape == theirs.masks.data.shape
    assert (ours.masks.data ^ theirs.masks.data).sum() <= 2
    for name in ("xyxy", "xywh", "xyxyn", "xywhn", "conf", "cls"):
        assert torch.allclose(getattr(ours.boxes, name), getattr(theirs.boxes, name), atol=1e-3), name
    assert ours.orig_shape == theirs.orig_shape
    assert np.array_equal(ours.orig_img, theirs.orig_img)
    assert ours.names == theirs.names
    assert len(ours) == len(theirs)


def test_polygons_and_summaries_equal_ultralytics(photos):
    from ultralytics.engine.results import Results as TheirResults

    masks = np.zeros((2, 60, 80), dtype=bool)
    masks[0, 10:30, 15:50] = True
    masks[1, 40:50, 5:9] = masks[1, 45:47, 5:30] = True
    boxes = np.float32([[15, 10, 49, 29, 0.9, 0], [5, 40, 29, 49, 0.8, 1]])
    image = np.zeros((60, 80, 3), np.uint8)
    names = {0: "0", 1: "1"}
    ours = Results(
        image, "x.jpg", names, Boxes(torch.from_numpy(boxes), (60, 80)), Masks(torch.from_numpy(masks), (60, 80))
    )
    theirs = TheirResults(image, "x.jpg", names, boxes=torch.from_numpy(boxes), masks=torch.from_numpy(masks))
    for a, b in zip(ours.masks.xy + ours.masks.xyn, theirs.masks.xy + theirs.masks.xyn, strict=True):
        assert np.allclose(a, b)
    for normalize in (False, True):
        assert ours.summary(normalize) == theirs.summary(normalize)
        assert json.loads(ours.to_json(normalize)) == json.loads(theirs.to_json(normalize))


def test_fiftyone_reads_our_results_as_ultralytics_ones(front, photos):
    fou = pytest.importorskip("fiftyone.utils.ultralytics", reason="fiftyone is not installed")
    [result] = front.predict(str(photos["zidane"]), bboxes=ZIDANE_BOX)
    [label] = fou.to_instances([result])[0].detections
    assert label.mask.sum() == pytest.approx(BOX_AREA, rel=0.02)  # it drops the last row and column of anybody's


def test_sources(front, photos, zidane, tmp_path):
    expected = {"bboxes": ZIDANE_BOX}
    path, tensor = photos["zidane"], torch.from_numpy(zidane.copy()).permute(2, 0, 1)
    for source in (path, str(path), Image.open(path), zidane[..., ::-1], tensor):
        [result] = front.predict(source, **expected)
        assert result.masks.data.sum() == BOX_AREA
    Image.fromarray(zidane).save(tmp_path / "a.png")
    Image.fromarray(zidane[:, ::-1]).save(tmp_path / "b.png")
    folder = front.predict(tmp_path, **expected)
    assert [result.path for result in folder] == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert len(front.predict([zidane[..., ::-1], tmp_path / "b.png"], **expected)) == 2
    stream = front.predict(str(tmp_path / "*.png"), **expected, stream=True)
    assert next(stream).masks.data.sum() == BOX_AREA


def test_nothing_is_dropped_unless_asked(front, zidane):
    hopeless = [[2, 2, 6, 6], ZIDANE_BOX, [1270, 5, 1278, 9]]
    [kept] = front.predict(zidane[..., ::-1], bboxes=hopeless)
    assert kept.boxes.cls.tolist() == [0, 1, 2]
    [dropped] = front.predict(zidane[..., ::-1], bboxes=hopeless, conf=0.9)
    assert dropped.boxes.cls.tolist() == [1]
    assert dropped.names == {0: "0", 1: "1", 2: "2"}
    [nothing] = front.predict(zidane[..., ::-1], bboxes=hopeless, conf=2)
    assert nothing.masks.data.shape == (0, 720, 1280)
    assert (len(nothing), nothing.masks.xy, nothing.summary()) == (0, [], [])
    assert nothing.plot().shape == (720, 1280, 3)


def test_multimask_and_mask_prompts(front, zidane):
    [three] = front.predict(zidane[..., ::-1], points=[900, 370], multimask_output=True)
    assert three.boxes.cls.tolist() == [0, 1, 2]
    assert three.masks.data.sum((1, 2)).tolist() == [43392, 127290, 181700]
    [refined] = front.predict(zidane[..., ::-1], bboxes=ZIDANE_BOX, masks=three.low_res_logits[0])
    assert len(refined) == 1


def test_results_can_be_indexed_moved_and_drawn(front, zidane, tmp_path):
    [result] = front.predict(zidane[..., ::-1], bboxes=[ZIDANE_BOX, [700, 40, 1100, 700]])
    assert len(result[1]) == 1
    assert len(list(result)) == 2
    assert np.array_equal(result[1].low_res_logits[0], result.low_res_logits[1])
    arrays = result.numpy()
    assert isinstance(arrays.masks.data, np.ndarray)
    assert np.array_equal(arrays.boxes.xywh, result.boxes.xywh.numpy())
    x0, y0, x1, y1 = result.boxes.xyxy_exclusive[0].int().tolist()
    assert result.masks.data[0, y0:y1, x0:x1].sum() == BOX_AREA
    picture = result.plot()
    changed = (picture != result.orig_img).any(axis=2)
    assert changed[result.masks.data[0].numpy()].mean() > 0.95
    assert not changed[:300, :200].any()
    assert Image.open(result.save(tmp_path / "x.png")).size == (1280, 720)
    with pytest.raises(OSError, match="folder"):
        result.save(tmp_path / "nowhere" / "x.png")


@pytest.mark.parametrize(
    ("kwargs", "error", "text"),
    [
        ({"labels": [1]}, PromptError, "come with points"),
        ({"bboxes": ZIDANE_BOX, "points_stride": 4}, TypeError, "points_stride must go without prompts"),
        ({"points_per_sid": 4}, TypeError, "points_per_sid"),
        ({"points_per_side": None}, ValueError, "Exactly one"),
        ({"bboxes": ZIDANE_BOX, "labels": [1]}, PromptError, "come with points"),
        ({"points": [[900, 370], [400, 500]], "labels": [1]}, PromptError, "nested like points"),
        ({"points": [900, 370], "labels": [7]}, PromptError, "foreground"),
        ({"points": [900, 3700]}, PromptError, "1280 x 720"),
        ({"bboxes": [ZIDANE_BOX, [5, 5, 1, 1]]}, PromptError, "Object 1"),
        ({"bboxes": [ZIDANE_BOX] * 3, "points": [[9, 9], [9, 9]]}, PromptError, "same number"),
        ({"bboxes": ZIDANE_BOX, "boxes": 3}, TypeError, "boxes"),
        ({"bboxes": ZIDANE_BOX, "imgsz": 512}, ValueError, "1024"),
    ],
)
def test_a_wrong_call_says_what_was_expected(front, zidane, kwargs, error, text):
    with pytest.raises(error, match=text):
        front.predict(zidane[..., ::-1], **kwargs)


def test_a_wrong_source_or_model_says_so(front):
    with pytest.raises(ImageError, match="does not exist"):
        front.predict("missing.jpg", bboxes=ZIDANE_BOX)
    with pytest.raises(CheckpointError, match=r"sam_b\.pt"):
        SAM("sam_b.pt")


@pytest.mark.parametrize(
    ("prompts", "structures"),
    [
        ({"points": [9, 9]}, [(False, 1, False)]),
        ({"points": [9, 9], "labels": 1}, [(False, 1, False)]),
        ({"points": [[9, 9], [5, 5]]}, [(False, 1, False)] * 2),
        ({"points": [[[9, 9], [5, 5]]], "labels": [1, 0]}, [(False, 2, False)]),
        ({"points": [[[9, 9], [5, 5]], [[1, 1]]]}, [(False, 2, False), (False, 1, False)]),
        ({"points": np.ones((2, 3, 2)), "labels": np.ones((2, 3))}, [(False, 3, False)] * 2),
        ({"points": torch.ones(2, 2)}, [(False, 1, False)] * 2),
        ({"bboxes": [[[0, 0, 5, 5], [0, 0, 6, 6]]]}, [(True, 0, False)] * 2),
        ({"bboxes": [0, 0, 5, 5], "points": [[[9, 9], [5, 5]]]}, [(True, 2, False)]),
        ({"bboxes": [[0, 0, 5, 5], [0, 0, 6, 6]], "points": [9, 9]}, [(True, 1, False)] * 2),
        ({"bboxes": [0, 0, 5, 5], "masks": np.zeros((256, 256))}, [(True, 0, True)]),
        ({"bboxes": []}, []),
        ({"bboxes": np.empty((0, 4))}, []),
        ({"points": []}, []),
    ],
)
def test_prompt_shapes(prompts, structures):
    assert [prompt.structure for prompt in parse_prompts(**prompts)] == structures


def test_tables_and_crops_equal_ultralytics(twin, peer, photos, tmp_path):
    arguments = {"bboxes": [ZIDANE_BOX, [700, 40, 1279, 719]]}
    [ours] = twin.predict(str(photos["zidane"]), **arguments)
    [theirs] = peer.predict(str(photos["zidane"]), **arguments, device="cpu", verbose=False, save=False)
    theirs.update(boxes=ours.boxes.data, masks=ours.masks.data)
    assert ours.to_csv() == theirs.to_csv()
    assert ours.to_df().equals(theirs.to_df())
    for folder, result in (("ours", ours), ("theirs", theirs)):
        for _ in range(2):
            result.save_crop(tmp_path / folder, "zidane.jpg")
    names = [sorted(str(path.relative_to(root)) for path in root.rglob("*.jpg")) for root in sorted(tmp_path.iterdir())]
    assert names[0] == names[1]
    assert len(names[0]) == 4
    for name in names[0]:
        a, b = (np.asarray(Image.open(tmp_path / folder / name), int) for folder in ("ours", "theirs"))
        assert a.shape == b.shape
        assert np.abs(a - b).mean() < 2  # two JPEG encoders


def test_files_of_a_run_are_called_as_ultralytics_calls_them(twin, peer, photos, tmp_path):
    options = {"bboxes": ZIDANE_BOX, "save": True, "save_txt": True, "save_crop": True, "name": "x"}
    twin.predict(str(photos["zidane"]), **options, project=tmp_path / "ours")
    peer.predict(str(photos["zidane"]), **options, project=tmp_path / "theirs", device="cpu", verbose=False)
    found = [
        sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
        for root in (tmp_path / "ours", tmp_path / "theirs")
    ]
    assert found[0] == found[1] == ["x/crops/0/zidane.jpg", "x/labels/zidane.txt", "x/zidane.jpg"]


def test_every_so_many_frames_are_ultralytics_frames(peer, tmp_path):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for shade in range(0, 250, 50):
        writer.write(np.full((48, 64, 3), shade, np.uint8))
    writer.release()
    theirs = peer.predict(str(path), bboxes=[5, 5, 20, 20], vid_stride=2, device="cpu", verbose=False, save=False)
    ours = [image for _, image in iter_images(str(path), vid_stride=2)]
    assert [image.mean() for image in ours] == [result.orig_img.mean() for result in theirs]
    assert len(ours) == 2


def test_ultralytics_auto_annotate_runs_with_this_model(photos, tmp_path, monkeypatch):
    annotator = pytest.importorskip("ultralytics.data.annotator", reason="the peer ultralytics is not installed")
    image = np.asarray(Image.open(photos["zidane"]))[..., ::-1]
    boxes = SimpleNamespace(cls=torch.tensor([7.0]), xyxy=torch.tensor([ZIDANE_BOX], dtype=torch.float32))

    def detector(*_, **__):
        return [SimpleNamespace(boxes=boxes, orig_img=image)]

    detector.predictor = SimpleNamespace(txt_path=tmp_path / "zidane")
    monkeypatch.setattr(annotator, "YOLO", lambda _: detector)
    monkeypatch.setattr(annotator, "SAM", SAM)
    annotator.auto_annotate(tmp_path, det_model="any.pt", sam_model="mobile_sam.pt", output_dir=tmp_path / "labels")
    [line] = (tmp_path / "labels" / "zidane.txt").read_text().splitlines()
    assert line.startswith("7 ")
