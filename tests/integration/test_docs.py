"""The Python code of README and docs, run block by block in a folder that has what the examples name."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import fiftyone as fo
import numpy as np
import pytest
from doc_pages import PAGES, ROOT, blocks
from PIL import Image
from scenes import LEFT, RIGHT, SIZE, detections, draw_scene, ellipse_box, ellipse_mask, keypoints
from trained import CARD, write_trained

import mobilesam.export
from mobilesam import build_sam_vit_t
from mobilesam.training.train import Training

ELLIPSES = (LEFT, RIGHT)
# Objects where the examples say that there are some.
PICTURES = {
    "zidane.jpg": ([((480, 573), (42, 135)), ((900, 370), (150, 280))], (1280, 720)),
    "bus.jpg": ([((300, 500), (120, 260))], (810, 1080)),
    "photos/left.png": ([LEFT], SIZE),
    "photos/both.png": ([LEFT, RIGHT], SIZE),
}
NEEDED = {"docs/export.md": ("onnx", "onnxruntime"), "docs/jobs.md": ("pyarrow",)}
# What an example wants besides, by a word in it.
ASKED_FOR = {
    "videos": "videos",
    "get_operator": "plugin",
    ".export(": "one_export",
    "fom.train(": "one_training",
    "session": "session",
}
RUN = [page for page in PAGES if any(block.reason is None for block in blocks(page))]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files that the examples name."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "photos").mkdir()
    for name, (ellipses, size) in PICTURES.items():
        Image.fromarray(draw_scene(ellipses, size)).save(folder / name)
    images = [{"id": 1, "file_name": "both.png", "width": SIZE[0], "height": SIZE[1]}]
    annotations = [annotation(number, 1, ellipse) for number, ellipse in enumerate(ELLIPSES, 1)]
    categories = [{"id": 1, "name": "ellipse"}]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(truth))
    boxes = [{name: row[name] for name in ("id", "image_id", "category_id", "bbox")} for row in annotations]
    (folder / "boxes.json").write_text(json.dumps({**truth, "annotations": boxes}))
    shutil.copy(folder / "instances.json", folder / "corrected.json")
    return folder


def annotation(number: int, image_id: int, ellipse) -> dict:
    (cx, cy), (rx, ry) = ellipse
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    outline = np.stack([cx + rx * np.cos(angle), cy + ry * np.sin(angle)], axis=-1)
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "bbox": [cx - rx, cy - ry, 2 * rx, 2 * ry],
        "area": int(ellipse_mask(*ellipse).sum()),
        "iscrowd": 0,
        "segmentation": [outline.ravel().tolist()],
    }


@pytest.fixture
def dataset(files, make_dataset):
    """`dataset` of the examples: two pictures with boxes, points and true masks, one after the other in a scene."""
    samples = []
    for number, name in enumerate(("photos/both.png", "photos/left.png")):
        ellipses = PICTURES[name][0]
        boxes = [ellipse_box(*ellipse) for ellipse in ellipses]
        samples.append(
            {
                "filepath": str(files / name),
                "detections": detections(*boxes),
                "keypoints": keypoints(*[[centre] for centre, _ in ellipses]),
                "ground_truth": true_masks(ellipses),
                "scene": "one",
                "number": number,
            }
        )
    return make_dataset(*samples)


def true_masks(ellipses) -> fo.Detections:
    labels = detections(*[ellipse_box(*ellipse) for ellipse in ellipses])
    for label, ((cx, cy), (rx, ry)) in zip(labels.detections, ellipses, strict=True):
        label.mask = ellipse_mask((cx, cy), (rx, ry))[cy - ry : cy + ry, cx - rx : cx + rx]
    return labels


@pytest.fixture
def videos(tmp_path, make_dataset):
    """`videos` of the examples: one of three frames, with a box in the first. Jobs read it without ffmpeg."""
    path, frames = tmp_path / "video.avi", 3
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5.0, SIZE)
    for _ in range(frames):
        writer.write(draw_scene(ELLIPSES)[..., ::-1])
    writer.release()
    made = make_dataset()
    sample = fo.Sample(filepath=str(path), metadata=fo.VideoMetadata(total_frame_count=frames))
    for number in range(1, frames + 1):
        sample.frames[number] = fo.Frame()
    sample.frames[1]["detections"] = detections(ellipse_box(*LEFT))
    made.add_sample(sample)
    return made


@pytest.fixture
def one_model(sam, monkeypatch):
    """The session's model wherever an example writes `SAM("mobile_sam.pt")`: one load for all pages."""

    def load(weights, *, device, verify):
        assert (weights, device) == ("mobile_sam.pt", None)
        return sam

    monkeypatch.setattr(sys.modules[mobilesam.SAM.__module__], "load_model", load)


@pytest.fixture
def one_export(onnx_pair, monkeypatch):
    """The session's exported pair where an example exports: the export itself takes half a minute."""

    def export(sam, format, *, folder):
        assert format == "onnx"
        copied = shutil.copytree(onnx_pair.encoder.parent, folder)
        return tuple(Path(copied) / path.name for path in onnx_pair)

    monkeypatch.setattr(mobilesam.export, "export", export)


@pytest.fixture
def one_training(dataset, one_model, monkeypatch):
    """In place of learning, which takes minutes: the masks are read, and weights that changed a little are written.

    `masks` are the true ones. A model that goes on with new weights is not the session's.
    """
    dataset.clone_sample_field("ground_truth", "masks")

    def learn(sam, annotated, out, *, failed, **options):
        assert sum(mask.any() for one in annotated for _, mask in one.objects) == 2, failed
        return Training(True, write_trained(sam, out), CARD, failed)

    for door in ("fiftyone_mobilesam.training.dataset.learn", "mobilesam.training.coco.train"):
        monkeypatch.setattr(door, learn)
    front = sys.modules[mobilesam.SAM.__module__]
    monkeypatch.setattr(front, "load_model", lambda weights, **_: build_sam_vit_t(weights))


@pytest.fixture
def session():
    """`session` of the examples: something with a view."""
    return SimpleNamespace(view=None)


@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_runs(page, files, dataset, one_model, request, tmp_path, monkeypatch):
    for package in NEEDED.get(str(page.relative_to(ROOT)), ()):
        pytest.importorskip(package)
    code = [block for block in blocks(page) if block.reason is None]
    if not any("order_by" in block.code for block in code):
        dataset.delete_samples(dataset.skip(1))  # one picture is enough
    namespace = {"__name__": "__main__", "dataset": dataset}
    for word, fixture in ASKED_FOR.items():
        if any(word in block.code for block in code):
            namespace[fixture] = request.getfixturevalue(fixture)
    folder = shutil.copytree(files, tmp_path / "here")
    monkeypatch.chdir(folder)
    for block in code:
        block.execute(namespace)
