"""Ultralytics' keywords of `predict`, its files, its callbacks, and its predictor with overrides."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scenes import LEFT, RIGHT, draw_scene

from mobilesam import SAM, Predictor, UnsupportedError
from mobilesam.fast.backend import chosen_device, named_device
from mobilesam.front.options import read_options

BOXES = [[40, 50, 140, 190], [195, 40, 285, 160]]
SCENE = draw_scene([LEFT, RIGHT])[..., ::-1]  # BGR, as Ultralytics has it


@pytest.fixture(scope="module")
def model(sam):
    """A model that has seen the scene, so that it is encoded once."""
    model = SAM(sam, verify=False)
    model.set_image(SCENE)
    return model


@pytest.fixture(scope="module")
def found(model):
    return model.predict(bboxes=BOXES)[0]


@pytest.fixture
def own(sam, model):
    """A model whose overrides and callbacks are nobody else's."""
    own = SAM(sam, verify=False)
    own._current = model._current
    return own


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# Every keyword that Ultralytics' documentation has for `predict`, with its default.
DOCUMENTED = {
    "conf": 0.25, "iou": 0.7, "imgsz": 1024, "rect": True, "half": False, "quantize": None, "device": None, "batch": 1,
    "max_det": 300, "vid_stride": 1, "stream_buffer": False, "visualize": False, "augment": False,
    "agnostic_nms": False, "classes": None, "retina_masks": False, "embed": None, "project": None, "name": None,
    "stream": False, "verbose": True, "compile": False, "end2end": None, "nms": None, "dnn": False, "exist_ok": False,
    "channels_last": None, "workers": 8, "task": "segment", "mode": "predict", "show": False, "save": False,
    "save_frames": False, "save_txt": False, "save_conf": False, "save_crop": False, "show_labels": True,
    "show_conf": True, "show_boxes": True, "line_width": None, "tracker": "botsort.yaml",
}  # fmt: skip


def test_the_documented_keywords_are_taken_with_their_defaults(model, found, folder):
    [result] = model.predict(bboxes=BOXES, **DOCUMENTED)
    assert torch.equal(result.masks.data, found.masks.data)
    assert result.save_dir is None
    assert files(folder) == []


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"augment": True}, UnsupportedError, 'augment must be off, got True: .*quality="best"'),
        ({"visualize": True}, UnsupportedError, "visualize must be off"),
        ({"embed": [4]}, UnsupportedError, r"embed must be off, got \[4\]: .*encode_images"),
        ({"imgsz": 640}, ValueError, "imgsz must be 1024, got 640: MobileSAM was trained for this size only"),
        ({"max_det": 0}, ValueError, "max_det must be a whole number from 1 up, got 0"),
        ({"vid_stride": 1.5}, ValueError, "vid_stride must be a whole number"),
        ({"line_widht": 3}, TypeError, "line_widht, which it does not know"),
        ({"device": "gpu"}, ValueError, "device must be one, .* got 'gpu'"),
        ({"device": [0, 1]}, ValueError, r"device must be one, .* got \[0, 1\]"),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_line(model, options, error, text):
    with pytest.raises(error, match=text) as caught:
        model.predict(bboxes=BOXES, **options)
    assert "\n" not in str(caught.value)


def test_off_is_no_request():
    asked = read_options({"augment": False, "embed": None, "max_det": None, "verbose": False}, everything=False)
    assert asked == read_options({}, everything=False)


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (None, None), ("", None), (" ", None), ("cpu", "cpu"), (0, "cuda:0"), ("1", "cuda:1"), ([0], "cuda:0"),
        ("cuda:0", "cuda:0"), ("CPU", "cpu"), (torch.device("cpu"), "cpu"),
    ],
)  # fmt: skip
def test_a_device_is_read_as_people_write_it(device, expected):
    assert named_device(device) == (expected and torch.device(expected))
    assert chosen_device(device).type in ("cpu", "cuda")


def test_an_empty_device_is_no_choice(sam, model, found):
    [result] = model.predict(bboxes=BOXES, device="")
    assert torch.equal(result.masks.data, found.masks.data)
    assert SAM(sam, device="", verify=False).device == sam.device
    assert SAM("mobile_sam.pt", device="", verify=False).device == chosen_device()


