"""The Python code of README and docs, run block by block in a folder that has what the examples name."""

import json
import shutil
from pathlib import Path

import cv2
import fiftyone as fo
import pytest
from doc_pages import PAGES, ROOT, blocks
from PIL import Image
from scenes import LEFT, RIGHT, SIZE, detections, draw_scene, ellipse_box, ellipse_mask, keypoints

import mobilesam.export
import mobilesam.model
from mobilesam import rle

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
ASKED_FOR = {"videos": "videos", "get_operator": "plugin", ".export(": "one_export"}
RUN = [page for page in PAGES if any(block.reason is None for block in blocks(page))]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files that the examples name."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "photos").mkdir()
    for name, (ellipses, size) in PICTURES.items():
        Image.fromarray(draw_scene(ellipses, size)).save(folder / name)
    images, annotations = [], []
    for name in ("left.png", "both.png"):
        images.append({"id": len(images) + 1, "file_name": name, "width": SIZE[0], "height": SIZE[1]})
        for ellipse in PICTURES[f"photos/{name}"][0]:
            annotations.append(annotation(len(annotations) + 1, len(images), ellipse))
    categories = [{"id": 1, "name": "ellipse"}]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(truth))
    boxes = [{name: row[name] for name in ("id", "image_id", "category_id", "bbox")} for row in annotations]
    (folder / "boxes.json").write_text(json.dumps({**truth, "annotations": boxes}))
    return folder


def annotation(number: int, image_id: int, ellipse) -> dict:
    (cx, cy), (rx, ry) = ellipse
    mask = ellipse_mask(*ellipse)
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "bbox": [cx - rx, cy - ry, 2 * rx, 2 * ry],
        "area": int(mask.sum()),
        "iscrowd": 0,
        "segmentation": rle.encode(mask),
    }


@pytest.fixture
def dataset(files, make_dataset):
    """`dataset` of the examples: two pictures with boxes, points and true masks, one after the other in a scene."""
    samples = []
    for number, name in enumerate(("photos/left.png", "photos/both.png")):
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
    """The session's model where an example loads the weights of the package: one load for all pages."""

    def load(weights="mobile_sam.pt", *, device=None, verify=True):
        assert (weights, device) == ("mobile_sam.pt", None)
        return sam

    monkeypatch.setattr(mobilesam, "load_model", load)
    monkeypatch.setattr(mobilesam.model, "load_model", load)


@pytest.fixture
def one_export(onnx_pair, monkeypatch):
    """The session's exported pair where an example exports: the export itself takes half a minute."""

    def export(sam, format, *, folder):
        assert format == "onnx"
        copied = shutil.copytree(onnx_pair.encoder.parent, folder)
        return tuple(Path(copied) / path.name for path in onnx_pair)

    monkeypatch.setattr(mobilesam.export, "export", export)


@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_runs(page, files, dataset, one_model, request, tmp_path, monkeypatch):
    for package in NEEDED.get(str(page.relative_to(ROOT)), ()):
        pytest.importorskip(package)
    code = [block for block in blocks(page) if block.reason is None]
    namespace = {"__name__": "__main__", "dataset": dataset}
    for word, fixture in ASKED_FOR.items():
        if any(word in block.code for block in code):
            namespace[fixture] = request.getfixturevalue(fixture)
    folder = shutil.copytree(files, tmp_path / "here")
    monkeypatch.chdir(folder)
    for block in code:
        block.execute(namespace)
