"""What the demo runs on: photographs that scikit-image carries with prompts of ours, or your images and COCO file."""

import json
import tempfile
from pathlib import Path
from typing import Any

import fiftyone as fo
from fiftyone.utils.coco import COCODetectionDatasetImporter

NAME = "mobilesam-demo"
PROMPTS = Path(__file__).with_name("demo_prompts.json")
MADE_BY = "scripts/demo of mobilesam"
IMAGE_KEYS = ("id", "file_name", "width", "height")


class DemoError(Exception):
    """A wrong argument; the text is one line for the user."""


def photographs() -> Path:
    """Return the folder of the photographs in scikit-image's wheel."""
    import skimage.data

    return Path(skimage.data.__file__).parent


def load_coco(path: Path) -> dict[str, Any]:
    """Read a COCO file and check that it is one.

    Raises:
        DemoError: it cannot be read, or is something else.
    """
    try:
        coco = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DemoError(f"--boxes must be a COCO JSON file, got {path}: {error.strerror}.") from error
    except ValueError as error:
        raise DemoError(f"--boxes must be a COCO JSON file, got {path}, which is not JSON: {error}.") from error
    for key, wanted in (("images", IMAGE_KEYS), ("annotations", ("image_id",))):
        rows = coco.get(key) if isinstance(coco, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) and set(wanted) <= row.keys() for row in rows):
            raise DemoError(f'--boxes must be COCO JSON with a list "{key}" of {{{", ".join(wanted)}}}, got {path}.')
    return coco


def find_files(coco: dict[str, Any], folder: Path) -> dict[str, str]:
    """Return the file of each image of `coco` that is in `folder`, under its path in the file or under its bare name.

    Raises:
        DemoError: there is no such folder, or none of the images is in it.
    """
    if not folder.is_dir():
        raise DemoError(
            f"--images must be a folder, got {folder}, which is {'a file' if folder.exists() else 'not there'}."
        )
    files = {}
    for name in (image["file_name"] for image in coco["images"]):
        places = (folder / name, folder / Path(name).name)
        if place := next((place for place in places if place.is_file()), None):
            files[name] = str(place.resolve())
    if not files:
        wanted = f"It names, for example, {coco['images'][0]['file_name']}." if coco["images"] else "It names none."
        raise DemoError(f"--images must hold images that the COCO file names, got {folder} with none. {wanted}")
    return files


def select(coco: dict[str, Any], names: set[str], limit: int | None) -> dict[str, Any]:
    """Return a COCO dict of the images that are here; images with prompts first where a limit cuts.

    An annotation with a box and keypoints becomes two, so that each label has its own attributes only. Keypoints of
    which no point is marked, which COCO has many of, are no prompt and are left out.
    """
    annotations = [part for annotation in coco["annotations"] for part in _parts(annotation)]
    prompted = {annotation["image_id"] for annotation in annotations}
    images = [image for image in coco["images"] if image["file_name"] in names]
    images.sort(key=lambda image: image["id"] not in prompted)
    images = images[:limit]
    ids = {image["id"] for image in images}
    kept = [annotation for annotation in annotations if annotation["image_id"] in ids]
    if not kept:
        raise DemoError("The COCO file must have boxes or keypoints for these images, got none.")
    return {"images": images, "annotations": kept, "categories": coco.get("categories", [])}


def _parts(annotation: dict[str, Any]) -> list[dict[str, Any]]:
    rest = {key: value for key, value in annotation.items() if key not in ("segmentation", "bbox", "keypoints")}
    parts = []
    if annotation.get("bbox"):
        box_only = {key: value for key, value in rest.items() if key not in ("sam_labels", "num_keypoints")}
        parts.append({**box_only, "bbox": annotation["bbox"]})
    if any((annotation.get("keypoints") or [])[2::3]):
        parts.append({**rest, "keypoints": annotation["keypoints"]})
    return parts


def make_dataset(name: str, coco: dict[str, Any], files: dict[str, str]) -> fo.Dataset:
    """Make the persistent dataset, with fields `detections` and `keypoints` as far as there are any.

    Raises:
        DemoError: a dataset of that name exists that is not the demo's.
    """
    if name in fo.list_datasets():
        if name != NAME and fo.load_dataset(name).info.get("made_by") != MADE_BY:
            raise DemoError(f"--name must be new, got {name!r}, a dataset that the demo did not make. Choose another.")
        fo.delete_dataset(name)
    dataset = fo.Dataset(name, persistent=True)
    dataset.info["made_by"] = MADE_BY
    dataset.app_config.color_scheme = fo.ColorScheme(color_by="value")  # a colour an object, not one for all masks
    dataset.save()
    with tempfile.TemporaryDirectory() as folder:
        labels_path = Path(folder) / "labels.json"
        labels_path.write_text(json.dumps(coco), encoding="utf-8")
        importer = COCODetectionDatasetImporter(
            data_path=files, labels_path=str(labels_path), label_types=["detections", "keypoints"]
        )
        dataset.add_importer(importer, progress=False)
    return dataset
