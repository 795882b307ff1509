"""Masks beside COCO ground truth: `SAM.val` and `mobilesam validate`."""

import json
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam.errors import AnnotationError, ImageError, MobileSamError
from mobilesam.geometry import clip_region, rle
from mobilesam.geometry.masks import interior_point
from mobilesam.images import read_image
from mobilesam.packages import require
from mobilesam.predictor import SamPredictor
from mobilesam.prompts import Prompt
from mobilesam.quality.comparison import Comparison
from mobilesam.quality.metrics import boundary_iou, jittered, mask_iou, size_of

PROMPTS = ("box", "point", "jitter")

Case = tuple[dict, np.ndarray, Prompt]  # annotation, true mask, prompt


@dataclass
class Validation(Comparison):
    """What a validation found; its average precision is of masks scored by predicted IoU, under pycocotools' names.

    Attributes:
        prompts: "box", "point" or "jitter".
    """

    prompts: str = "box"

    @property
    def title(self) -> str:
        """What was compared."""
        return f"Prompts: {self.prompts}"

    def as_dict(self) -> dict[str, Any]:
        """Return all figures as plain data."""
        return {"prompts": self.prompts, **super().as_dict()}


def validate(
    predictor: SamPredictor,
    coco: str | Path,
    images: str | Path,
    *,
    prompts: str = "box",
    jitter: float = 0.1,
    clip: bool = True,
    quality: str = "fast",
    limit: int | None = None,
    seed: int = 0,
) -> Validation:
    """Prompt with what the ground truth knows, and compare the masks with it. Crowds are left out.

    Args:
        predictor: the model.
        coco: COCO instances file, polygons or run lengths.
        images: the folder of its images.
        prompts: "box" for the true boxes, "jitter" for boxes with each edge moved, "point" for the pixel farthest
            inside.
        jitter: how far edges move, as a share of the box's side.
        clip: cut masks at their box. Points have none.
        quality: "fast" or "best", as of `SamPredictor.predict_batch`.
        limit: use so many images at most.
        seed: of the jitter.

    Raises:
        ValueError: another `prompts`.
        AnnotationError: the file is not COCO's.
        ImageError: no image with objects was found.
        MissingPackageError: pycocotools is not installed.
    """
    if prompts not in PROMPTS:
        raise ValueError(f"prompts must be one of {', '.join(PROMPTS)}, got {prompts!r}.")
    report, detections, compared = Validation(prompts=prompts), [], []
    rng = np.random.default_rng(seed)
    truth = load_truth(coco, report.failed)
    for record, objects in with_objects(truth, limit):
        path = Path(images) / record["file_name"]
        try:
            image = read_image(path)
            predictor.set_image(image)
            original_hw = image.shape[:2]
            make = partial(_case, prompts=prompts, jitter=jitter, rng=rng)
            cases, failed = usable_cases(truth, objects, original_hw, make)
            report.failed += [(f"{path}, {name}", reason) for name, reason in failed]
            regions = [clip_region(prompt.box, clip, original_hw=original_hw) for _, _, prompt in cases]
            found = predictor.predict_batch([prompt for _, _, prompt in cases], regions=regions, quality=quality)
        except MobileSamError as error:
            report.failed.append((str(path), str(error)))
            continue
        for (annotation, true, _), [crop] in zip(cases, found, strict=True):
            mask = crop.full(original_hw)
            report.rows.append(
                {
                    "image": record["file_name"],
                    "category": truth.cats.get(annotation["category_id"], {}).get("name", "unknown category"),
                    "size": size_of(annotation.get("area", true.sum())),
                    "iou": mask_iou(mask, true),
                    "boundary_iou": boundary_iou(mask, true),
                    "predicted_iou": crop.iou_prediction,
                    "mask_quality": crop.mask_quality,
                }
            )
            detections.append(_detection(annotation, mask, crop.iou_prediction))
            compared.append(annotation)
    if not report.rows:
        raise ImageError(f"images must hold images of {coco} with objects, got {str(images)!r} with none.")
    report.ap = _average_precision(truth, detections, compared)
    return report


def load_truth(path: str | Path, failed: list[tuple[str, str]] | None = None) -> Any:
    """Read a COCO file as pycocotools does, or raise an `AnnotationError`.

    Records of images and annotations that cannot be used are left out; which and why is added to `failed`.
    """
    truth = require("pycocotools.coco").COCO()  # given a file it prints to stdout
    try:
        truth.dataset = json.loads(Path(path).read_text(encoding="utf-8"))
        truth.dataset["categories"]
        bad = _leave_out_bad_records(truth.dataset)
        with redirect_stdout(StringIO()):
            truth.createIndex()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AnnotationError(
            f"coco must be a COCO file with images, annotations and categories, got {str(path)!r}: {error!r}."
        ) from error
    if failed is not None:
        failed += [(f"{path}, {name}", reason) for name, reason in bad]
    return truth


