"""`fom.export_masks`: masks come back from pycocotools as they are, YOLO's loss is told, no label is dropped unsaid."""

import json
from pathlib import Path

import cv2
import fiftyone as fo
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from scenes import LEFT, detections, draw_scene, ellipse_box, full_mask, iou

import fiftyone_mobilesam as fom
from fiftyone_mobilesam import cli
from fiftyone_mobilesam.export.masks import attributes
from mobilesam import FieldError

HEIGHT, WIDTH = 240, 320


def label_of(mask, name="a", **attributes):
    """Return a label whose box is the whole image."""
    return fo.Detection(label=name, bounding_box=[0, 0, 1, 1], mask=mask, **attributes)


def shapes():
    """Return masks that are hard to write down, by name."""
    ring, two, pixel, line, comb = (np.zeros((HEIGHT, WIDTH), dtype=bool) for _ in range(5))
    ring[50:150, 60:200] = True
    ring[80:100, 90:150] = False
    two[10:40, 10:60] = two[100:200, 200:300] = True
    pixel[17, 319] = True
    line[30, 5:300] = True
    comb[20:200:2, 20:40] = comb[20:200, 20] = True
    return {"ring": ring, "two parts": two, "pixel": pixel, "line": line, "comb": comb}


@pytest.fixture
def dataset(make_dataset, tmp_path):
    """Return a dataset with masks in the database and on disk, three labels without a mask, and a folder."""
    Image.fromarray((shapes()["ring"] * 255).astype(np.uint8)).save(tmp_path / "ring.png")
    (tmp_path / "ünï").mkdir()
    Image.fromarray(draw_scene([LEFT])).save(tmp_path / "ünï" / "b.png")
    masks = [label_of(mask, name, predicted_iou=0.5, prompt_id=name) for name, mask in shapes().items()]
    others = [
        fo.Detection(label="ring", bounding_box=[0, 0, 1, 1], mask_path=str(tmp_path / "ring.png")),
        fo.Detection(label="a", bounding_box=[0.1, 0.1, 0.2, 0.2], failure="No pixel."),
        fo.Detection(label="a", bounding_box=[0, 0, 1, 1], mask_path=str(tmp_path / "missing.png")),
        label_of(np.zeros((HEIGHT, WIDTH), dtype=bool)),
        fo.Detection(bounding_box=[0.25, 0.25, 0.5, 0.5], mask=np.ones((7, 9), dtype=bool)),
    ]
    return make_dataset(
        {"masks": fo.Detections(detections=masks)},
        {"masks": fo.Detections(detections=others), "filepath": str(tmp_path / "ünï" / "b.png")},
        {"masks": None},
    )


def annotations_of(path):
    return json.loads(Path(path).read_text())["annotations"]


@pytest.mark.parametrize("kind", ["coco", "coco-polygons"])
def test_pycocotools_reads_the_same_masks(dataset, tmp_path, kind):
    report = fom.export_masks(dataset, "masks", tmp_path / "out.json", format=kind)
    assert (report.done, report.prompts, report.masks, report.failed_prompts, report.ok) == (3, 10, 7, 3, False)
    coco = COCO(str(tmp_path / "out.json"))
    made = list(coco.anns.values())
    assert [a["id"] for a in made] == list(range(1, 11))
    assert [a["label_id"] for a in made] == [
        d.id for sample in dataset if sample.masks for d in sample.masks.detections
    ]
    assert [coco.cats[a["category_id"]]["name"] for a in made[:2]] == ["ring", "two parts"]
    expected = [*shapes().values(), shapes()["ring"]]
    for annotation, mask in zip([*made[:6]], expected, strict=True):
        assert (coco.annToMask(annotation).astype(bool) == mask).all()
        assert annotation["area"] == mask.sum()
        assert annotation["failure"] is None
    stretched = coco.annToMask(made[9])
    assert stretched[60:180, 80:240].all()
    assert stretched.sum() == 120 * 160
    assert made[0]["predicted_iou"] == 0.5
    assert made[1]["bbox"] == [10, 10, 290, 190]
    assert made[6]["failure"] == "No pixel."
    assert made[6]["bbox"] == pytest.approx([32, 24, 64, 48])
    assert "missing.png" in made[7]["failure"]
    assert [f.prompt_id for f in report.failures] == [made[i]["label_id"] for i in (6, 7, 8)]
    if kind == "coco-polygons":
        loss = report.polygons
        assert (loss.masks_in, loss.masks_out, loss.holes, loss.largest_area_error) == (7, 7, 2, 0)
        assert loss.area_in == loss.area_out == sum(mask.sum() for mask in expected) + 120 * 160
    books = json.loads((tmp_path / "out.json.report.json").read_text())
    assert books == {**report.as_dict(), "ended": []}


