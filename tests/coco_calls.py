"""A small COCO file with its images, and `label_coco` on it."""

import json

from PIL import Image
from scenes import LEFT, RIGHT, draw_scene

from fiftyone_mobilesam import label_coco

ELLIPSES = (LEFT, RIGHT)
SIZE = (320, 240)


def coco_box(ellipse):
    (cx, cy), (rx, ry) = ellipse
    return [cx - rx, cy - ry, 2 * rx, 2 * ry]


def annotation(number, image_id, **keys):
    return {"id": number, "image_id": image_id, "category_id": 1, "score": 0.5, "note": "é", **keys}


def write(path, images, annotations, **keys):
    content = {"info": {"year": 2026}, "images": images, "annotations": annotations}
    path.write_text(json.dumps({**content, "categories": [{"id": 1, "name": "ellipse"}], **keys}))
    return path


def image(number, name, size=SIZE):
    return {"id": number, "file_name": name, "width": size[0], "height": size[1]}


def coco_folder(tmp_path):
    """Make a folder `images` with `a.png` and `b.png`, and `in.json` with two boxes in each."""
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        Image.fromarray(draw_scene(ELLIPSES)).save(tmp_path / "images" / f"{name}.png")
    boxes = [annotation(10 * i + j, i, bbox=coco_box(ELLIPSES[j])) for j in range(2) for i in (1, 2)]
    write(tmp_path / "in.json", [image(1, "a.png"), image(2, "b.png")], boxes)
    return tmp_path


def run(folder, name="out.json", **options):
    return label_coco(
        folder / "in.json", folder / "images", folder / name, progress=False, verify=False, device="cpu", **options
    )


def results(folder, name="out.json"):
    return json.loads((folder / name).read_text())


def change(folder, **keys):
    """Change the first annotation."""
    content = results(folder, "in.json")
    content["annotations"][0].update(keys)
    (folder / "in.json").write_text(json.dumps(content))