def _leave_out_bad_records(data: dict[str, Any]) -> list[tuple[str, str]]:
    """Take records out that pycocotools would stumble over or pass by in silence; return which, and why."""
    bad, images, annotations = [], {}, []
    for number, row in enumerate(data["images"]):
        row = row if isinstance(row, dict) else {}
        if not isinstance(row.get("id"), (int, str)) or not isinstance(row.get("file_name"), str):
            bad.append((f"images[{number}]", "An image must have an id and a file_name, got none. Add them."))
        elif row["id"] in images:
            bad.append((f"images[{number}]", f"id must be one image's, got {row['id']} again. Give it its own."))
        else:
            images[row["id"]] = row
    for number, row in enumerate(data["annotations"]):
        row = row if isinstance(row, dict) else {}
        owner = row.get("image_id")
        if not isinstance(row.get("id"), (int, str)):
            bad.append((f"annotations[{number}]", "An annotation must have an id, got none. Give it one."))
        elif not isinstance(owner, (int, str)) or owner not in images:
            reason = f"image_id must be of an image in the file, got {owner!r}. Add it, or delete the annotation."
            bad.append((f"annotation {row['id']}", reason))
        else:
            annotations.append({"category_id": None, **row})
    data.update(images=list(images.values()), annotations=annotations)
    return bad


def with_objects(truth: Any, limit: int | None) -> Iterator[tuple[dict, list[dict]]]:
    """Yield the records of images with objects, and their annotations; crowds are left out."""
    records = (
        (record, [one for one in truth.imgToAnns[record["id"]] if not one.get("iscrowd")])
        for record in truth.dataset["images"]
    )
    return islice((pair for pair in records if pair[1]), limit)


def usable_cases(
    truth: Any, annotations: list[dict], original_hw: tuple[int, int], make: Callable[..., Case] | None = None
) -> tuple[list[Case], list[tuple[str, str]]]:
    """Return the annotations of an image that can be used, with their masks and their boxes as prompts.

    Also the others, and why not.
    """
    cases, failed = [], []
    for annotation in annotations:
        try:
            cases.append((make or _case)(annotation, truth, original_hw))
        except MobileSamError as error:
            failed.append((f"annotation {annotation['id']}", str(error)))
    return cases, failed


def _case(
    annotation: dict,
    truth: Any,
    original_hw: tuple[int, int],
    prompts: str = "box",
    jitter: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Case:
    """Return an annotation, its mask, and the prompt made from them, or raise why it cannot be used."""
    x, y, width, height = _bbox(annotation)
    try:
        true = truth.annToMask(annotation).astype(bool)
    except Exception as error:  # pycocotools raises what its C code meets
        raise AnnotationError(
            f"segmentation must be polygons or run lengths, got none that can be read: {error!r}. Draw it again."
        ) from error
    if true.shape != original_hw:
        (rows, columns), (height, width) = true.shape, original_hw
        raise AnnotationError(
            f"segmentation must be for an image of {width} x {height} pixels, as the file is once it is upright, got "
            f"one for {columns} x {rows}. Export the annotations again from the images as they are."
        )
    if not true.any():
        raise AnnotationError("segmentation must have a pixel, got none. Draw it again, or delete the annotation.")
    box = np.array([x, y, x + width, y + height], dtype=float)
    if prompts == "jitter":
        box = jittered(box, jitter, rng, original_hw)
    prompt = Prompt(point_coords=np.array([interior_point(true)])) if prompts == "point" else Prompt(box=box)
    prompt.check_inside(original_hw)
    return annotation, true, prompt


def _bbox(annotation: dict) -> list[float]:
    """Return [x, y, width, height] in pixels, or raise an `AnnotationError`."""
    try:
        x, y, width, height = map(float, annotation["bbox"])
        if width > 0 and height > 0:
            return [x, y, width, height]
    except (KeyError, TypeError, ValueError):
        pass
    raise AnnotationError(
        "bbox must be [x, y, width, height] in pixels, with a width and height above 0, got "
        f"{annotation.get('bbox')!r:.200}. Correct it, or delete the annotation."
    )


def _detection(annotation: dict, mask: np.ndarray, score: float) -> dict[str, Any]:
    keys = {key: annotation[key] for key in ("image_id", "category_id")}
    return keys | {"segmentation": rle.compress(rle.encode(mask)), "score": score}


def _average_precision(truth: Any, detections: list[dict], annotations: list[dict]) -> dict[str, float]:
    """Evaluate the detections against the annotations that were compared, and no others."""
    from pycocotools.cocoeval import COCOeval

    truth.dataset = {"info": {}, **truth.dataset, "annotations": annotations}
    with redirect_stdout(StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(detections), "segm")
        evaluation.params.imgIds = sorted({annotation["image_id"] for annotation in annotations})
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(("AP", "AP50", "AP75"), evaluation.stats[:3], strict=True)}