def test_twice_gives_the_same_bytes(dataset, tmp_path):
    for name in ("a", "b"):
        fom.export_masks(dataset, "masks", tmp_path / f"{name}.json", format="coco-polygons")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_keys_have_an_order_that_no_process_changes():
    names = [f"attribute_{number}" for number in range(20)]
    kept = attributes(fo.Detection(label="a", bounding_box=[0, 0, 1, 1], **dict.fromkeys(names, 1)))
    assert [name for name in kept if name in names] == sorted(names)


def drawn(folder, image):
    """Draw a YOLO file as Ultralytics' loader does: class and mask a line."""
    for line in (folder / "labels" / image).with_suffix(".txt").read_text().splitlines():
        number, *values = line.split()
        points = np.array(values, dtype=np.float32).reshape(-1, 2) * (WIDTH, HEIGHT)
        canvas = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        cv2.fillPoly(canvas, [np.rint(points).astype(np.int32)], 1)
        yield int(number), canvas.astype(bool)


def test_yolo_joins_and_fills_and_says_so(dataset, tmp_path):
    fom.export_masks(dataset, "masks", tmp_path / "out", format="yolo")
    report = fom.export_masks(dataset, "masks", tmp_path / "out", format="yolo")  # replaces the first
    assert (report.prompts, report.masks, report.failed_prompts) == (10, 7, 3)
    files = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.txt"))
    assert len(files) == 3
    assert all(path.is_file() for path in (tmp_path / "out" / "images").rglob("*.png"))
    names = ["a", "comb", "line", "object", "pixel", "ring", "two parts"]
    card = (tmp_path / "out" / "data.yaml").read_text()
    assert card.endswith("names:\n" + "".join(f'  {i}: "{name}"\n' for i, name in enumerate(names)))
    first = Path(dataset.first().filepath)
    [image] = [path for path in (tmp_path / "out" / "images").rglob("*.png") if path.resolve() == first.resolve()]
    found = dict(drawn(tmp_path / "out", image.relative_to(tmp_path / "out" / "images")))
    filled = shapes()["ring"].copy()
    filled[80:100, 90:150] = True
    assert (found[names.index("ring")] == filled).all()
    for name in ("pixel", "line"):
        assert (found[names.index(name)] == shapes()[name]).all()
    assert iou(found[names.index("two parts")], shapes()["two parts"]) > 0.95
    loss = report.polygons
    assert (loss.masks_in, loss.masks_out, loss.parts, loss.holes) == (7, 7, 8, 2)
    assert loss.area_in == sum(mask.sum() for mask in shapes().values()) + shapes()["ring"].sum() + 120 * 160
    assert loss.area_out >= loss.area_in + 2 * 20 * 60
    assert loss.largest_area_error >= 20 * 60 / shapes()["ring"].sum()


def test_ultralytics_accepts_the_folder(dataset, tmp_path):
    pytest.importorskip("ultralytics", reason="the peer, ultralytics, is not installed")
    from ultralytics.data.utils import check_det_dataset, verify_image_label

    fom.export_masks(dataset, "masks", tmp_path / "out", format="yolo")
    card = check_det_dataset(str(tmp_path / "out" / "data.yaml"), autodownload=False)
    assert list(card["names"].values()) == ["a", "comb", "line", "object", "pixel", "ring", "two parts"]
    for text in (tmp_path / "out" / "labels").rglob("*.txt"):
        [image] = (tmp_path / "out" / "images" / text.relative_to(tmp_path / "out" / "labels").parent).glob(
            text.stem + ".*"
        )
        _, _, shape, segments, _, missing, _, _, corrupt, message = verify_image_label(
            (str(image), str(text), "", False, len(card["names"]), 0, 0, False)
        )
        assert (missing, corrupt, shape) == (0, 0, (HEIGHT, WIDTH)), message
        assert len(segments) == len(text.read_text().splitlines())


def test_fiftyone_imports_the_folder(dataset, tmp_path):
    fom.export_masks(dataset, "masks", tmp_path / "out", format="yolo")
    assert (tmp_path / "out" / "dataset.yaml").read_bytes() == (tmp_path / "out" / "data.yaml").read_bytes()
    where = {"dataset_dir": str(tmp_path / "out"), "dataset_type": fo.types.YOLOv5Dataset}
    imported = fo.Dataset.from_dir(**where, label_type="polylines", include_all_data=True)
    try:
        assert len(imported) == len(dataset)
        assert imported.count("ground_truth.polylines") == 7
        assert imported.default_classes == ["a", "comb", "line", "object", "pixel", "ring", "two parts"]
    finally:
        imported.delete()


