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
    truth = load_truth(coco)
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


def load_truth(path: str | Path) -> Any:
    """Read a COCO file as pycocotools does, or raise an `AnnotationError`."""
    truth = require("pycocotools.coco").COCO()  # given a file it prints to stdout
    try:
        truth.dataset = json.loads(Path(path).read_text(encoding="utf-8"))
        truth.dataset["images"], truth.dataset["annotations"], truth.dataset["categories"]
        with redirect_stdout(StringIO()):
            truth.createIndex()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AnnotationError(
            f"coco must be a COCO file with images, annotations and categories, got {str(path)!r}: {error!r}."
        ) from error
    return truth


def with_objects(truth: Any, limit: int | None) -> Iterator[tuple[dict, list[dict]]]:
    """Yield the records of images with objects, and their annotations."""
    records = (
        (record, truth.loadAnns(truth.getAnnIds(record["id"], iscrowd=False)))
        for record in truth.loadImgs(truth.getImgIds())
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
    x, y, width, height = annotation.get("bbox") or (0, 0, 0, 0)
    try:
        true = truth.annToMask(annotation).astype(bool)
    except Exception as error:  # pycocotools raises what its C code meets
        raise AnnotationError(
            f"segmentation must be polygons or run lengths, got none that can be read: {error!r}."
        ) from error
    if true.shape != original_hw:
        raise AnnotationError(
            f"The annotation is for an image of {true.shape}, the file has {original_hw} once it is upright."
        )
    if not true.any() or width <= 0 or height <= 0:
        raise AnnotationError("The annotation must have a bbox and a mask with pixels, got an empty one.")
    box = np.array([x, y, x + width, y + height], dtype=float)
    if prompts == "jitter":
        box = jittered(box, jitter, rng, original_hw)
    prompt = Prompt(point_coords=np.array([interior_point(true)])) if prompts == "point" else Prompt(box=box)
    prompt.check_inside(original_hw)
    return annotation, true, prompt


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