def test_masks_are_chosen_by_number_and_by_index(model, found):
    best = int(found.boxes.conf.argmax())
    assert model.predict(bboxes=BOXES, max_det=1)[0].boxes.cls.tolist() == [best]
    assert model.predict(bboxes=BOXES, max_det=2)[0].boxes.cls.tolist() == [0, 1]
    assert model.predict(bboxes=BOXES, classes=[1, 7])[0].boxes.cls.tolist() == [1]
    assert model.predict(bboxes=BOXES, classes=0, max_det=5)[0].boxes.cls.tolist() == [0]


def test_files_of_a_run_stand_in_a_folder_of_their_own(model, found, folder):
    options = {"save": True, "save_txt": True, "save_conf": True, "save_crop": True, "project": "out", "name": "x"}
    [result] = model.predict(bboxes=BOXES, **options)
    expected = ["crops/0/image0.jpg", "crops/1/image0.jpg", "image0.jpg", "labels/image0.txt"]
    assert files(folder) == [f"out/x/{name}" for name in expected]
    assert result.save_dir == result[0].save_dir == result.new().save_dir == "out/x"
    lines = (folder / "out/x/labels/image0.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1"]
    assert [float(line.split()[-1]) for line in lines] == pytest.approx(found.boxes.conf.tolist(), abs=1e-5)
    assert model.predict(bboxes=BOXES, **options)[0].save_dir == "out/x-2"
    assert model.predict(bboxes=BOXES, **options, exist_ok=True)[0].save_dir == "out/x"
    assert (folder / "out/x/labels/image0.txt").read_text().splitlines() == lines  # not appended to
    assert model.predict(bboxes=BOXES, save_txt=True)[0].save_dir == "runs/segment/predict"
    assert len((folder / "runs/segment/predict/labels/image0.txt").read_text().split("\n")[0].split()) % 2 == 1


def test_images_of_one_name_keep_their_own_files(model, folder):
    for name in ("a", "b"):
        (folder / name).mkdir()
        cv2.imwrite(str(folder / name / "photo.png"), SCENE)
    model.predict([folder / "a/photo.png", folder / "b/photo.png"], bboxes=BOXES[0], save_txt=True, project="out")
    assert files(folder / "out/predict/labels") == ["photo-2.txt", "photo.txt"]


def test_pictures_have_what_was_asked(model, found, monkeypatch):
    drawn = model.predict(bboxes=BOXES, save=True, show_labels=False, show_conf=False, line_width=5)
    picture = cv2.imread(f"{drawn[0].save_dir}/image0.jpg").astype(int)
    assert np.abs(picture - found.plot(labels=False, conf=False, line_width=5)).mean() < 3
    assert np.abs(picture - found.plot()).mean() > 3
    shown = []
    monkeypatch.setattr(Image.Image, "show", lambda image: shown.append(np.asarray(image)))
    model.predict(bboxes=BOXES, show=True, show_boxes=False)
    assert np.array_equal(shown[0][..., ::-1], found.plot(boxes=False))


def test_crops_are_around_the_boxes(found, folder):
    paths = found.save_crop("crops", "photo.png")
    assert paths == ["crops/0/photo.jpg", "crops/1/photo.jpg"]
    x0, y0, x1, y1 = found.boxes.xyxy_exclusive[0].int().tolist()
    height, width = cv2.imread(paths[0]).shape[:2]
    assert width - (x1 - x0) in range(9, 13)
    assert height - (y1 - y0) in range(9, 14)
    assert found.save_crop("crops", "photo.png")[0] == "crops/0/photo-2.jpg"