def test_images_of_one_name_do_not_overwrite_each_other(make_dataset, tmp_path):
    samples = []
    for folder in ("x", "y"):
        for name in ("a.png", "a.jpg"):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(draw_scene([LEFT])).save(tmp_path / folder / name)
            masks = fo.Detections(detections=[label_of(shapes()["line"])])
            samples.append({"filepath": str(tmp_path / folder / name), "masks": masks})
    fom.export_masks(make_dataset(*samples), "masks", tmp_path / "out", format="yolo")
    written = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out" / "images").rglob("*.*"))
    assert written == ["images/x/a.png", "images/x/a_2.jpg", "images/y/a.png", "images/y/a_2.jpg"]
    assert len(list((tmp_path / "out" / "labels").rglob("*.txt"))) == 4


def test_an_image_that_is_gone_costs_its_labels_only(make_dataset, tmp_path):
    masks = fo.Detections(detections=[label_of(shapes()["line"])])
    dataset = make_dataset({"masks": masks, "filepath": str(tmp_path / "gone.png")}, {"masks": masks.copy()})
    for kind in ("coco", "yolo"):
        report = fom.export_masks(dataset, "masks", tmp_path / kind, format=kind)
        assert (report.prompts, report.masks) == (2, 1)
        assert "gone.png" in report.failures[0].reason
    assert [bool(a["failure"]) for a in annotations_of(tmp_path / "coco")] == [True, False]


def test_masks_of_a_run_come_out_as_fiftyone_paints_them(model, make_dataset, tmp_path):
    dataset = make_dataset({"boxes": detections(ellipse_box(*LEFT), [0.113, 0.207, 0.501, 0.333])})
    dataset.apply_model(model, label_field="masks", prompt_field="boxes")
    fom.export_masks(dataset, "masks", tmp_path / "out.json")
    coco = COCO(str(tmp_path / "out.json"))
    for annotation, label in zip(coco.anns.values(), dataset.first().masks.detections, strict=True):
        assert (coco.annToMask(annotation).astype(bool) == full_mask(label, size=(WIDTH, HEIGHT))).all()
        assert annotation["prompt_id"] == label["prompt_id"]


def test_wrong_calls_and_the_command(dataset, tmp_path, capsys):
    with pytest.raises(ValueError, match="format must be one of 'coco'"):
        fom.export_masks(dataset, "masks", tmp_path / "x", format="voc")
    with pytest.raises(FieldError, match="Fields that fit: masks"):
        fom.export_masks(dataset, "mask", tmp_path / "x")
    with pytest.raises(FileExistsError, match="earlier export"):
        fom.export_masks(dataset, "masks", tmp_path, format="yolo")
    with pytest.raises(NotADirectoryError, match="Make the folder"):
        fom.export_masks(dataset, "masks", tmp_path / "no" / "x")
    command = ["export", "--dataset", dataset.name, "--out", str(tmp_path / "out.json")]
    assert cli.main(command) == 1
    assert "coco: 7 masks in 3 images, 3 prompts without a mask" in capsys.readouterr().out


def test_coco_truth_through_yolo(coco50, make_dataset, tmp_path):
    """What YOLO's one outline loses of 470 masks that people drew."""
    coco = COCO(str(coco50 / "instances.json"))
    samples = []
    for image in coco.imgs.values():
        labels = []
        for annotation in coco.loadAnns(coco.getAnnIds(image["id"])):
            mask = coco.annToMask(annotation).astype(bool)
            labels.append(label_of(mask, coco.cats[annotation["category_id"]]["name"]))
        masks = fo.Detections(detections=labels)
        samples.append({"filepath": str(coco50 / "images" / image["file_name"]), "masks": masks})
    dataset = make_dataset(*samples)
    report = fom.export_masks(dataset, "masks", tmp_path / "yolo", format="yolo")
    print(report)
    assert report.prompts == len(coco.anns)
    assert report.polygons.masks_out == report.masks
    fom.export_masks(dataset, "masks", tmp_path / "out.json", format="coco-polygons")
    back = COCO(str(tmp_path / "out.json"))
    for annotation, truth in zip(back.anns.values(), coco.anns.values(), strict=True):
        assert (back.annToMask(annotation) == coco.annToMask(truth)).all()