def test_plot_takes_ultralytics_arguments(found, folder):
    whole = found.plot()
    assert np.array_equal(np.asarray(found.plot(pil=True))[..., ::-1], whole)
    arguments = {"font": "Arial.ttf", "kpt_radius": 5, "kpt_line": True, "probs": True, "txt_color": (255, 255, 255)}
    assert np.array_equal(found.plot(True, None, **arguments), whole)
    assert not np.array_equal(found.plot(font_size=40), whole)
    assert np.array_equal(found.plot(img=torch.from_numpy(SCENE.copy())), whole)
    found.plot(save=True, filename="plot.png")
    assert np.array_equal(cv2.imread("plot.png"), whole)
    assert found.save(line_width=4) == "results_image0.jpg"
    # One object is drawn in its own colour wherever it stands, unless that goes by the order.
    second = found[1]
    inside = second.masks.data[0].numpy()
    assert np.array_equal(second.plot(boxes=False)[100, 240], found.plot(boxes=False)[100, 240])
    assert not np.array_equal(second.plot(boxes=False, color_mode="instance")[inside], whole[inside])
    with pytest.raises(ValueError, match="color_mode"):
        found.plot(color_mode="box")


def test_tables(found):
    frame = found.to_df(normalize=True)
    assert frame.columns == ["name", "class", "confidence", "box", "segments"]
    assert frame["class"].to_list() == [0, 1]
    assert found.to_csv().startswith("name,class,confidence,box,segments\n0,0,")
    nothing = found.new()
    assert (len(nothing), nothing.path, nothing.summary(), len(nothing.to_df())) == (0, found.path, [], 0)
    assert nothing.orig_img is found.orig_img


def test_overrides_stand_for_what_a_call_leaves_out(own):
    assert own.overrides == {"model": own.weights, "task": "segment"}
    own.overrides["max_det"] = 1
    assert len(own.predict(bboxes=BOXES)[0]) == 1
    assert len(own.predict(bboxes=BOXES, max_det=9)[0]) == 2


def test_a_model_moves_and_is_ready(own):
    own.model.train()
    assert own.to("cpu").eval() is own
    assert not own.model.training


def test_callbacks_run_and_may_change_results(own):
    events = []
    for event in own.callbacks:
        own.add_callback(event, lambda run, event=event: events.append((event, len(list(run.results)))))

    def pair(run):
        paths, images, _ = run.batch
        run.results = list(zip(paths, images, run.results, strict=True))

    own.add_callback("on_predict_batch_end", pair)
    [(path, image, result)] = own.predict(bboxes=BOXES)
    assert (path, len(result)) == ("image0.jpg", 2)
    assert np.array_equal(image, SCENE)
    assert [name for name, _ in events] == list(own.callbacks)
    with pytest.raises(ValueError, match="on_train_start"):
        own.add_callback("on_train_start", print)


def test_the_predictor_of_ultralytics_manual(sam, found, folder):
    overrides = {"conf": 0.25, "task": "segment", "mode": "predict", "imgsz": 1024, "model": sam}
    predictor = Predictor(overrides=overrides)
    assert predictor.args.conf == 0.25
    predictor.set_image(SCENE)
    [result] = predictor(bboxes=BOXES)
    assert torch.equal(result.masks.data, found.masks.data)
    assert len(predictor(points=[[[90, 120], [240, 100]]], labels=[[1, 0]])[0]) == 1
    predictor.set_prompts({"bboxes": BOXES[1]})
    assert len(predictor()[0]) == 1
    predictor.set_prompts({})
    predictor.reset_image()
    cv2.imwrite("scene.png", SCENE)
    [everything] = predictor(source="scene.png", crop_n_layers=1, points_stride=2)
    assert len(everything) >= 1
    assert len(Predictor({"model": sam, "conf": 0.5}, {"source": "scene.png", "conf": 2})(bboxes=BOXES)[0]) == 0


def test_a_predictor_makes_its_model_late_and_once(model):
    events = SimpleNamespace(count=0)

    def count(run):
        events.count += 1

    predictor = Predictor(overrides={"max_det": 1}, _callbacks={"on_predict_end": [count]})
    assert predictor.sam is None
    predictor.setup_model(model)
    predictor.set_image(SCENE)
    assert len(predictor(bboxes=BOXES)[0]) == len(predictor(bboxes=BOXES)[0]) == 1
    assert (predictor.sam.model, events.count) == (model.model, 2)
    predictor.args.max_det = 2
    assert len(predictor(bboxes=BOXES)[0]) == 2
